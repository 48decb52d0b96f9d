"""Some images of a file or data set, drawn with a seed, in memory as uint8."""

from collections.abc import Iterator
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


def draw(source: str, max_images: int, seed: int, purpose: str) -> Drawn:
    """Draw images without replacement; they come in random order.

    Args:
        source: An ``.npz``, a ``.parquet``, a folder, some of their rows as ``PATH[0-9999]``, or
            the name of a data set.
        max_images: All images are taken if there are no more.
        seed: Seed of the draw.
        purpose: Draws for different purposes are independent.
    """
    rows = ROWS.fullmatch(source)
    name, span = (rows[1], rows[2]) if rows else (source, "")
    if name in NAMES and not Path(name).exists():
        data = load_dataset(name, span)
        places = _places(len(data), max_images, seed, purpose)
        images, labels = data.images_uint8[places], data.labels[places]
        return Drawn(images, labels, places, source, data.sha256())
    file = open_samples(name)
    part = parse_rows(span, len(file))
    places = part.start + _places(part.stop - part.start, max_images, seed, purpose)
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


def _places(count: int, max_images: int, seed: int, purpose: str) -> Tensor:
    if not count:
        raise InputError("there are no images to draw from")
    return torch.randperm(count, generator=stream(seed, purpose))[:max_images]
