"""Samples in one ``.npz``: ``arr_0`` uint8 ``[N, H, W, C]``, ``arr_1`` labels, ``ids`` if needed.

This is the layout of the evaluation suite of ADM (Dhariwal & Nichol 2021, "Diffusion Models Beat
GANs on Image Synthesis", https://github.com/openai/guided-diffusion/tree/main/evaluations), plus
``ids`` (int64 ``[N]``), which is written only if ids are not the places in the file. Members are
read and written as streams, so a file may be larger than memory. Nothing is unpickled.
"""

import lzma
import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import SEEK_CUR
from itertools import chain
from pathlib import Path
from struct import unpack
from typing import IO, NamedTuple

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from burnish.errors import InputError
from burnish.samples import Samples, from_uint8, to_uint8
from burnish.storage.sample_file import SampleFile
from burnish.storage.streams import Streams

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, EOFError, OSError)


class Reader(SampleFile):
    """Samples of an ``.npz``; float images must lie in [0, 1] and are checked batch by batch."""

    def __init__(self, path: Path, batch_size: int) -> None:
        with _faults(path), zipfile.ZipFile(path) as archive:
            members = {name[:-4] for name in archive.namelist() if name.endswith(".npy")}
        if "arr_0" not in members:
            held = ", ".join(sorted(members)) or "nothing"
            raise InputError(f"{path}: no arr_0 in it, only {held}; save the images as arr_0")
        stream, shape, dtype, _ = _open_array(path, "arr_0")
        stream.close()
        num_images, height, width, channels = _nhwc(path, shape, dtype)
        labels, ids = (
            _integers(path, name, num_images) if name in members else None
            for name in ("arr_1", "ids")
        )
        self._streams = Streams(lambda: _Pixels(path), num_images)
        super().__init__(path, batch_size, (channels, height, width), num_images, labels, ids)

    def _images(self, places: Sequence[int]) -> Tensor:
        if isinstance(places, range):
            with self._streams.at(places.start) as pixels:
                return _to_images(self.path, pixels.read(len(places)))
        images = torch.empty(len(places), *self.image_shape)
        for place in sorted(set(places)):
            with self._streams.at(place) as pixels:
                image = _to_images(self.path, pixels.read(1))
            for row in [row for row, wanted in enumerate(places) if wanted == place]:
                images[row] = image[0]
        return images


class _Pixels:
    """The images of ``arr_0``, in order.

    Python seeks in a zip by reading; in a member that is not compressed, this goes there at once.
    """

    def __init__(self, path: Path) -> None:
        self.place, self._path = 0, path
        self._stream, (self._num_images, *shape), self._dtype, self._info = _open_array(
            path, "arr_0"
        )
        self._shape = shape if len(shape) == 3 else [*shape, 1]
        self._size = math.prod(shape) * self._dtype.itemsize

    def read(self, count: int) -> np.ndarray:
        """Return the next images, ``[count, H, W, C]``."""
        shape = (count, *self._shape)
        numbers = _numbers(self._path, self._stream, shape, self._dtype)
        self.place += count
        return numbers

    def seek(self, place: int) -> None:
        """Go to an image."""
        if place == self.place:
            return
        if self._info.compress_type == zipfile.ZIP_STORED:
            self.close()
            self._stream = self._path.open("rb")
            # The member begins with a header of its own, which ends in a name and extra fields.
            self._stream.seek(self._info.header_offset + 26)
            begin = self._info.header_offset + 30 + sum(unpack("<HH", self._stream.read(4)))
            left = (self._num_images - place) * self._size
            self._stream.seek(begin + self._info.file_size - left)
        else:
            if place < self.place:
                self.close()
                self._stream, self.place = _open_array(self._path, "arr_0").stream, 0
            with _faults(self._path):
                self._stream.seek((place - self.place) * self._size, SEEK_CUR)
        self.place = place

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def write(
    target: Path, samples: Iterator[Samples], num_images: int, names: Sequence[str] | None = None
) -> None:
    """Write samples batch by batch; equal samples give equal bytes, however they are batched.

    The format has no names, so ``names`` are ignored.
    """
    del names
    # Filled in place: small tensors kept from every batch would fragment the memory.
    labels, ids = np.zeros((2, num_images), "<i8")
    place = 0
    first = next(samples)
    channels, height, width = first.images.shape[1:]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        with _member(archive, "arr_0", (num_images, height, width, channels), "|u1") as stream:
            for batch in chain([first], samples):
                pixels = to_uint8(batch.images).permute(0, 2, 3, 1).contiguous()
                stream.write(pixels.numpy().tobytes())
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
    shape: tuple[int, ...]
    dtype: np.dtype
    info: zipfile.ZipInfo


