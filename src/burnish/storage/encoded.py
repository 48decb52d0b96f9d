"""What the formats of encoded images share: reading them one by one, and packed in one file."""

from abc import abstractmethod
from array import array
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.samples import from_uint8
from burnish.storage.image_file import inspect, read_array
from burnish.storage.sample_file import IMAGE_SUFFIXES, MAX_PIXELS, SampleFile, printable

# An encoded image is hardly larger than its pixels.
MAX_BYTES = 4 * MAX_PIXELS


class EncodedFile(SampleFile):
    """Samples whose images are encoded (PNG, JPEG, ...), each on its own."""

    @abstractmethod
    def _encoded(self, places: Sequence[int]) -> Iterator[tuple[str, Path | BytesIO]]:
        """Yield the name, for messages, and the encoded image of each place."""

    def _images(self, places: Sequence[int]) -> Tensor:
        channels, height, width = self.image_shape
        pixels = np.empty((len(places), height, width, channels), np.uint8)
        for row, (name, source) in enumerate(self._encoded(places)):
            pixels[row] = read_array(source, name, self.image_shape)
        return from_uint8(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous())


class PackedFile(EncodedFile):
    """Samples whose encoded images lie in one file, at offsets that are known.

    Args:
        path: The file.
        batch_size: Images per batch while iterating.
        members: The names of the images in there.
        offsets: Where each begins.
        sizes: Its number of bytes.
        known: What else :class:`SampleFile` takes.
    """

    def __init__(
        self, path: Path, batch_size: int, members: list[str], offsets: "array[int]",
        sizes: "array[int]", **known: Any,
    ) -> None:  # fmt: skip
        self.path, self._members = path, members
        self._offsets, self._sizes = offsets, sizes
        if not members:
            kinds = ", ".join(IMAGE_SUFFIXES)
            raise InputError(f"{path}: no images ({kinds}) in it")
        for name, size in zip(members, sizes, strict=True):
            if size > MAX_BYTES:
                raise InputError(
                    f"{path}: {printable(name)} of {size} bytes; that is too much for an image"
                )
        name, first = next(self._encoded([0]))
        shape = inspect(first, name)
        super().__init__(path, batch_size, shape, len(members), **known)

    def _encoded(self, places: Sequence[int]) -> Iterator[tuple[str, BytesIO]]:
        with self.path.open("rb") as file:
            for place in places:
                name = f"{self.path}: {printable(self._members[place])}"
                file.seek(self._offsets[place])
                yield name, BytesIO(self._unpack(file, place, name))

    def _unpack(self, file: IO[bytes], place: int, name: str) -> bytes:
        """Return the bytes of an image; the file stands where it begins."""
        content = file.read(self._sizes[place])
        if len(content) < self._sizes[place]:
            raise InputError(f"{name} ends early; fetch the file again")
        return content
