"""Samples in one ``.npz``: ``arr_0`` uint8 ``[N, H, W, C]``, ``arr_1`` labels, ``ids`` if needed.

This is the layout of the evaluation suite of ADM (Dhariwal & Nichol 2021, "Diffusion Models Beat
GANs on Image Synthesis", https://github.com/openai/guided-diffusion/tree/main/evaluations), plus
``ids`` (int64 ``[N]``), which is written only if ids are not the places in the file. Members are
read and written as streams, so a file may be larger than memory. Nothing is unpickled.
"""

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.lib import format as npy
from torch import Tensor

from burnish.errors import InputError
from burnish.samples import Samples, to_uint8
from burnish.storage.arrays import (
    ArrayFile,
    Pixels,
    check_images,
    check_integers,
    opener,
    read_header,
    read_numbers,
    to_int64,
)
from burnish.storage.sample_file import printable

_BROKEN = (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError,
           struct.error)  # fmt: skip


class Reader(ArrayFile):
    """Samples of an ``.npz``; float images must lie in [0, 1] and are checked batch by batch."""

    def __init__(self, path: Path, batch_size: int) -> None:
        with _faults(path), zipfile.ZipFile(path) as archive:
            members = {name[:-4] for name in archive.namelist() if name.endswith(".npy")}
        if "arr_0" not in members:
            held = ", ".join(sorted(map(printable, members))[:10]) or "nothing"
            raise InputError(f"{path}: no arr_0 in it, only {held}; save the images as arr_0")
        with _open_array(path, "arr_0") as (_, shape, dtype, begin):
            check_images(path, "arr_0", shape, dtype)
        labels, ids = (
            _integers(path, name, shape[0]) if name in members else None
            for name in ("arr_1", "ids")
        )

        def open_first() -> IO[bytes]:
            # The stream of zipfile checks the sum at its end.
            return _open_array(path, "arr_0").stream

        num_bytes = math.prod(shape) * dtype.itemsize
        open_at = opener(path, begin, num_bytes) if begin else None
        super().__init__(
            path, batch_size, "arr_0", shape,
            lambda: Pixels(path, shape[1:], dtype, open_at, open_first),
            labels, ids,
        )  # fmt: skip

    def _images(self, places: Sequence[int]) -> Tensor:
        with _faults(self.path):
            return super()._images(places)


def write(
    target: Path, samples: Iterator[Samples], num_images: int, names: object, classes: object
) -> None:
    """Write samples batch by batch; equal samples give equal bytes, however they are batched.

    The format has no names and no classes, so they are ignored.
    """
    del names, classes
    # Filled in place: small tensors kept from every batch would fragment the memory.
    labels, ids = np.zeros((2, num_images), "<i8")
    place = 0
    first = next(samples)
    channels, height, width = first.images.shape[1:]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        with _member(archive, "arr_0", (num_images, height, width, channels), "|u1") as stream:
            for batch in chain([first], samples):
                pixels = to_uint8(batch.images).permute(0, 2, 3, 1).contiguous()
                stream.write(pixels.numpy().data)
                here = slice(place, place + len(batch))
                ids[here] = batch.ids.numpy()
                if batch.labels is not None:
                    labels[here] = batch.labels.numpy()
                place += len(batch)
        # A zip has one open member at a time, so these follow the last image.
        needed = first.labels is not None, not np.array_equal(ids, np.arange(num_images))
        for name, values, is_needed in zip(("arr_1", "ids"), (labels, ids), needed, strict=True):
            if is_needed:
                with _member(archive, name, (num_images,), "<i8") as stream:
                    stream.write(values.tobytes())


@contextmanager
def _member(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], descr: str
) -> Iterator[IO[bytes]]:
    """Begin an array in a zip that is being written; yield the stream for its numbers."""
    info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system = 3  # otherwise Windows and Unix write different bytes
    with archive.open(info, "w", force_zip64=True) as stream:
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(stream, header)
        yield stream


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """Turn what zip and its decompressors raise into an :class:`InputError`."""
    try:
        yield
    except _BROKEN as error:
        raise InputError(f"{path}: broken or not an .npz ({error}); write it again") from error


class _Array(NamedTuple):
    """An open array of a file; its numbers follow in ``stream``."""

    stream: IO[bytes]
    shape: list[int]
    dtype: np.dtype
    begin: int | None
    """Where in the file its numbers begin; None if it is compressed."""

    def __enter__(self) -> "_Array":
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()


def _open_array(path: Path, name: str) -> _Array:
    """Open an array; its size must be the one that its header announces."""
    with ExitStack() as stack, _faults(path):
        archive = stack.enter_context(zipfile.ZipFile(path))
        info = archive.getinfo(f"{name}.npy")
        if info.flag_bits & 1:
            raise zipfile.BadZipFile("encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise zipfile.BadZipFile("packed in a way that numpy does not use")
        # The member begins with a header of its own, which ends in a name and extra fields.
        with path.open("rb") as file:
            file.seek(info.header_offset + 26)
            begin = info.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
        stream = stack.enter_context(archive.open(info))
        shape, dtype = read_header(path, name, stream)
        begin, header = begin + stream.tell(), stream.tell()
        size = header + math.prod(shape) * dtype.itemsize
        # Deflate packs 1032 bytes into one at best.
        most = info.compress_size * (1 if info.compress_type == zipfile.ZIP_STORED else 1032)
        if min(info.file_size, most, path.stat().st_size * 1032) < size:
            raise EOFError(f"{name} ends before its last number")
        stack.pop_all()  # the stream keeps the archive's file open
    return _Array(
        stream, shape, dtype, begin if info.compress_type == zipfile.ZIP_STORED else None
    )


def _integers(path: Path, name: str, num_images: int) -> Tensor:
    """Read an array of one integer per image, int64 ``[N]``."""
    with _faults(path), _open_array(path, name) as (stream, shape, dtype, _):
        check_integers(path, name, shape, dtype, num_images)
        return to_int64(path, name, read_numbers(path, stream, shape, dtype))
