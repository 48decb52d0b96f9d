"""Baselines: cheap changes to images that a refinement must beat.

* ``none``: nothing. Images are read and written again and must get the same scores.
* ``blur``, ``sharpen``: a Gaussian blur, and unsharp masking.
* ``resample``: no pixel changes. Images are dropped and repeated until the classes that a network
  predicts for them are equally frequent, as classes are in balanced reference sets.
"""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from burnish.refinement.labels import equal_quotas
from burnish.samples import Samples
from burnish.seeds import stream
from burnish.studies.tables import Baseline


def apply_baseline(
    batches: Iterable[Samples], baseline: Baseline, classes: Tensor | None = None
) -> Iterator[Samples]:
    """Yield all batches, in order, with a baseline applied; ids and labels stay with their images.

    ``resample`` needs ``classes [N]`` int64, the predicted class of each image.
    """
    counts = torch.empty(0) if classes is None else resample_counts(classes)
    start = 0
    for batch in batches:
        if baseline.name == "blur":
            batch = batch.with_images(blur(batch.images, baseline.sigma))
        elif baseline.name == "sharpen":
            batch = batch.with_images(sharpen(batch.images, baseline.sigma, baseline.amount))
        elif baseline.name == "resample":
            repeats = counts[start : start + len(batch)]
            start += len(batch)
            batch = batch[torch.repeat_interleave(torch.arange(len(batch)), repeats)]
        yield batch


def blur(images: Tensor, sigma: float) -> Tensor:
    """Blur images ``[B, C, H, W]`` by a Gaussian of ``sigma`` pixels; 0 changes nothing.

    The kernel ends at 3 sigma and sums to 1. Beyond the border, the outermost pixels are repeated.
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
    """Return ``x + amount (x - blur(x))`` of images ``[B, C, H, W]``, clamped to [0, 1]."""
    return (images + amount * (images - blur(images, sigma))).clamp(0, 1)


def resample_counts(classes: Tensor, quotas: Tensor | None = None) -> Tensor:
    """Return how often to take each of N images so that each class is taken by its quota.

    A class of n images with a quota of q gives each of them q // n times, and q % n of them, drawn
    at random, once more.

    Args:
        classes: ``[N]`` int64.
        quotas: ``[K]`` int64, how many of class 0, 1, ... to take; by default N in all, equally
            many of each class that occurs (quotas differ by one at most). A class without images
            gives none.
    """
    generator = stream(0, "resample")
    counts = torch.zeros_like(classes)
    found = classes.unique()
    if quotas is None:
        quotas = torch.zeros(int(found.max()) + 1, dtype=torch.int64)
        quotas[found] = equal_quotas(len(classes), len(found))
    for label in found.tolist():
        quota = int(quotas[label]) if label < len(quotas) else 0
        rows = (classes == label).nonzero()[:, 0]
        shuffled = rows[torch.randperm(len(rows), generator=generator)]
        counts[rows] = quota // len(rows)
        counts[shuffled[: quota % len(rows)]] += 1
    return counts
