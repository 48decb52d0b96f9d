"""Checkpoints as others write them, and as nobody should: good ones, and hostile ones."""

import io
import pickle
import struct
import sys
import tarfile
import types
import zipfile

import numpy as np
import torch
from torch import nn


class Touch:
    """What a planted pickle does: leaves a file."""

    def __init__(self, path, call="open"):
        self.path, self.call = str(path), call

    def __reduce__(self):
        import os

        return {
            "open": (open, (self.path, "w")),
            "system": (os.system, (f"touch {self.path}",)),
            "eval": (eval, (f"open({self.path!r}, 'w')",)),
            "exec": (exec, (f"open({self.path!r}, 'w')",)),
        }[self.call]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def edm_pickle(path, touched, protocol=4):
    """Write a network as torch_utils.persistence of NVIDIA does, its source code inside."""
    module = types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta):
        raise AssertionError(f"{meta} was unpickled")

    _reconstruct_persistent_obj.__module__ = module.__name__
    _reconstruct_persistent_obj.__qualname__ = _reconstruct_persistent_obj.__name__
    vars(module)["_reconstruct_persistent_obj"] = _reconstruct_persistent_obj
    source = f"open({str(touched)!r}, 'w')"

    class Persistent(nn.Module):
        def __reduce__(self):
            state = {key: value for key, value in self.__dict__.items() if key != "_kind"}
            meta = {"type": "class", "version": 6, "module_src": source,
                    "class_name": self._kind, "state": state}  # fmt: skip
            return _reconstruct_persistent_obj, (meta,), None

    class Layer(Persistent):
        _kind = "Conv2d"

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
            self.register_buffer("kernel", torch.randn(2, 2).half())

    class Net(Persistent):
        _kind = "SongUNet"

        def __init__(self):
            super().__init__()
            self._init_kwargs = {"img_resolution": 32, "sigma": np.float64(0.5)}
            self.enc = nn.ModuleDict({"32x32_conv": Layer(), "16x16_down": Layer()})

    torch.manual_seed(1)
    net = Net()
    before = {name: sys.modules.get(name) for name in ("torch_utils", module.__name__)}
    sys.modules["torch_utils"] = types.ModuleType("torch_utils")
    sys.modules[module.__name__] = module
    try:
        content = {"ema": net, "loss_fn": None, "dataset_kwargs": {"path": "a"}}
        path.write_bytes(pickle.dumps(content, protocol))
    finally:
        for name, value in before.items():
            sys.modules.pop(name)
            if value is not None:
                sys.modules[name] = value
    return net


def op(name, *args):
    return name + b"".join(args)


def glob(module, name):
    return f"c{module}\n{name}\n".encode()


def text(value):
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


REBUILD = glob("torch._utils", "_rebuild_tensor_v2")


def zipped(data, storage=b"\0" * 16, extra=(), folder="a", compression=zipfile.ZIP_STORED):
    """Return the bytes of a zip like torch's around a pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr(f"{folder}/data.pkl", data)
        archive.writestr(f"{folder}/data/0", storage)
        for name, content in extra:
            archive.writestr(f"{folder}/{name}", content)
    return stream.getvalue()


def tensor_of(size, stride, count=4, offset=0, kind="FloatStorage", key="0"):
    """Return a pickle of one tensor that claims a shape."""

    def numbers(values):
        return b"(" + b"".join(f"I{n}\n".encode() for n in values) + b"t"

    storage = b"(" + text("storage") + glob("torch", kind) + text(key) + text("cpu")
    storage += f"I{count}\n".encode() + b"tQ"
    args = b"(" + storage + f"I{offset}\n".encode() + numbers(size) + numbers(stride)
    return b"\x80\x02}" + text("w") + REBUILD + args + b"I00\n}tRs."


def legacy(data, keys=(), tail=b""):
    """Return the bytes of one of torch's older files around a pickle."""
    head = b"".join(pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, {}))
    return head + data + pickle.dumps(list(keys), 2) + tail


def bomb(levels=60, kind=b"\x86"):
    """Return nested pairs of the same: 2^levels items in a few bytes."""
    return b"\x80\x02]" + (b"q\x01h\x01" + kind) * levels + b"."


