"""Labeled real images by name or path, in memory as uint8, as training reads them."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.files import cache_folder
from burnish.samples import Samples, from_uint8, to_uint8
from burnish.storage.formats import open_samples

NAMES = ("cifar10", "digits", "fashion_mnist")


@dataclass(frozen=True)
class Dataset:
    """Images and labels in memory.

    Args:
        images_uint8: ``[N, C, H, W]`` uint8.
        labels: ``[N]`` int64, 0 .. num_classes - 1.
        source: What it was loaded from, rows included.
    """

    images_uint8: Tensor
    labels: Tensor
    source: str

    def __len__(self) -> int:
        return len(self.images_uint8)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of every image."""
        _, channels, height, width = self.images_uint8.shape
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """Largest label plus one."""
        return int(self.labels.max()) + 1

    @property
    def pixel_mean(self) -> list[float]:
        """Mean of each channel over the first 10,000 images, in [0, 1]."""
        return self._channels().mean(1).tolist()

    @property
    def pixel_std(self) -> list[float]:
        """Standard deviation of each channel over the first 10,000 images, in [0, 1] units."""
        return self._channels().std(1).tolist()

    def _channels(self) -> Tensor:
        return from_uint8(self.images_uint8[:10_000]).transpose(0, 1).flatten(1)

    def measured(self) -> Iterator[Tensor]:
        """Yield the images ``[B, C, H, W]`` in [0, 1], 500 at once."""
        return (from_uint8(part) for part in self.images_uint8.split(500))

    def __getitem__(self, rows: slice | Tensor) -> "Dataset":
        """Return the data set of some rows, in their order."""
        return Dataset(self.images_uint8[rows], self.labels[rows], self.source)

    def samples(self, rows: slice | Tensor = slice(None)) -> Samples:
        """Return some rows as samples whose ids are their places in the data set."""
        ids = torch.arange(len(self))[rows]
        return Samples(from_uint8(self.images_uint8[rows]), self.labels[rows], ids)

    def sha256(self) -> str:
        """Return a hash of the pixels and labels."""
        digest = hashlib.sha256(self.images_uint8.numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()


def parse_rows(text: str, count: int) -> slice:
    """Read ``"first-last"`` (both included) or ``""`` for all of ``count`` rows."""
    if not text:
        return slice(0, count)
    first, dash, last = text.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise InputError(f"cannot read the rows {text!r}; write e.g. 0-49999")
    if int(last) >= count:
        raise InputError(f"the rows {text} go past the end; there are {count} images")
    return slice(int(first), int(last) + 1)


def pick_rows(text: str, count: int) -> slice | Tensor:
    """Read rows as :func:`parse_rows` does, or ``"every K"``, or ``"not every K"``, the others.

    ``every K`` is rows 0, K, 2K, ...: of images that are sorted by class, some of each.
    """
    words = text.split()
    if words[-2:-1] != ["every"]:
        return parse_rows(text, count)
    if words[:-2] not in ([], ["not"]) or not words[-1].isdecimal() or int(words[-1]) < 2:
        raise InputError(f"cannot read the rows {text!r}; write every 100 or not every 100")
    step = int(words[-1])
    if step > count:
        raise InputError(f"the rows {text}: there are {count} images only")
    rows = torch.arange(count)
    return rows[rows % step != 0] if words[0] == "not" else rows[::step]


def load_dataset(
    source: str, rows: str = "", split: str = "train",
    label: Callable[[Tensor], Tensor] | None = None,
) -> Dataset:  # fmt: skip
    """Load labeled images.

    Args:
        source: A name (``digits``, ``fashion_mnist``, ``cifar10``; torchvision downloads the last
            two on first use) or the path of a file or folder of samples. A path wins over a name.
        rows: ``"first-last"``, both included; empty for all. Of a path, only images up to the last
            row are read.
        split: ``train`` or ``test``, for names that have them.
        label: Gives images ``[B, C, H, W]`` in [0, 1] from a file without labels their classes,
            ``[B]``; without it such a file is refused.
    """
    name = f"{source}[{rows}]" if rows else source
    if source in NAMES and not Path(source).exists():
        images, labels = _digits() if source == "digits" else _downloaded(source, split)
        part = parse_rows(rows, len(images))
        return Dataset(images[part], labels[part], name)
    file = open_samples(source)
    if file.labels is None and label is None:
        raise InputError(f"{source} has no labels; one per image is needed")
    part = parse_rows(rows, len(file))
    kept, labels, end = [], [], 0
    for batch in file:
        start, end = end, end + len(batch)
        if end > part.start:
            images = batch.images[max(part.start - start, 0) : part.stop - start]
            kept.append(to_uint8(images))
            if file.labels is None and label is not None:
                labels.append(label(images))
        if end >= part.stop:
            break
    given = torch.cat(labels) if file.labels is None else file.labels[part]
    return Dataset(torch.cat(kept), given, name)


def _downloaded(name: str, split: str) -> tuple[Tensor, Tensor]:
    from torchvision import datasets

    kind = {"fashion_mnist": datasets.FashionMNIST, "cifar10": datasets.CIFAR10}[name]
    try:
        found = kind(str(cache_folder()), train=split == "train", download=True)
    except (OSError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise InputError(
            f"{name} cannot be downloaded ({reason}); give the path of a copy instead"
        ) from error
    images = torch.as_tensor(found.data)
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
    return images, torch.as_tensor(found.targets, dtype=torch.int64)


def _digits() -> tuple[Tensor, Tensor]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError("digits come with scikit-learn; pip install scikit-learn") from error
    bunch: Any = load_digits()
    # Gray levels are 0 .. 16 in the source.
    images = (torch.from_numpy(bunch.images) * (255 / 16)).round().to(torch.uint8)
    return images[:, None], torch.from_numpy(bunch.target).to(torch.int64)
