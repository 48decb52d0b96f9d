"""Broken and hostile files of every format: one clear line, soon, and in little memory."""

import io
import json
import os
import re
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from burnish.errors import InputError
from burnish.samples import Samples, from_uint8, to_uint8
from burnish.storage.formats import open_samples, write_samples

NHWC = np.zeros((4, 8, 8, 3), np.uint8)


def png(size=(8, 8), mode="RGB"):
    Image.new(mode, size).save(content := io.BytesIO(), "PNG")
    return content.getvalue()


def png_announcing(width, height):
    """A PNG whose header announces a size, and that holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    framed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def raw(name, content):
    def make(path):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
        return path / name

    return make


def tree(files):
    def make(path):
        for name, content in files.items():
            raw(f"set/{name}", content)(path)
        return path / "set"

    return make


def zipped(files, change=None, method=zipfile.ZIP_STORED):
    def make(path):
        with zipfile.ZipFile(path / "set.zip", "w", method) as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content, method)
        if change:
            content = bytearray((path / "set.zip").read_bytes())
            change(content)
            (path / "set.zip").write_bytes(content)
        return path / "set.zip"

    return make


def in_directory(position, form, value):
    """Change a field of the first entry of a zip's directory."""

    def change(content):
        struct.pack_into(form, content, content.index(b"PK\1\2") + position, value)

    return change


def in_end(position, form, value):
    """Change a field of the end of a zip's directory."""

    def change(content):
        struct.pack_into(form, content, content.rindex(b"PK\5\6") + position, value)

    return change


def edm(labels, **files):
    return zipped({"a.png": png(), "dataset.json": labels.encode(), **files})


def tarred(*members, end=None):
    def make(path):
        with tarfile.open(path / "set.tar", "w") as archive:
            for name, content in members:
                member = tarfile.TarInfo(name)
                if isinstance(content, bytes):
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
                else:
                    member.type, member.linkname = content.encode(), "elsewhere"
                    archive.addfile(member)
        if end:
            (path / "set.tar").write_bytes((path / "set.tar").read_bytes()[:end])
        return path / "set.tar"

    return make


def changed_tar(change):
    """A tar of three images, each with a header and a block of content, changed afterwards."""

    def make(path):
        tarred(*((f"{name}.png", png()) for name in "abc"))(path)
        content = bytearray((path / "set.tar").read_bytes())
        (path / "set.tar").write_bytes(change(content) or content)
        return path / "set.tar"

    return make


def over(position, new):
    def change(content):
        content[position : position + len(new)] = new

    return change


def tar_with_a_long_header(path):
    """A header that announces more than any memory holds, in a file that is mostly a hole."""
    header = tarfile.TarInfo("facts")
    header.type, header.size = tarfile.XHDTYPE, 2**36
    with (path / "set.tar").open("wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(2**36)
    return path / "set.tar"


def npy_bytes(array=None, header=b"", version=1):
    if array is not None:
        np.save(out := io.BytesIO(), array)
        return out.getvalue()
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header


def announcing(shape, dtype="|u1"):
    return npy_bytes(
        header=repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    )


def npz(content, method=zipfile.ZIP_STORED, labels=None, **others):
    def make(path):
        with zipfile.ZipFile(path / "set.npz", "w", method) as archive:
            archive.writestr("arr_0.npy", content)
            if labels:
                archive.writestr("arr_1.npy", labels)
            for name, array in others.items():
                archive.writestr(f"{name}.npy", npy_bytes(array))
        return path / "set.npz"

    return make


def saved(value, **options):
    def make(path):
        torch.save(value, path / "set.pt", **options)
        return path / "set.pt"

    return make


def arrow(state, change=None, **columns):
    def make(path):
        raw("set/state.json", json.dumps(state).encode())(path)
        raw("set/dataset_info.json", b"{}")(path)
        table = pa.table(columns)
        with pa.OSFile(str(path / "set/data.arrow"), "wb") as sink:
            with pa.ipc.new_stream(sink, table.schema) as out:
                out.write_table(table)
        if change:
            change(path / "set/data.arrow")
        return path / "set"

    return make


def cells(*contents):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": c, "path": None} for c in contents], kind)


def cut(file):
    file.write_bytes(file.read_bytes()[:-300])


def pipe(name):
    def make(path):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path / name)
        return path / name.split("/")[0]

    return make


