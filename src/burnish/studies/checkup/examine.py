"""Measure a guide by real and generated images, whichever there are."""

import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from burnish.ascent.step import value_and_gradient
from burnish.guide.model import Guide
from burnish.progress import bar
from burnish.samples import Samples
from burnish.training.config import AttackConfig
from burnish.training.losses.joint import attack_real
from burnish.training.validation import attacked_logits, tell_apart

# Without a random start: 20 steps cross the ball four times, and batches leave no trace.
CLASS_ATTACK = AttackConfig("ce", eps=0.5, step_size=0.1, num_steps=20, random_start=False)
REAL_ATTACK = replace(CLASS_ATTACK, objective="logit")
GENERATED_ATTACK = replace(REAL_ATTACK, eps=math.inf, num_steps=15)
CUTOFF, AS_GIVEN = 0.25, "as they are"


def _imagenet(images: Tensor) -> Tensor:
    mean, std = (images.new_tensor(of) for of in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    if images.shape[1] == 1:
        mean, std = mean.mean()[None], std.mean()[None]
    return (images - mean[:, None, None]) / std[:, None, None]


# What pixels in [0, 1] may have to become before the network.
READINGS: dict[str, Callable[[Tensor], Tensor]] = {
    AS_GIVEN: lambda images: images,
    "scaled to -1 .. 1": lambda images: 2 * images - 1,
    "with the normalization of ImageNet": _imagenet,
    "scaled to 0 .. 255": lambda images: 255 * images,
    "with red and blue swapped": lambda images: images.flip(1),
    "inverted": lambda images: 1 - images,
}


def examine(
    guide: Guide, real: Samples | None, generated: Samples | None, batch_size: int = 100
) -> dict[str, Any]:
    """Return the numbers of a frozen guide, by labeled images; as many of the one as the other."""
    given = [side for side in (real, generated) if side is not None]
    if not given:
        return {}
    of_realness: dict[str, Any] = {"objective": guide.energy_name}
    attacks = [replace(attack, **of_realness) for attack in (REAL_ATTACK, GENERATED_ATTACK)]
    parts, robust, shares = [], [], []
    for start in bar(range(0, len(given[0]), batch_size), str(guide.card.get("name"))):
        rows = slice(start, start + batch_size)
        here, there = (side[rows] if side is not None else None for side in (real, generated))
        if here is not None and there is not None:
            parts.append(attacked_logits(guide, here, there, *attacks))
        if here is not None:
            with torch.no_grad():
                predicted = guide(attack_real(guide, here, CLASS_ATTACK)).argmax(1)
            robust.append(predicted == here.labels)
        at = there or here
        assert at is not None and at.labels is not None
        gradients, *_ = value_and_gradient(guide.objective("logit"), at.images, at.labels)
        shares += low_frequency_share(gradients).tolist()
    numbers: dict[str, Any] = {}
    if real is not None:
        by_range = {
            name: accuracy(guide, real, reading, batch_size) for name, reading in READINGS.items()
        }
        numbers["accuracy_clean"] = by_range[AS_GIVEN]
        numbers["accuracy_robust"] = torch.cat(robust).float().mean().item()
        numbers["accuracy_by_range"] = by_range
    if real is not None and generated is not None:
        assert real.labels is not None and generated.labels is not None
        logits = {}
        for name in parts[0]:
            of_real, of_generated = zip(*(part[name] for part in parts), strict=True)
            logits[name] = torch.cat(of_real), torch.cat(of_generated)
        numbers |= tell_apart(guide, logits, real.labels, generated.labels)
        del numbers["accuracy_attacked"]  # under the attack on realness, not on the class
    if generated is not None:
        level = realness(guide, generated, batch_size)
        median = guide.realness_quantile(0.5) if "realness" in guide.card else None
        if real is not None:
            median = realness(guide, real, batch_size).median().item()
        if median is not None:
            numbers["share_looks_real"] = (level >= median).float().mean().item()
    numbers["low_frequency_share"] = statistics.fmean(shares)
    numbers["low_frequency_share_std"] = statistics.pstdev(shares)
    return numbers


@torch.no_grad()
def accuracy(
    guide: Guide, real: Samples, reading: Callable[[Tensor], Tensor], batch_size: int
) -> float:
    """Return the accuracy on real images whose pixels are read in some way."""
    assert real.labels is not None
    pairs = zip(real.images.split(batch_size), real.labels.split(batch_size), strict=True)
    hits = [guide(reading(images)).argmax(1) == labels for images, labels in pairs]
    return torch.cat(hits).float().mean().item()


@torch.no_grad()
def realness(guide: Guide, samples: Samples, batch_size: int) -> Tensor:
    """Return the realness of labeled images, ``[N]``."""
    assert samples.labels is not None
    pairs = zip(samples.images.split(batch_size), samples.labels.split(batch_size), strict=True)
    return torch.cat([guide.realness(*pair) for pair in pairs])


def low_frequencies(height: int, width: int) -> Tensor:
    """Return which frequencies of ``torch.fft.fft2`` count as low, ``[H, W]`` bool.

    They are those of radius sqrt(u^2 + v^2) <= 1/8, a quarter of Nyquist's frequency, with u and v
    in cycles per pixel. The mean of this mask is the share that is expected of white noise.
    """
    rows, columns = (torch.fft.fftfreq(size, dtype=torch.float64) for size in (height, width))
    squares = rows[:, None] ** 2 + columns[None, :] ** 2
    return squares <= (CUTOFF / 2) ** 2 + 1e-12


def low_frequency_share(gradients: Tensor) -> Tensor:
    """Return the share of each gradient's energy at low frequencies, ``[B]`` in [0, 1].

    Gradients are ``[B, C, H, W]``. Energy is |F|^2, with F the 2-D Fourier transform of each
    channel, summed over channels. A gradient of 0 has the share 0.
    """
    # In float64, because the square of a small gradient underflows in float32.
    energy = torch.fft.fft2(gradients.double()).abs().square().sum(1)
    low = low_frequencies(*gradients.shape[2:]).to(energy.device)
    return ((energy * low).sum((1, 2)) / energy.sum((1, 2))).nan_to_num(0).float()
