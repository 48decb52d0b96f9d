"""Labeled images that stay on disk; each is decoded when it is asked for."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from burnish.errors import InputError
from burnish.samples import Samples, from_uint8
from burnish.storage.center_crop import center_crop
from burnish.storage.datasets import NAMES, Dataset
from burnish.storage.image_file import different_size, opened
from burnish.storage.random_access import Part, open_parts
from burnish.storage.sample_file import MAX_PIXELS

HASHED = 1000  # images whose bytes are hashed
LOOKED_AT = 32  # images that tell gray from color
MEASURED = 4096  # images that moments and spectra are taken of


@dataclass(frozen=True)
class DiskDataset:
    """Images and labels on disk, with the methods of :class:`~burnish.storage.datasets.Dataset`.

    Args:
        parts: Where they are; all with labels.
        rows: int64 ``[N]``, which images of the parts, counted through.
        image_shape: ``(C, H, W)`` of what is read.
        size: Side to which :func:`~burnish.storage.center_crop.center_crop` brings them; 0 if
            all are of one size already.
        source: What they were opened from, rows included.
    """

    parts: Sequence[Part]
    rows: Tensor
    image_shape: tuple[int, int, int]
    size: int
    source: str

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(map(len, self.parts)))

    @cached_property
    def labels(self) -> Tensor:
        """The classes, int64 ``[N]``."""
        return torch.cat([one.labels for one in self.parts if one.labels is not None])[self.rows]

    @cached_property
    def num_classes(self) -> int:
        """Largest label plus one."""
        return int(self.labels.max()) + 1

    @property
    def pixel_mean(self) -> list[float]:
        """Mean of each channel over at most 4,096 images spread over all, in [0, 1]."""
        return self._few.pixel_mean

    @property
    def pixel_std(self) -> list[float]:
        """Standard deviation of each channel over the same images, in [0, 1] units."""
        return self._few.pixel_std

    @cached_property
    def _few(self) -> Dataset:
        return self.spread(MEASURED)

    def measured(self) -> Iterator[Tensor]:
        """Yield images ``[B, C, H, W]`` in [0, 1] that stand for all, 500 at once."""
        return self._few.measured()

    def spread(self, count: int) -> Dataset:
        """Return at most so many images in memory, evenly spread over the rows."""
        part = self[spread_rows(len(self), count)]
        pixels = [part._pixels(part.rows[i : i + 256]) for i in range(0, len(part), 256)]
        return Dataset(torch.cat(pixels), part.labels, self.source)

    def __getitem__(self, rows: slice | Tensor) -> "DiskDataset":
        """Return the data set of some rows, in their order; nothing is read."""
        return replace(self, rows=self.rows[rows])

    def samples(self, rows: slice | Tensor = slice(None)) -> Samples:
        """Return some rows as samples whose ids are their places in the data set.

        Raises:
            InputError: An image cannot be read.
        """
        ids = torch.arange(len(self))[rows]
        return Samples(from_uint8(self._pixels(self.rows[ids])), self.labels[ids], ids)

    def _pixels(self, places: Tensor) -> Tensor:
        channels, height, width = self.image_shape
        pixels = np.empty((len(places), height, width, channels), np.uint8)
        for row, place in enumerate(places.tolist()):
            pixels[row] = self._decode(place)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()

    def _decode(self, place: int) -> np.ndarray:
        part, own = self._place(place)
        name, source = part.read(own)
        if isinstance(source, Image.Image):
            return self._fitted(source, name)
        with opened(source, name) as image:
            return self._fitted(image, name)

    def _fitted(self, image: Image.Image, name: str) -> np.ndarray:
        channels, *sides = self.image_shape
        if image.width * image.height > MAX_PIXELS:
            raise InputError(f"{name} is {image.width}x{image.height}; that is too large")
        if channels == 1 and image.mode not in ("L", "1"):
            raise InputError(f"{name} has color, the first images are gray; make all of them RGB")
        mode = "L" if channels == 1 else "RGB"
        image = image if image.mode == mode else image.convert(mode)
        if self.size:
            try:
                image = center_crop(image, self.size)
            except InputError as error:
                raise InputError(f"{name}: {error}") from error
        elif [image.height, image.width] != sides:
            error = different_size(name, (3, image.height, image.width), self.image_shape)
            raise InputError(f"{error}, or set data: size")
        return np.asarray(image).reshape(*sides, channels)

    def _place(self, place: int) -> tuple[Part, int]:
        number = bisect_right(self._ends, place)
        return self.parts[number], place - (self._ends[number] - len(self.parts[number]))

    def sha256(self) -> str:
        """Return a hash of the labels, the rows, the size, and the bytes of 1,000 images."""
        digest = hashlib.sha256(f"{self.image_shape} {self.size}".encode())
        for numbers in (self.labels, self.rows):
            digest.update(numbers.numpy().tobytes())
        for place in self.rows[spread_rows(len(self), HASHED)].tolist():
            part, own = self._place(place)
            digest.update(hashlib.sha256(part.content(own)).digest())
        return digest.hexdigest()


def spread_rows(total: int, count: int) -> Tensor:
    """Return at most ``count`` of the numbers ``0 .. total - 1``, evenly spread."""
    count = min(total, count)
    return torch.arange(count) * total // count


def open_dataset(source: str, size: int = 0) -> DiskDataset:
    """Open labeled images without reading them.

    Args:
        source: An image folder, a ``.tar``, EDM's ``.zip``, a plain ``.npz``, parquet, arrow,
            ``hub:NAME``, or a pattern of such files.
        size: Side to bring them to; 0 for images of one size.

    Raises:
        InputError: There is nothing, single images cannot be read from it, or it has no labels.
    """
    if source in NAMES and not Path(source).exists():
        raise InputError(f"{source} fits in memory; set data: on_disk to false")
    parts = open_parts(source)
    if any(part.labels is None for part in parts):
        raise InputError(f"{source} has no labels; one per image is needed")
    total = sum(map(len, parts))
    found = DiskDataset(parts, torch.arange(total), (1, size, size), size, source)
    shapes = [_shape(found, place) for place in spread_rows(total, LOOKED_AT).tolist()]
    channels, sides = max(shape[0] for shape in shapes), shapes[0][1:]
    return replace(found, image_shape=(channels, *((size, size) if size else sides)))


def _shape(data: DiskDataset, place: int) -> tuple[int, int, int]:
    part, own = data._place(place)
    name, source = part.read(own)
    if isinstance(source, Image.Image):
        return 1 if source.mode == "L" else 3, source.height, source.width
    with opened(source, name) as image:
        return 1 if image.mode in ("L", "1") else 3, image.height, image.width