def _open_array(path: Path, name: str) -> _Array:
    with ExitStack() as stack:
        with _faults(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            if any(info.flag_bits & 1 for info in archive.infolist()):
                raise zipfile.BadZipFile("encrypted")
            info = archive.getinfo(f"{name}.npy")
            stream = stack.enter_context(archive.open(info))
            try:
                shape, fortran_order, dtype = _HEADERS[npy.read_magic(stream)](stream)
            except (ValueError, KeyError) as error:
                raise InputError(f"{path}: {name} has no readable header ({error})") from error
        if dtype.hasobject:
            raise InputError(f"{path}: {name} holds pickled Python objects; save numbers instead")
        if fortran_order:
            raise InputError(f"{path}: {name} is in Fortran order; save np.ascontiguousarray(x)")
        stack.pop_all()  # the stream keeps the archive's file open
    return _Array(stream, shape, dtype, info)


def _numbers(path: Path, stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Read the next numbers of an array as a writable array of this shape."""
    size = math.prod(shape) * dtype.itemsize
    with _faults(path):
        chunk = stream.read(size)
        if len(chunk) < size:
            raise EOFError("it ends before its last number")
    return np.frombuffer(bytearray(chunk), dtype).reshape(shape)


def _integers(path: Path, name: str, num_images: int) -> Tensor:
    """Read an array of one integer per image, int64 ``[N]``."""
    stream, shape, dtype, _ = _open_array(path, name)
    with stream:
        if dtype.kind not in "iu":
            raise InputError(f"{path}: {name} is {dtype}; it must hold integers")
        if shape != (num_images,):
            raise InputError(f"{path}: {num_images} images but {name} of shape {list(shape)}")
        return torch.from_numpy(_numbers(path, stream, shape, dtype).astype(np.int64))


def _nhwc(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> tuple[int, int, int, int]:
    """Return ``(N, H, W, C)`` of an array of images, or raise its fault."""
    said = f"{path}: arr_0 of shape {list(shape)}"
    if not (dtype == np.uint8 or (dtype.kind == "f" and dtype.itemsize in (4, 8))):
        raise InputError(f"{path}: arr_0 is {dtype}; save uint8, or float32 in [0, 1]")
    if len(shape) == 3:
        shape = (*shape, 1)
    if len(shape) != 4:
        raise InputError(f"{said} is not [N, H, W, C]")
    num_images, height, width, channels = shape
    if channels not in (1, 3):
        if height in (1, 3):
            raise InputError(f"{said} looks like [N, C, H, W]; save it as [N, H, W, C]")
        raise InputError(f"{said} has {channels} channels; gray has 1, RGB has 3")
    if 0 in shape:
        raise InputError(f"{said} holds no images")
    return num_images, height, width, channels


def _to_images(path: Path, pixels: np.ndarray) -> Tensor:
    """Turn ``[B, H, W, C]`` of a file into contiguous images ``[B, C, H, W]``."""
    if pixels.dtype == np.uint8:
        return from_uint8(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous())
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= 1):  # put so that NaN is refused as well
        raise InputError(
            f"{path}: arr_0 must lie in [0, 1] but spans [{low:.4g}, {high:.4g}]; "
            "save images of [-1, 1] as (x + 1) / 2, levels 0-255 as uint8"
        )
    return torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2).contiguous()
