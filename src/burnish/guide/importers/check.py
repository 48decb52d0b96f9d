"""Whether an imported guide is as accurate as its authors say."""

import math
import re
from dataclasses import dataclass

import torch

from burnish.errors import InputError
from burnish.guide.importers.registry import SIZES
from burnish.guide.model import Guide
from burnish.samples import from_uint8
from burnish.storage.datasets import load_dataset

TOLERANCE = 0.002
_ROWS = re.compile(r"(.+)\[(\d+-\d+)\]")


@dataclass(frozen=True)
class Check:
    """The accuracy that was measured, and the one that was published, if any."""

    accuracy: float
    count: int
    published: float | None
    tolerance: float

    @property
    def fits(self) -> bool:
        """Whether both agree, or none was published."""
        return self.published is None or abs(self.accuracy - self.published) <= self.tolerance

    def __str__(self) -> str:
        found = f"accuracy {self.accuracy:.4f} on {self.count:,} images"
        if self.published is None:
            return f"{found}; no published one is known"
        said = "fits" if self.fits else "DOES NOT FIT"
        return f"{found}; {said} the published {self.published:.4f} (within {self.tolerance:.4f})"


@torch.no_grad()
def check_accuracy(guide: Guide, source: str, device: str = "cpu", batch_size: int = 250) -> Check:
    """Measure top-1 accuracy on labeled images and compare it with the published one.

    Both must agree within :data:`TOLERANCE`. Of fewer images than were published about, three
    standard errors sqrt(p (1 - p) / n) are added.

    Args:
        guide: The imported guide.
        source: A name (then its test split), a path, or some rows of one: ``PATH[0-999]``.
        device: Where to compute.
        batch_size: Images at a time.

    Raises:
        InputError: There are no such images, or the guide does not take them.
    """
    rows = _ROWS.fullmatch(source)
    data = load_dataset(*(rows.groups() if rows else (source,)), split="test")
    channels, found = guide.card["network"].get("in_channels"), data.images_uint8.shape[1]
    if channels is not None and found != channels:
        raise InputError(f"{source} has images of {found} channels, the guide takes {channels}")
    guide = guide.to(device)
    hits = classes = 0
    for images, labels in zip(
        data.images_uint8.split(batch_size), data.labels.split(batch_size), strict=True
    ):
        try:
            logits = guide(from_uint8(images).to(device))
        except RuntimeError as error:
            shape = list(images.shape[1:])
            raise InputError(
                f"the guide does not take images of shape {shape} of {source}"
            ) from error
        classes = logits.shape[1]
        hits += int((logits.argmax(1).cpu() == labels).sum())
    if data.num_classes > classes:
        raise InputError(
            f"{source} has {data.num_classes} classes, the guide {classes}; give others"
        )
    published = guide.card["origin"].get("accuracy")
    tolerance, count = TOLERANCE, len(data)
    if published is not None and count < SIZES.get(guide.card.get("data", ""), 0):
        tolerance += 3 * math.sqrt(published * (1 - published) / count)
    return Check(hits / count, count, published, tolerance)