def lists(levels=60):
    return b"\x80\x02]" + b"q\x01]h\x01ah\x01a" * levels + b"."


def a_tar():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("sys_info"))
    return stream.getvalue()


def script():
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), stream)
    return stream.getvalue()


def deep(count=100_000):
    return b"\x80\x02" + b"]" * count + b"a" * (count - 1) + b"."


def huge_pickle():
    return zipped(b"\x80\x02" + b"0" * 2**27, compression=zipfile.ZIP_DEFLATED)


def saved(content, **options):
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


STATE = {"a.weight": torch.zeros(2, 2)}


def planted(touched):
    """Return checkpoints that would leave a file if they were unpickled."""

    def with_(call):
        return {**STATE, "x": Touch(touched, call)}

    code = f"open({str(touched)!r}, 'w')"
    compiled = glob("dill._dill", "_create_function") + b"(" + text(code) + b"}tR(tR."
    return {
        "a zip that opens": saved(with_("open")),
        "a zip that calls a shell": saved(with_("system")),
        "an older file that evaluates": saved(with_("eval"), _use_new_zipfile_serialization=False),
        "a pickle that executes": pickle.dumps(with_("exec"), 4),
        "a pickle of protocol 0": pickle.dumps(with_("system"), 0),
        "an instance": b"(" + text(code) + b"i__builtin__\neval\n.",
        "an object": b"(" + glob("builtins", "exec") + text(code) + b"o.",
        "a method": b"\x80\x04" + text("posix") + text("system") + b"\x93" + text("x") + b"\x85R.",
        "a dotted name": b"\x80\x04" + text("torch") + text("serialization.os.system") + b"\x93.",
        "a name below torch": glob("torch.hub", "load") + b"(" + text(code) + b"tR.",
        "runpy": glob("runpy", "_run_code") + b"(" + text(code) + b"}tR.",
        "getattr": glob("builtins", "getattr") + b"(" + text(code) + b"}tR.",
        "a function of dill": compiled,
        "a file of dill": glob("dill._dill", "_create_filehandle") + b"(" + text(code) + b"tR.",
        "a type of dill": glob("dill._dill", "_load_type") + text("FileType") + b"\x85R("
        + text(str(touched)) + text("w") + b"tR.",
        "nested in a storage": glob("torch.storage", "_load_from_bytes")
        + b"(" + glob("_codecs", "encode") + b"("
        + text(pickle.dumps(with_("system"), 2).decode("latin1")) + text("latin1") + b"tRtR.",
        "state of a class": glob("torch.nn.modules.linear", "Linear") + b")\x81"
        + pickle.dumps(with_("system"), 2)[2:-1] + b"b.",
    }  # fmt: skip


def amplified():
    """Return files of a few kB that ask for far more memory or time than they hold."""
    dag = b"\x80\x02]" + b"q\x01]h\x01ah\x01a" * 60 + b"q\x02"
    long = b"\x80\x02](" + text("x" * 10**6) + b"q\x010"
    encode = glob("_codecs", "encode") + b"h\1\x85R"
    array = glob("numpy.core.multiarray", "_reconstruct") + b")R(K\1(J" + struct.pack("<i", 10**6)
    array += b"t" + glob("numpy", "dtype") + text("u1") + b"\x85R\x89h\1tb"
    collide = b"".join(pickle.dumps(k * (2**61 - 1), 2)[2:-1] + b"N" for k in range(1, 50_000))
    inside = b"".join(pickle.dumps((0.5, k), 2)[2:-1] + b"N" for k in range(9))
    view = tensor_of([10**5], [1], count=10**5)[3:-2]  # name, then tensor
    views = b"".join(text(f"{n}") + view.removeprefix(text("w")) for n in range(100))
    place = (
        b"(" + text("storage") + glob("torch", "FloatStorage") + b"h\2" + text("cpu") + b"K\4tQ"
    )
    return {
        "a device with a long name": dag + glob("torch", "device") + b"h\2\x85R.",
        "a layout with a long name": dag
        + glob("torch.serialization", "_get_layout") + b"h\2\x85R.",
        "a storage with a long name": zipped(dag + place + b"."),
        "an older storage with a long name": legacy(
            dag + place.replace(b"K\4tQ", b"K\4NtQ") + b"."),
        "a text that is encoded often": long + encode * 400 + b"e.",
        "an array that is decoded often": long + array * 400 + b"e.",
        "keys with one hash": b"\x80\x02}(" + collide + b"u.",
        "keys that can be given one hash": b"\x80\x02}(" + inside + b"u.",
        "views of one storage": zipped(b"\x80\x02}(" + views + b"u.", bytes(4 * 10**5)),
    }  # fmt: skip