def linked(name, to):
    def make(path):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).symlink_to(to)
        return path / name.split("/")[0]

    return make


def shards(*parts, pattern="*.npz"):
    def make(path):
        for number, (samples, classes) in enumerate(parts):
            suffix = pattern.rpartition(".")[2]
            write_samples(path / f"{number}.{suffix}", [samples], len(samples), classes=classes)
        return path / pattern

    return make


def blank(count=2, side=8, labels=None):
    return Samples(torch.zeros(count, 3, side, side), labels, torch.arange(count))


STATE = {"_data_files": [{"filename": "data.arrow"}]}
TOO_LARGE = png_announcing(100_000, 100_000)
FAULTS = {
    "pipe": (pipe("set.npz"), "device or a pipe"),
    "pipe of a pattern": (lambda p: pipe("set.tar")(p).with_name("s*.tar"), "device or a pipe"),
    "device": (linked("set.npz", "/dev/zero"), "device or a pipe"),
    "pipe in a folder": (pipe("set/a.png"), "no regular file"),
    "broken link": (linked("set/a.png", "nowhere"), "no regular file"),
    "one image": (raw("a.png", png()), "is one image; give its folder"),
    "image too large": (tree({"a.png": TOO_LARGE}), "not a readable image"),
    "image rather large": (tree({"a.png": png_announcing(9000, 9000)}), "at most 67108864 pixels"),
    "image in a zip": (zipped({"a.png": TOO_LARGE}), "not a readable image"),
    "braces": (lambda path: path / "{0..99999999999}.npz", "cannot count"),
    "braces back": (lambda path: path / "{5..2}.npz", "cannot count"),
    "shard missing": (
        lambda path: shards((blank(), None))(path).with_name("{0..1}.npz"), "1.npz: no such"
    ),
    "shards of sizes": (shards((blank(), None), (blank(side=9), None)), "keep one size"),
    "shards and labels": (
        shards((blank(), None), (blank(labels=torch.arange(2)), None)), "some have none (0.npz, 1"
    ),
    "shards of classes": (
        shards((blank(labels=torch.arange(2)), ["a", "b"]), (blank(labels=torch.arange(2)),
               ["b", "a"]), pattern="*.parquet"), "name their classes differently",
    ),
    "dataset.json": (tree({"a.png": png(), "dataset.json": b"[]"}), "is not one of EDM"),
    "dataset.json deep": (tree({"a.png": png(), "dataset.json": b"[" * 10**5}), "is not one of"),
    "no label": (tree({"a.png": png(), "dataset.json": b'{"labels": []}'}), "no label for a.png"),
    "label twice": (
        tree({"a.png": png(), "dataset.json": b'{"labels": [["a.png", 1], ["a.png", 2]]}'}),
        "dataset.json names an image twice",
    ),
    "zip ids twice": (
        zipped({"a.png": png(), "b.png": png(),
                "dataset.json": b'{"labels": null, "ids": [7, 7]}'}), "2 images have the id 7",
    ),
    "npz ids": (npz(npy_bytes(NHWC), ids=np.array([1, 5, 5, 2])), "2 images have the id 5"),
    "table ids": (arrow(STATE, image=cells(png(), png()), id=[5, 5]), "2 images have the id 5"),
    "tar ids": (
        tarred(("a.png", png()), ("b.png", png()), ("b.json", b'{"id": 0}')), "have the id 0"
    ),
    "zip no zip": (raw("set.zip", b"nonsense"), "broken or not a zip"),
    "zip empty": (zipped({}), "no images (.png"),
    "zip out": (zipped({"../a.png": png()}), "leads out of the zip"),
    "zip label": (edm('{"labels": [["a.png", 1.5]]}'), "the label 1.5 for a.png"),
    "zip label -1": (edm('{"labels": [["a.png", -1]]}'), "the label -1 for a.png"),
    "zip text label": (edm('{"labels": [["a.png", "x\\ny"]]}'), "the label 'x\\ny' for a.png"),
    "zip ids": (edm('{"labels": null, "ids": [1, 2]}'), "ids must be 1 integers"),
    "zip classes": (edm('{"labels": null, "classes": 3}'), "classes must be a list"),
    "zip size": (zipped({"a.png": png()}, in_directory(24, "<L", 2**31)), "larger than can be"),
    "zip sum": (zipped({"a.png": png()}, in_directory(16, "<L", 7)), "is damaged"),
    "zip encrypted": (zipped({"a.png": png()}, in_directory(8, "<H", 1)), "encrypted"),
    "zip packed": (zipped({"a.png": png()}, method=zipfile.ZIP_BZIP2), "not packed by deflate"),
    "zip count": (zipped({"a.png": png()}, in_end(10, "<H", 9999)), "directory does not fit"),
    "zip offset": (zipped({"a.png": png()}, in_end(16, "<L", 2**31)), "directory does not fit"),
    "zip entry": (zipped({"a.png": png()}, in_directory(0, "<L", 0)), "broken or not a zip"),
    "zip header": (zipped({"a.png": png()}, in_directory(42, "<L", 3)), "is damaged"),
    "zip lies": (
        zipped({"a.png": bytes(10**6)}, in_directory(24, "<L", 500), zipfile.ZIP_DEFLATED),
        "not the one announced",
    ),
    "zip sizes": (zipped({"a.png": png(), "b.png": png((9, 8))}), "b.png is 8x9"),
    "tar no tar": (raw("set.tar", b"nonsense" * 1000), "broken or not a tar"),
    "tar empty": (tarred(), "no images (.png"),
    "tar cut": (tarred(("a.png", png() + bytes(2000)), end=1100), "ends early"),
    "tar packed": (raw("set.tar", b"\x1f\x8b" + bytes(2000)), "broken or not a tar"),
    "tar long header": (tar_with_a_long_header, "a header of"),
    "tar out": (tarred(("../a.png", png())), "leads out of the tar"),
    "tar root": (tarred(("/etc/a.png", png())), "leads out of the tar"),
    "tar link": (tarred(("a.png", png()), ("b.png", "2")), "b.png is a link, a device"),
    "tar hard link": (tarred(("a.png", png()), ("a.cls", "1")), "a.cls is a link, a device"),
    "tar pipe": (tarred(("a.png", "6")), "a.png is a link, a device"),
    "tar link of text": (tarred(("a.txt", "2")), "no images"),
    "tar damaged header": (changed_tar(over(1024, b"\xff")), "no header at byte 1024"),
    "tar no header": (changed_tar(over(1024, bytes(512))), "no header at byte 1536"),
    "tar no last header": (changed_tar(over(2048, bytes(512))), "no header at byte 2560"),
    "tar of tars": (changed_tar(lambda c: c + c), "another tar follows at byte 10240; name"),
    "tar and more": (changed_tar(lambda c: c + b"x"), "no header at byte 10240"),
    "tar cut between": (changed_tar(lambda c: c[:2048]), "without the two empty blocks"),
    "tar cut in a header": (changed_tar(lambda c: c[:2148]), "no header at byte 2048"),
    "tar cut at the end": (changed_tar(lambda c: c[:3072]), "without the two empty blocks"),
    "tar half an end": (changed_tar(lambda c: c[:3584]), "without the two empty blocks"),
    "tar two": (tarred(("a.png", png()), ("a.jpg", png())), "two images of one key"),
    "tar label": (tarred(("a.png", png()), ("a.cls", b"cat")), "a.cls is not a number"),
    "tar json": (tarred(("a.png", png()), ("a.json", b"{")), "a.json is not JSON"),
    "tar json label": (tarred(("a.png", png()), ("a.json", b'{"label": "b"}')), "not an integer"),
    "tar wide label": (tarred(("a.png", png()), ("a.cls", b"9" * 3000)), "not an integer"),
    "tar long label": (tarred(("a.png", png()), ("a.cls", bytes(2**21))), "of 2097152 bytes"),
    "tar some labels": (
        tarred(("a.png", png()), ("b.png", png()), ("b.cls", b"1")), "a.png has no label"
    ),
    "tar no more labels": (
        tarred(("a.png", png()), ("a.cls", b"1"), ("b.png", png())), "b.png has no label"
    ),
    "npy pickles": (raw("set.npy", npy_bytes(np.array([{}] * 4))), "pickled Python objects"),
    "npy order": (raw("set.npy", npy_bytes(np.asfortranarray(NHWC))), "Fortran order"),
    "npy flat": (raw("set.npy", npy_bytes(NHWC.reshape(4, -1))), "is not [N, H, W, C]"),
    "npy either": (raw("set.npy", npy_bytes(NHWC[:, :3])), "[N, H, W, C] or [N, C, H, W]"),
    "npy channels": (raw("set.npy", npy_bytes(np.zeros((4, 8, 8, 4), "u1"))), "has 4 channels"),
    "npy short": (raw("set.npy", npy_bytes(NHWC)[:-1]), "ends before its last number"),
    "npy int64": (raw("set.npy", npy_bytes(NHWC.astype(int))), "is int64"),
    "npy no npy": (raw("set.npy", b"nonsense"), "no readable header"),
    "npy long header": (raw("set.npy", b"\x93NUMPY\2\0" + b"\xff" * 4), "a header of 4294967295"),
    "npy huge": (raw("set.npy", announcing((10**14, 8, 8, 3))), "ends before"),
    "npy negative": (raw("set.npy", announcing((-5, 8, 8, 3))), "holds no images"),
    "npy code": (raw("set.npy", npy_bytes(header=b"__import__('os').abort()")), "no readable"),
    "npz huge": (npz(announcing((10**14, 8, 8, 3))), "ends before its last number"),
    "npz huge labels": (
        npz(npy_bytes(NHWC), labels=announcing((10**14,), "<i8")), "ends before its last number"
    ),
    "npz large images": (npz(announcing((1, 10**5, 10**5, 3))), "ends before its last number"),
    "npz bzip2": (npz(npy_bytes(NHWC), zipfile.ZIP_BZIP2), "that numpy does not use"),
    "npz long header": (
        npz(npy_bytes(header=bytes(2**26), version=2), zipfile.ZIP_DEFLATED), "a header of 67"
    ),
    "pt code": (saved({"images": Path("a")}), ".pt of plain tensors: it holds other objects"),
    "pt model": (saved(torch.nn.Linear(2, 2)), "not a .pt of plain tensors"),
    "pt list": (saved([torch.zeros(2)]), "no tensor of images"),
    "pt int": (saved(torch.zeros(2, 3, 8, 8, dtype=torch.int64)), "is int64"),
    "pt bfloat16": (saved(torch.zeros(2, 3, 8, 8, dtype=torch.bfloat16)), "is torch.bfloat16"),
    "pt sparse": (saved(torch.zeros(2, 3, 8, 8).to_sparse()), "not a plain tensor"),
    "pt order": (saved(torch.zeros(2, 8, 8, 3).permute(0, 3, 1, 2)), "not contiguous"),
    "pt expanded": (saved(torch.zeros(1, 3, 8, 8).expand(10**9, 3, 8, 8)), "not contiguous"),
    "pt old": (saved(torch.zeros(2), _use_new_zipfile_serialization=False), "not a .pt of"),
    "pt labels": (
        saved({"images": torch.zeros(2, 3, 8, 8), "labels": torch.zeros(3)}), "is float32"
    ),
    "pt range": (saved(torch.full((2, 3, 8, 8), 2.0)), "must lie in [0, 1]"),
    "pt wide labels": (
        saved({"x": torch.zeros(1, 3, 8, 8), "y": torch.tensor([2**63], dtype=torch.uint64)}),
        "labels holds 9223372036854775808",
    ),
    "npy deep header": (raw("set.npy", npy_bytes(header=b"(" * 3000)), "no readable header"),
    "pt no pt": (raw("set.pt", b"nonsense"), "not a .pt of plain tensors"),
    "arrow missing": (
        arrow({"_data_files": [{"filename": "x.arrow"}]}, image=cells(png())), "x.arrow: missing"
    ),
    "arrow out": (
        arrow({"_data_files": [{"filename": "../x.arrow"}]}, image=cells(png())), "own folder"
    ),
    "arrow state": (arrow([], image=cells(png())), "does not list data files"),
    "arrow rows": (arrow({**STATE, "_indices_data_files": ["x"]}, image=cells(png())), "selected"),
    "arrow cut": (arrow(STATE, cut, image=cells(png() + bytes(900))), "broken or not an arrow"),
    "arrow columns": (arrow(STATE, photo=cells(png())), "columns are photo (struct"),
    "arrow bytes": (arrow(STATE, image=cells(png(), None)), "image 1 has no bytes"),
    "arrow label": (arrow(STATE, image=cells(png()), label=["cat"]), "column label holds string"),
    "arrow dictionary": (
        arrow(STATE, image=cells(png()), label=pa.array(["a"]).dictionary_encode()), "dictionary"
    ),
    "arrow no stream": (raw("set.arrow", b"ARROW1\0\0" + bytes(100)), "broken or not an arrow"),
    "saved splits": (
        tree({"dataset_dict.json": b"{}", "train/state.json": b"", "test/state.json": b""}),
        "holds the splits test, train",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_faulty_files(tmp_path, make, said):
    path = make(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=re.escape(said)) as caught:
            list(open_samples(path, 2))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(tmp_path) in str(caught.value) or "{" in path.name
    assert "\n" not in str(caught.value)
    assert " at 0x" not in str(caught.value) and len(str(caught.value)) < 500 + len(str(path))
    assert peak < 2**26


NAMES = {
    "long": "a" * 236 + ".png",
    "markup": "<script>alert(1)</script> & 'x' \"y\".png".replace("/", "_"),
    "spaces": " a  b .png",
    "two lines": "a\nb.png",
    "no UTF-8": os.fsdecode(b"\xff\xfe.png"),
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_odd_names_survive_or_are_refused(tmp_path, name):
    (tmp_path / "set").mkdir()
    image = torch.randint(256, (3, 8, 8), dtype=torch.uint8)
    samples = Samples(from_uint8(image)[None], torch.tensor([0]), torch.arange(1))
    (tmp_path / "set" / name).write_bytes(png())
    assert open_samples(tmp_path / "set").names == [name]
    for suffix in ("", ".parquet", ".tar", ".zip", ".npz"):
        path = tmp_path / f"out{suffix}"
        try:
            write_samples(path, [samples], 1, [name])
        except InputError as error:
            assert suffix == ".parquet" and "UTF-8" in str(error)
            assert not path.exists()
            continue
        file = open_samples(path)
        assert torch.equal(to_uint8(next(iter(file)).images[0]), image)
        assert file.names in ([name], ["00000/img00000000.png"], None)
    (tmp_path / "set" / name).write_bytes(b"nonsense")
    with pytest.raises(InputError) as caught:
        open_samples(tmp_path / "set")
    assert "\n" not in str(caught.value)


def test_ids_that_could_not_be_read_again_are_not_written(tmp_path):
    for suffix in ("", ".npz", ".parquet", ".tar", ".zip"):
        with pytest.raises(InputError, match="2 images have the id 0"):
            write_samples(tmp_path / f"set{suffix}", [blank(1), blank(1)], 2)
    assert os.listdir(tmp_path) == []


def test_names_that_are_too_long_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot be written \(File name too long\)"):
        write_samples(tmp_path / "set", [blank(1)], 1, ["a" * 300])
    assert os.listdir(tmp_path) == []
