"""Controls: cheap changes to images, which a refinement must beat to be worth anything.

* ``none``: nothing; images are read and written again, and must score the very same.
* ``blur``: a Gaussian blur.
* ``sharpen``: unsharp masking, x + amount (x - blur(x)).
* ``resample``: no pixel changes; images are dropped and repeated until the classes that a network
  predicts for them are equally frequent, as classes are in balanced reference sets.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from burnish.errors import InputError
from burnish.refine.labels import equal_quotas
from burnish.samples import Samples
from burnish.seeds import stream

__all__ = ["Control", "apply_control", "blur", "resample_counts", "sharpen"]


@dataclass(frozen=True)
class Control:
    """Which control, and how strong."""

    name: Literal["none", "blur", "sharpen", "resample"] = "none"
    sigma: float = 0.5
    """Of the Gaussian of blur and sharpen, in pixels."""
    amount: float = 0.5
    """Of sharpen."""

    def __post_init__(self) -> None:
        if not (0 <= self.sigma < math.inf and 0 <= self.amount < math.inf):
            raise InputError("sigma and amount must be finite numbers of at least 0")


def apply_control(
    batches: Iterable[Samples], control: Control, classes: Tensor | None = None
) -> Iterator[Samples]:
    """Yield the batches with a control applied; ids and labels go with their images.

    Args:
        batches: All images, in order.
        control: What to do.
        classes: ``[N]``, the predicted class of each image, for ``resample``.
    """
    counts = None if classes is None else resample_counts(classes)
    place = 0
    for batch in batches:
        if control.name == "blur":
            batch = batch.with_images(blur(batch.images, control.sigma))
        elif control.name == "sharpen":
            batch = batch.with_images(sharpen(batch.images, control.sigma, control.amount))
        elif control.name == "resample":
            assert counts is not None
            here = counts[place : place + len(batch)]
            place += len(batch)
            batch = batch[torch.repeat_interleave(torch.arange(len(batch)), here)]
        yield batch


def blur(images: Tensor, sigma: float) -> Tensor:
    """Blur images ``[B, C, H, W]`` by a Gaussian of ``sigma`` pixels; 0 changes nothing.

    The kernel ends at 3 sigma and sums to 1; at the border the outermost pixels are repeated.
    """
    if sigma == 0:
        return images
    radius = math.ceil(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(images)
    padded = pad(images.flatten(0, 1)[:, None], [radius] * 4, mode="replicate")
    blurred = conv2d(conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    return blurred.view_as(images).clamp(0, 1)


def sharpen(images: Tensor, sigma: float, amount: float) -> Tensor:
    """Return x + amount (x - blur(x)) of images ``[B, C, H, W]``, clamped to [0, 1]."""
    return (images + amount * (images - blur(images, sigma))).clamp(0, 1)


def resample_counts(classes: Tensor, seed: int = 0) -> Tensor:
    """Return how often to take each of N images so that N are taken, of each class as many.

    A class of n images with a quota of q gives each of them q // n times, and q % n of them, drawn
    at random, once more. Quotas differ by one at most; a class that no image has gets none.

    Args:
        classes: ``[N]`` int64.
        seed: Of the draw.
    """
    generator = stream(seed, "resample")
    counts = torch.zeros_like(classes)
    found = classes.unique()
    for one, quota in zip(found, equal_quotas(len(classes), len(found)).tolist(), strict=True):
        places = (classes == one).nonzero()[:, 0]
        shuffled = places[torch.randperm(len(places), generator=generator)]
        counts[places] = quota // len(places)
        counts[shuffled[: quota % len(places)]] += 1
    return counts
