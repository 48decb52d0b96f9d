"""The few names that mean something in a checkpoint, and what is made for them.

This list is the gate. What is on it is made by our own code from plain values; nothing of the file
is called, and nothing is imported by a name that a file gives. What is not on it either belongs to
one of :data:`IGNORED`, things that training code leaves beside the weights (schedules, optimizers,
the modules of a network), and becomes an inert :class:`Stub`; or the file is refused, though it
could not have done harm: no checkpoint needs ``os.system``, and whoever gave it should be asked.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

from burnish.errors import InputError
from burnish.foreign.values import Array, Dtype, Name, Persistent, Storage, Stub, View, check_key

DTYPES = {
    f"torch.{one}": getattr(torch, one)
    for one in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8",
                "uint8", "bool", "complex64", "complex128")
}  # fmt: skip
STORAGES = {
    "Float": torch.float32, "Double": torch.float64, "Half": torch.float16,
    "BFloat16": torch.bfloat16, "Long": torch.int64, "Int": torch.int32, "Short": torch.int16,
    "Char": torch.int8, "Byte": torch.uint8, "Bool": torch.bool, "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}  # fmt: skip
STORAGES = {f"torch.{name}Storage": dtype for name, dtype in STORAGES.items()}
STORAGES |= {"torch.storage.UntypedStorage": torch.uint8, "torch.UntypedStorage": torch.uint8}

# A name, or all below a package where it ends in a dot.
IGNORED = (
    "dill._dill._create_function", "dill._dill._create_code", "dill._dill._create_cell",
    "dill._dill._create_type", "builtins.__main__", "builtins.setattr",
    "dill._dill", "__main__.",
    "torch_utils.", "dnnlib.", "training.", "torch.nn.", "torch.optim.",
    "torch.cuda.amp.", "torch.amp.", "apex.", "argparse.Namespace", "pathlib.PosixPath",
    "pathlib.WindowsPath", "pathlib.Path", "numpy.random.", "omegaconf.", "yacs.", "cox.",
    "robustness.", "timm.", "types.SimpleNamespace", "datetime.datetime", "datetime.timedelta",
    "torch.Tensor", "torch.Generator", "builtins.slice", "builtins.object", "numpy.ndarray",
    "numpy.float64", "numpy.float32", "numpy.int64", "uuid.UUID", "decimal.Decimal",
)  # fmt: skip

# Python 2 and older numpy called them so.
RENAMED = {"__builtin__.": "builtins.", "copy_reg.": "copyreg.", "numpy.core.": "numpy._core."}
# Made by dill and called by it, where it saves the code of a learning-rate schedule.
_DILL_CALLS = (
    *(
        f"dill._dill._load_type({one})"
        for one in ("bytes", "CodeType", "FunctionType", "CellType")
    ),
    "dill._dill._setattr",
)
MAX_COPIES = 10_000_000
ROOM = 8  # times its length: what tensors may view, those that share memory counted each


class Maker:
    """Makes values for names; counts what it copies.

    Args:
        load: Reads the file that the bytes of a storage are.
        length: Of the file.
    """

    def __init__(self, load: Callable[[bytes], Any], length: int) -> None:
        self.ignored: set[str] = set()
        self._load = load
        self._copied, self._room = 0, ROOM * length + 2**20
        self._makers: dict[str, Callable[..., Any]] = {
            "collections.OrderedDict": self._dict,
            "collections.Counter": self._dict,
            "collections.defaultdict": lambda *_: {},
            "dnnlib.util.EasyDict": self._dict,
            "builtins.dict": self._dict,
            "builtins.set": lambda items=(): self._copy(set, items),
            "builtins.frozenset": lambda items=(): self._copy(frozenset, items),
            "builtins.list": lambda items=(): self._copy(list, items),
            "builtins.tuple": lambda items=(): self._copy(tuple, items),
            "builtins.bytearray": self._bytearray,
            "builtins.complex": lambda real, imag=0: complex(float(real), float(imag)),
            "_codecs.encode": self._encode,
            "copyreg._reconstructor": self._reconstruct,
            "torch.Size": lambda items=(): self._copy(tuple, items),
            "torch.device": self._label,
            "torch.serialization._get_layout": self._label,
            "torch._utils._rebuild_tensor": self._view,
            "torch._utils._rebuild_tensor_v2": lambda *args: self._view(*args[:4]),
            "torch._utils._rebuild_tensor_v3": self._tensor_v3,
            "torch._utils._rebuild_parameter": lambda data, *_: self._tensor(data),
            "torch._utils._rebuild_parameter_with_state": lambda data, *_: self._tensor(data),
            "torch._tensor._rebuild_from_type_v2": self._of_type,
            "torch.storage._load_from_bytes": self._from_bytes,
            "numpy.dtype": Dtype.of,
            "numpy._core.multiarray._reconstruct": lambda *_: Array(),
            "numpy._core.multiarray.scalar": self._scalar,
            "numpy._core.numeric._frombuffer": self._from_buffer,
            "dill._dill._load_type": self._dill_type,
            "builtins.getattr": self._dill_setattr,
            "torch_utils.persistence._reconstruct_persistent_obj": self._persistent,
        }  # fmt: skip

    def name(self, module: Any, name: Any) -> Name:
        """Return a name that a file gives; raises InputError if no checkpoint needs it."""
        if not (isinstance(module, str) and isinstance(name, str)):
            raise InputError("a class that it names has no name")
        text = f"{module}.{name}"
        for old, new in RENAMED.items():
            text = new + text.removeprefix(old) if text.startswith(old) else text
        if text in self._makers or text in DTYPES or text in STORAGES:
            return Name(text)
        if len(text) > 200 or not text.replace(".", "").isidentifier():
            raise InputError("it names a class by what is no name; damaged, or not a checkpoint")
        # The globals of a function that dill saved.
        if name == "__dict__":
            return Name(text)
        if not any(text == one or (one[-1] == "." and text.startswith(one)) for one in IGNORED):
            raise InputError(
                f"it asks for {text}, which is not read from checkpoints (nothing of the file was "
                "run); get one that holds weights alone, as torch.save(model.state_dict()) writes"
            )
        return Name(text)

    def call(self, what: Any, args: Any) -> Any:
        """Return what calling a name with arguments would give, or an inert stand-in."""
        if not isinstance(what, Name):
            if isinstance(what, Stub) and what.name in _DILL_CALLS:
                return Stub(what.name)
            raise InputError("it calls what it has built itself, which no checkpoint needs")
        if type(args) is not tuple:
            raise InputError("it calls a function without arguments; damaged")
        maker = self._makers.get(what.text)
        return maker(*args) if maker else self.stub(what)

    def stub(self, what: Name) -> Stub:
        """Return an inert object of a class."""
        self.ignored.add(what.text)
        return Stub(what.text)

    def charge(self, count: int) -> None:
        """Count values that are copied within memory; raises InputError beyond a bound."""
        self._copied += count
        if self._copied > MAX_COPIES:
            raise InputError("it unpacks into far more than it holds; not read")

    def take(self, count: int) -> None:
        """Count bytes that are copied or viewed; raises InputError beyond a bound."""
        self._room -= count
        if self._room < 0:
            raise InputError("it unpacks into far more than it holds; not read")

    def _view(self, *args: Any) -> View:
        made = View(*args)
        self.take(math.prod(made.size) * made.storage.dtype.itemsize)
        return made

    def _label(self, *items: Any) -> str:
        if not all(type(one) in (str, int) for one in items):
            raise InputError("a device or layout in it has no name; damaged")
        return ":".join(map(str, items))[:40]

    def _copy(self, kind: Callable[[Any], Any], items: Any) -> Any:
        if type(items) not in (list, tuple, set, frozenset):
            raise InputError("what should be a list is not one; damaged")
        self.charge(len(items))
        if kind in (set, frozenset):
            for one in items:
                check_key(one)
        return kind(items)

    def _dict(self, pairs: Any = ()) -> dict[Any, Any]:
        if type(pairs) not in (list, tuple, dict):
            raise InputError("what should be a dictionary is not one; damaged")
        self.charge(len(pairs))
        made: dict[Any, Any] = {}
        for key, value in pairs.items() if isinstance(pairs, dict) else pairs:
            made[check_key(key)] = value
        return made

    def _encode(self, text: Any, coding: Any = "latin1", *_: Any) -> bytes:
        if not isinstance(text, str) or coding not in ("latin1", "latin-1", "utf-8", "ascii"):
            raise InputError("a text in it is encoded in an unknown way")
        self.take(len(text))
        return text.encode(coding)

    def _bytearray(self, values: Any = b"", *coding: Any) -> bytes:
        if isinstance(values, str):
            return self._encode(values, *coding)
        if type(values) not in (bytes, bytearray):
            raise InputError("what should be bytes is not; damaged")
        self.take(len(values))
        return bytes(values)

    def _reconstruct(self, what: Any, base: Any, state: Any) -> Any:
        if isinstance(base, Name) and base.text == "builtins.dict":
            return self._dict(state)
        return self.call(what, ())

    def _tensor(self, data: Any) -> View:
        if not isinstance(data, View):
            raise InputError("a parameter in it is no tensor; damaged")
        return data

    def _tensor_v3(self, *args: Any) -> View:
        storage, offset, size, stride, _, _, dtype, *_ = args
        kind = DTYPES.get(dtype.text) if isinstance(dtype, Name) else None
        if kind is None or not isinstance(storage, Storage) or storage.dtype != torch.uint8:
            raise InputError("a tensor in it is of a type that is not read")
        count = storage.count // kind.itemsize
        view = Storage(kind, count, storage.start // kind.itemsize, None, storage.root or storage)
        return self._view(view, offset, size, stride)

    def _of_type(self, function: Any, kind: Any, args: Any, *_: Any) -> View:
        del kind
        return self._tensor(self.call(function, args))

    def _from_bytes(self, content: Any) -> Any:
        if type(content) not in (bytes, bytearray):
            raise InputError("a storage in it holds no bytes; damaged")
        return self._load(bytes(content))

    def _scalar(self, dtype: Any, content: Any = b"") -> Any:
        if isinstance(content, str):
            content = self._encode(content)
        one = Array()
        one.fill(content, dtype, (), "C")
        return one.values.item() if one.values is not None else None

    def _from_buffer(self, raw: Any, dtype: Any, shape: Any, order: Any) -> Array:
        made = Array()
        made.fill(raw, dtype, shape, order)
        return made

    def _dill_type(self, name: Any) -> Stub:
        if not isinstance(name, str) or not name.isidentifier() or len(name) > 50:
            raise InputError("a type in it has no name")
        self.ignored.add("dill._dill._load_type")
        return Stub(f"dill._dill._load_type({name})")

    def _dill_setattr(self, of: Any, name: Any, *_: Any) -> Stub:
        if not isinstance(of, Name) or (of.text, name) != ("dill._dill", "_setattr"):
            raise InputError("it asks for builtins.getattr, which is not read from checkpoints")
        return self.stub(Name("dill._dill._setattr"))

    def _persistent(self, meta: Any) -> Persistent:
        if not isinstance(meta, dict) or not isinstance(meta.get("class_name"), str):
            raise InputError("an object in it is not as torch_utils.persistence writes it")
        return Persistent(meta["class_name"], meta.get("state"))
