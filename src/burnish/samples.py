"""Samples: a batch of images with labels and ids, and the conversion to and from uint8.

Images are float32 in [0, 1] everywhere. They become uint8 only in files and for feature
extractors, by rounding to the nearest of 256 levels; all levels survive a round trip.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from burnish.errors import InputError, shown

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class Samples:
    """A batch of images.

    Args:
        images: ``[B, C, H, W]`` float32 in [0, 1]; C is 1 (gray) or 3 (RGB).
        labels: ``[B]`` int64, the class of each image; None if unknown.
        ids: ``[B]`` int64, which identify the images of a job: seeds, or places in a file.

    Raises:
        InputError: The shapes disagree, or the images are not finite numbers in [0, 1].
    """

    images: Tensor
    labels: Tensor | None
    ids: Tensor

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if len(shape) != 4 or shape[1] not in (1, 3):
            raise InputError(f"images must be [B, C, H, W] with C of 1 or 3, not {list(shape)}")
        for name, values in (("labels", self.labels), ("ids", self.ids)):
            if values is not None and tuple(values.shape) != shape[:1]:
                raise InputError(f"{shape[0]} images but {name} of shape {list(values.shape)}")
        if not self.images.numel():
            return
        low, high = (value.item() for value in self.images.aminmax())  # NaN if one value is
        if not (math.isfinite(low) and math.isfinite(high)):
            raise InputError("the images contain NaN or infinite values")
        if low < 0 or high > 1:
            raise InputError(f"images must lie in [0, 1]; these span [{low:.3g}, {high:.3g}]")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice | Tensor) -> Samples:
        labels = None if self.labels is None else self.labels[index]
        return Samples(self.images[index], labels, self.ids[index])

    @classmethod
    def joined(cls, batches: Iterable[Samples]) -> Samples:
        """Return batches, at least one, as one."""
        parts = list(batches)
        labels = [part.labels for part in parts if part.labels is not None]
        return cls(
            torch.cat([part.images for part in parts]),
            torch.cat(labels) if labels else None,
            torch.cat([part.ids for part in parts]),
        )

    def with_images(self, images: Tensor) -> Samples:
        """Return samples with other images and the same labels and ids."""
        return replace(self, images=images)

    def to(self, device: torch.device | str) -> Samples:
        """Return the samples on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        return Samples(self.images.to(device), labels, self.ids.to(device))


def to_uint8(images: Tensor) -> Tensor:
    """Round images in [0, 1] to the nearest of 256 levels; uint8 of the same shape."""
    return (images * 255).round_().clamp_(0, 255).to(torch.uint8)


def from_uint8(images_uint8: Tensor) -> Tensor:
    """Return level / 255 as float32; :func:`to_uint8` restores the levels exactly."""
    return images_uint8.to(torch.float32) / 255


def whole_numbers(values: Any, name: str) -> Tensor:
    """Return labels, ids or seeds as int64; raise InputError if they are anything else."""
    try:
        found = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(f"{name} must be whole numbers, not {shown(values)}") from error
    if found.numel() and found.dtype not in _INTEGERS:
        raise InputError(f"{name} must be whole numbers, not {found.dtype}")
    return found.to(torch.int64)
