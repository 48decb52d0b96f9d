"""What the formats of plain numbers share: arrays of pixels in files, read image by image."""

import math
import re
from collections.abc import Callable, Sequence
from io import SEEK_CUR, BytesIO
from pathlib import Path
from tokenize import TokenError
from typing import IO

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from burnish.errors import InputError
from burnish.samples import from_uint8
from burnish.storage.sample_file import SampleFile
from burnish.storage.streams import Streams

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}

# numpy takes the header apart as Python would.
_BROKEN_HEADER = (ValueError, KeyError, SyntaxError, RecursionError, MemoryError, TokenError)


class Pixels:
    """The images of an array in a file, in order.

    Args:
        path: The file, for messages.
        shape: Of one image.
        dtype: Of its numbers.
        open_at: Opens the file at a byte, counted from the first number.
        open_first: Opens it at the first number; given where this is another way (a stream that
            checks sums), or the only one (a compressed stream, ``open_at`` is None).
    """

    def __init__(
        self, path: Path, shape: Sequence[int], dtype: np.dtype,
        open_at: Callable[[int], IO[bytes]] | None,
        open_first: Callable[[], IO[bytes]] | None = None,
    ) -> None:  # fmt: skip
        self.place = 0
        self._path, self._shape, self._dtype = path, tuple(shape), dtype
        self._size = math.prod(shape) * dtype.itemsize
        self._open_at, self._open_first = open_at, open_first
        self._stream = self._first()

    def read(self, count: int) -> np.ndarray:
        """Return the next images, ``[count, *shape]``."""
        numbers = read_numbers(self._path, self._stream, (count, *self._shape), self._dtype)
        self.place += count
        return numbers

    def seek(self, place: int) -> None:
        """Go to an image; in a compressed stream, by unpacking what lies before it."""
        if place == self.place:
            return
        if self._open_at:
            self.close()
            self._stream = self._open_at(place * self._size)
        else:
            if place < self.place:
                self.close()
                self._stream, self.place = self._first(), 0
            self._stream.seek((place - self.place) * self._size, SEEK_CUR)
        self.place = place

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _first(self) -> IO[bytes]:
        if self._open_first:
            return self._open_first()
        assert self._open_at
        return self._open_at(0)


class ArrayFile(SampleFile):
    """Samples in an array of uint8, or of floats in [0, 1], which are checked batch by batch.

    Args:
        path: The file.
        batch_size: Images per batch while iterating.
        what: What the array is called in messages.
        shape: Of the array: ``[N, H, W, C]``, ``[N, H, W]`` or ``[N, C, H, W]``.
        open_pixels: Opens the numbers; None if a subclass has a ``_numbers`` of its own.
        labels: int64 ``[N]`` or None.
        ids: int64 ``[N]`` or None.
    """

    def __init__(
        self, path: Path, batch_size: int, what: str, shape: Sequence[int],
        open_pixels: Callable[[], Pixels] | None, labels: Tensor | None = None,
        ids: Tensor | None = None,
    ) -> None:  # fmt: skip
        self._what, self._channels_first = what, _channels_first(shape)
        if open_pixels:
            self._streams = Streams(open_pixels, shape[0])
        height, width, channels = shape[1:] if len(shape) == 4 else (*shape[1:], 1)
        image_shape = (channels, height, width)
        if self._channels_first:
            image_shape = (shape[1], shape[2], shape[3])
        super().__init__(path, batch_size, image_shape, shape[0], labels, ids)

    def _images(self, places: Sequence[int]) -> Tensor:
        if isinstance(places, range):
            return self._to_images(self._numbers(places))
        images = torch.empty(len(places), *self.image_shape)
        for place in sorted(set(places)):
            image = self._to_images(self._numbers(range(place, place + 1)))
            images[[row for row, wanted in enumerate(places) if wanted == place]] = image
        return images

    def _numbers(self, places: range) -> np.ndarray:
        """Return the images of consecutive places as they are in the file."""
        with self._streams.at(places.start) as pixels:
            return pixels.read(len(places))

    def _to_images(self, pixels: np.ndarray) -> Tensor:
        """Turn the numbers of a file into contiguous images ``[B, C, H, W]``."""
        if pixels.dtype != np.uint8:
            low, high = pixels.min(), pixels.max()
            if not (low >= 0 and high <= 1):  # put so that NaN is refused as well
                raise InputError(
                    f"{self.path}: {self._what} must lie in [0, 1] but spans "
                    f"[{low:.4g}, {high:.4g}]; "
                    "save images of [-1, 1] as (x + 1) / 2, levels 0-255 as uint8"
                )
            pixels = pixels.astype(np.float32)
        images = torch.from_numpy(pixels)
        if not self._channels_first:
            images = images.reshape(len(images), *self.image_shape[1:], -1).permute(0, 3, 1, 2)
        images = images.contiguous()
        return from_uint8(images) if images.dtype == torch.uint8 else images


