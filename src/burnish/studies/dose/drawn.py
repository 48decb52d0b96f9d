"""Some images of a file or data set, drawn with a seed, in memory as uint8."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.files import path_sha256
from burnish.jobs.sides import ROWS
from burnish.samples import Samples, from_uint8, to_uint8
from burnish.seeds import stream
from burnish.storage.datasets import NAMES, load_dataset, parse_rows
from burnish.storage.formats import open_samples
from burnish.storage.sample_file import SampleFile

# Share of the generated images that may occur among the real ones, pixel by pixel.
MAX_OVERLAP = 0.01


@dataclass(frozen=True)
class Drawn:
    """Images ``[N, C, H, W]`` uint8, labels ``[N]`` or None, ids ``[N]``, and their source."""

    images_uint8: Tensor
    labels: Tensor | None
    ids: Tensor
    source: str
    sha256: str

    def __len__(self) -> int:
        return len(self.images_uint8)

    def __getitem__(self, rows: slice) -> "Drawn":
        labels = None if self.labels is None else self.labels[rows]
        images, ids = self.images_uint8[rows], self.ids[rows]
        return Drawn(images, labels, ids, self.source, self.sha256)

    def batches(self, size: int) -> Iterator[Samples]:
        """Yield the images in order, as floats in [0, 1]."""
        for start in range(0, len(self), size):
            part = self[start : start + size]
            yield Samples(from_uint8(part.images_uint8), part.labels, part.ids)


def check_two_sides(samples: str, generated: Tensor, real: str, given: Tensor) -> list[int]:
    """Refuse generated and real images that cannot be compared.

    Returns:
        Places of the generated images that are copies of real ones, pixel by pixel.

    Args:
        samples: What the generated images are called.
        generated: ``[N, C, H, W]`` uint8.
        real: What the real images are called.
        given: ``[M, C, H, W]`` uint8.

    Raises:
        InputError: They are of different shapes, or share more than :data:`MAX_OVERLAP` of images.
    """
    shapes = [list(images.shape[1:]) for images in (generated, given)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"{samples} has images of shape {shapes[0]}, {real} of {shapes[1]}; bring them to one "
            "size and number of channels"
        )
    known = {image.numpy().tobytes() for image in given}
    copies = [i for i, image in enumerate(generated) if image.numpy().tobytes() in known]
    share = len(copies) / len(generated)
    if share > MAX_OVERLAP:
        raise InputError(
            f"{share:.0%} of the images of {samples} are in {real}, pixel by pixel: these are not "
            "generated and real images; check the paths"
        )
    return copies


@dataclass(frozen=True)
class Opened:
    """Images that can be drawn from: their ids ``[N]``, and how to read some of them."""

    source: str
    ids: Tensor
    take: Callable[[Tensor], Drawn]
    """Reads the images at some places ``[M]`` among ``0 .. N-1``, in the given order."""


def open_drawn(source: str) -> Opened:
    """Open an ``.npz``, a ``.parquet``, a folder, ``PATH[0-9999]``, or a data set by name."""
    rows = ROWS.fullmatch(source)
    name, span = (rows[1], rows[2]) if rows else (source, "")
    if name in NAMES and not Path(name).exists():
        data = load_dataset(name, span)

        def pick(places: Tensor) -> Drawn:
            images, labels = data.images_uint8[places], data.labels[places]
            return Drawn(images, labels, places, source, data.sha256())

        return Opened(source, torch.arange(len(data)), pick)
    file = open_samples(name)
    part = parse_rows(span, len(file))
    return Opened(source, file.ids[part], lambda at: _read(source, name, file, part.start + at))


def draw(source: str, max_images: int, seed: int, purpose: str) -> Drawn:
    """Draw images without replacement; they come in random order.

    Args:
        source: As for :func:`open_drawn`.
        max_images: All images are taken if there are no more.
        seed: Seed of the draw.
        purpose: Draws for different purposes are independent.
    """
    opened = open_drawn(source)
    return opened.take(some_places(len(opened.ids), max_images, seed, purpose))


def _read(source: str, name: str, file: SampleFile, places: Tensor) -> Drawn:
    wanted, order = places.sort()
    found, end = [], 0
    for batch in file:
        start, end = end, end + len(batch)
        here = wanted[(wanted >= start) & (wanted < end)] - start
        found.append(to_uint8(batch.images[here]))
        if end > wanted[-1]:
            break
    images = torch.cat(found)[order.argsort()]
    labels = None if file.labels is None else file.labels[places]
    return Drawn(images, labels, file.ids[places], source, path_sha256(Path(name)))


def some_places(count: int, max_images: int, seed: int, purpose: str) -> Tensor:
    """Return different places among ``0 .. count-1`` in random order, at most ``max_images``."""
    if not count:
        raise InputError("there are no images to draw from")
    return torch.randperm(count, generator=stream(seed, purpose))[:max_images]