def hostile():
    """Return damaged files, and such that would take memory or time without bound."""
    good = saved(STATE)
    old = saved(STATE, _use_new_zipfile_serialization=False)
    far = tensor_of([2, 2], [10**9, 1])
    long_put = b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b"."
    twice = b"\x80\x02]" + b"q\x01" + b"h\x01" * 10
    return {
        "empty": b"", "text": b"hello\n", "zeros": bytes(1000), "a picture": b"\x89PNG\r\n\x1a\n",
        "half a zip": good[: len(good) // 2], "a zip without its end": good[:-30],
        "half an older file": old[: len(old) // 2], "an older file cut short": old[:-4],
        "a zip of others": zipped(b"", folder="x").replace(b"data.pkl", b"date.pkl"),
        "TorchScript": script(), "a tar": a_tar(), "a zip with code": zipped(
            tensor_of([4], [1]), extra=[("code/__torch__.py", b"x")]),
        "a compressed zip": zipped(tensor_of([4], [1]), compression=zipfile.ZIP_DEFLATED),
        "a zip bomb": huge_pickle(),
        "a size beyond its storage": zipped(tensor_of([10**9], [1])),
        "a stride beyond its storage": zipped(far),
        "an offset beyond its storage": zipped(tensor_of([2], [1], offset=3)),
        "an expanded tensor": zipped(tensor_of([10**9], [0])),
        "a negative stride": zipped(tensor_of([2], [-1])),
        "a negative size": zipped(tensor_of([-2], [1])),
        "a storage longer than announced": zipped(tensor_of([4], [1]), bytes(32)),
        "a storage of 4 TB": zipped(tensor_of([4], [1], count=2**40)),
        "a storage that is missing": zipped(tensor_of([4], [1], key="1")),
        "a storage of a class": zipped(tensor_of([4], [1], kind="nn.Linear")),
        "an older file that announces 4 TB": legacy(
            tensor_of([4], [1], count=2**40).replace(b"tQ", b"NtQ"), ["0"],
            struct.pack("<q", 2**40)),
        "big-endian": zipped(tensor_of([4], [1]), extra=[("byteorder", b"big")]),
        "an extension": b"\x80\x02\x82\x01.", "a long extension": b"\x80\x02\x84\1\0\0\0.",
        "a text of 4 GB": b"\x80\x04\x8d" + struct.pack("<Q", 2**32) + b"a.",
        "bytes of 2^62": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a.",
        "a long integer": b"\x80\x02\x8b" + struct.pack("<i", 10**6) + b"\1" * 10**6 + b".",
        "an integer of many digits": b"I" + b"9" * 10**6 + b"\n.",
        "a far place in the memo": long_put,
        "nested pairs": bomb(), "nested lists": lists(), "a deep list": deep(),
        "itself": b"\x80\x02]q\1h\1a.", "a deep key": b"\x80\x02})" + b"\x85" * 10**5 + b"Ns.",
        "an unhashable key": b"\x80\x02}]Ns.", "no stack": b"\x80\x02\x85.",
        "no end": b"\x80\x02N",
        "protocol 9": b"\x80\x09N.", "an unknown opcode": b"\x80\x02\xff.",
        "a missing mark": b"\x80\x02t.", "many opcodes": b"\x80\x02" + b"N0" * 2_000_000 + b"N.",
        "copies of a list": b"\x80\x02](" + b"K\1" * 300_000 + b"eq\1" + (
            glob("builtins", "list") + b"h\1\x85R0") * 100 + b"N.",
        **amplified(),
        "no state dict": saved([1, 2, 3]), "a tensor": saved(torch.zeros(3)),
        "a whole module": saved(network()), "an index": saved({"epoch": 3}),
        "references": twice + b".",
    }  # fmt: skip