def check_images(
    path: Path, what: str, shape: Sequence[int], dtype: np.dtype, channels_first: bool = False
) -> None:
    """Refuse an array that does not hold images.

    Args:
        path: The file.
        what: What the array is called in messages.
        shape: Its shape; ``[N, C, H, W]`` only if ``channels_first``.
        dtype: Its type.
        channels_first: Whether that order may be meant.
    """
    said = f"{path}: {what} of shape {list(shape)}"
    if not (dtype == np.uint8 or (dtype.kind == "f" and dtype.itemsize in (4, 8))):
        raise InputError(f"{path}: {what} is {dtype}; save uint8, or float32 in [0, 1]")
    if len(shape) not in (3, 4):
        raise InputError(f"{said} is not [N, H, W, C]")
    if min(shape) < 1:
        raise InputError(f"{said} holds no images")
    if len(shape) == 3:
        return
    last, second = shape[3] in (1, 3), shape[1] in (1, 3)
    if channels_first and last and second:
        raise InputError(f"{said} may be [N, H, W, C] or [N, C, H, W]; save it as .npz")
    if not last and not (channels_first and second):
        if second:
            raise InputError(f"{said} looks like [N, C, H, W]; save it as [N, H, W, C]")
        raise InputError(f"{said} has {shape[3]} channels; gray has 1, RGB has 3")


def read_header(path: Path, what: str, stream: IO[bytes]) -> tuple[list[int], np.dtype]:
    """Read the header of a ``.npy`` and return ``(shape, dtype)``; the numbers follow.

    Raises:
        InputError: It is damaged or too long, or announces pickles or Fortran order.
    """
    try:
        begin = stream.read(8)
        size = stream.read(2 if begin[6:7] == b"\1" else 4)
        if (length := int.from_bytes(size, "little")) > 10_000:
            raise ValueError(f"a header of {length} bytes")
        head = BytesIO(begin + size + stream.read(length))
        shape, fortran_order, dtype = _HEADERS[npy.read_magic(head)](head)
    except _BROKEN_HEADER as error:
        reason = re.sub(
            " at 0x[0-9a-f]+", "", (str(error) or type(error).__name__).splitlines()[0]
        )
        raise InputError(f"{path}: {what} has no readable header ({reason[:200]})") from error
    if dtype.hasobject:
        raise InputError(f"{path}: {what} holds pickled Python objects; save numbers instead")
    if fortran_order and len(shape) > 1:
        raise InputError(f"{path}: {what} is in Fortran order; save np.ascontiguousarray(x)")
    return list(shape), dtype


def opener(path: Path, begin: int, num_bytes: int) -> Callable[[int], IO[bytes]]:
    """Return what opens a file at a byte of the plain numbers that begin at ``begin``.

    Raises:
        InputError: The file is shorter than they are.
    """
    if path.stat().st_size < begin + num_bytes:
        raise InputError(f"{path}: it ends before its last number; write it again")

    def open_at(position: int) -> IO[bytes]:
        file = path.open("rb")
        file.seek(begin + position)
        return file

    return open_at


def read_numbers(
    path: Path, stream: IO[bytes], shape: Sequence[int], dtype: np.dtype
) -> np.ndarray:
    """Read the next numbers of an array as a writable array of this shape."""
    numbers = np.empty(math.prod(shape), dtype)
    view, done = memoryview(numbers.view(np.uint8).data), 0
    while done < len(view):
        count = stream.readinto(view[done:])  # pyright: ignore[reportAttributeAccessIssue]
        if not count:
            raise InputError(f"{path}: it ends before its last number; write it again")
        done += count
    return numbers.reshape(shape)


def check_integers(
    path: Path, what: str, shape: Sequence[int], dtype: np.dtype, num_images: int
) -> None:
    """Refuse an array that does not hold one integer per image."""
    if dtype.kind not in "iu":
        raise InputError(f"{path}: {what} is {dtype}; it must hold integers")
    if list(shape) != [num_images]:
        raise InputError(f"{path}: {num_images} images but {what} of shape {list(shape)}")


def to_int64(path: Path, what: str, numbers: np.ndarray) -> Tensor:
    """Return integers as int64; refuse what does not fit."""
    if numbers.dtype.kind == "u" and numbers.size and numbers.max() >= 2**63:
        raise InputError(f"{path}: {what} holds {numbers.max()}; at most {2**63 - 1} is read")
    return torch.from_numpy(numbers.astype(np.int64))


def _channels_first(shape: Sequence[int]) -> bool:
    return len(shape) == 4 and shape[3] not in (1, 3)
