"""Does something trivial tell generated images from real ones?

A guide learns the easiest difference between the two sides. If the one was saved as JPEG and the
other was not, that is the block grid, and refinement then removes block grids. Each check here
measures one such trait on both sides, and reports it where one side has it and the other does not.

The limits are wide: between halves of one data set, and between real images and those of the
generators that were tried (consistency models, DDPM, two GANs, Stable Diffusion), no value
came near them. Blur, noise, and colors that are a little off are faults that a guide should learn,
so nothing is said of them. Two sides that were both compressed, by different strengths, are not
told apart.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.studies.checkup.traits import (
    block_grid,
    clipped,
    constant_border,
    gray,
    high_frequencies,
    num_levels,
    outside_video_range,
    repeats,
)

MIN_IMAGES, MAX_IMAGES = 16, 500
# Levels between the means of a channel; generators that were tried stay within 14.
MAX_CAST = 25


class Trait(NamedTuple):
    """Something that images may have for reasons other than what they show."""

    name: str
    having: str
    measure: Callable[[Tensor], float]
    """Images ``[N, C, H, W]`` uint8 to a number."""
    alone: Callable[[float, float], bool]
    """Whether a side of the first number has it and one of the second has not."""
    number: str
    """How the number is shown."""
    mend: str


def find_shortcuts(generated_uint8: Tensor, real_uint8: Tensor) -> list[str]:
    """Return one line for each trivial difference between generated and real images.

    Args:
        generated_uint8: ``[N, C, H, W]``; of more than 500 images, 500 at equal distances.
        real_uint8: ``[M, C, H, W]``.

    Returns:
        Lines such as ``"compression: the generated images show the 8x8 blocks of JPEG (0.45) and
        the real ones do not (0.00); encode both alike"``; empty if nothing was found.

    Raises:
        InputError: There are fewer than 16 images of a kind.
    """
    sides = {"generated": generated_uint8, "real": real_uint8}
    for kind, images in sides.items():
        if len(images) < MIN_IMAGES:
            raise InputError(
                f"{len(images)} {kind} images are too few to judge; give {MIN_IMAGES} or more"
            )
    shapes = [list(images.shape[1:]) for images in sides.values()]
    if shapes[0] != shapes[1]:
        return [
            f"size: the generated images have the shape {shapes[0]} and the real ones "
            f"{shapes[1]}; bring both to one size in the same way"
        ]
    generated, real = (images[:: math.ceil(len(images) / MAX_IMAGES)] for images in sides.values())
    lines = [line for trait in TRAITS if (line := _compare(trait, generated, real))]
    return [*lines, *_colors(generated, real)]


def _compare(trait: Trait, generated: Tensor, real: Tensor) -> str:
    ours, theirs = trait.measure(generated), trait.measure(real)
    for one, other, values in (
        ("generated images", "real ones", (ours, theirs)),
        ("real images", "generated ones", (theirs, ours)),
    ):
        if trait.alone(*values):
            has, lacks = (trait.number.format(value) for value in values)
            return (
                f"{trait.name}: the {one} {trait.having} ({has}) and the {other} do not "
                f"({lacks}); {trait.mend}"
            )
    return ""


TRAITS = (
    Trait(
        "compression", "show the 8x8 blocks of JPEG", block_grid,
        lambda has, lacks: has >= 0.08 and lacks <= 0.04, "{:.2f}",
        "encode both in the same way",
    ),
    Trait(
        "resampling", "lack the highest frequencies, as after enlarging or strong blur",
        high_frequencies, lambda has, lacks: 20 * has <= lacks, "{:.1g} of the energy",
        "resize both in the same way from their full size, unless the generator itself blurs",
    ),
    Trait(
        "repeated pixels", "have rows or columns that repeat, as after enlarging or padding",
        repeats, lambda has, lacks: has >= 0.5 and lacks <= 0.1, "{:.0%} of them",
        "resize and crop both in the same way",
    ),
    Trait(
        "borders", "have a border of one color", constant_border,
        lambda has, lacks: has >= 0.9 and lacks <= 0.5, "{:.0%} of them",
        "crop the padding",
    ),
    Trait(
        "gray", "have no color", gray, lambda has, lacks: has >= 0.9 and lacks <= 0.5,
        "{:.0%} of them", "convert both to gray, or neither",
    ),
    Trait(
        "value range", "keep to the levels 16 to 235 of video", outside_video_range,
        lambda has, lacks: has <= 0.0005 and lacks >= 0.01, "{:.2%} of values are outside",
        "stretch them to 0 .. 255",
    ),
    Trait(
        "clipping", "have many values at an end of the range", clipped,
        lambda has, lacks: has >= 0.05 and has >= 5 * lacks, "{:.1%} of values",
        "look for a wrong scale or contrast",
    ),
    Trait(
        "levels", "use few levels", num_levels, lambda has, lacks: has <= 0.6 * lacks, "{:.0f}",
        "bring both to 8 bits in the same way",
    ),
)  # fmt: skip


def _colors(generated: Tensor, real: Tensor) -> list[str]:
    """Say whether channels are swapped, or else whether colors are far apart.

    Both only if the difference is above four standard errors.
    """
    # [N, C] of each side.
    each = [side.float().mean((2, 3)) for side in (generated, real)]
    means = torch.stack([levels.mean(0) for levels in each])
    shown = " and ".join(str([round(value) for value in side]) for side in means.tolist())
    if len(means[0]) == 3:
        leans, errors = zip(*(_mean_and_error(one[:, 0] - one[:, 2]) for one in each), strict=True)
        mirrored = abs(sum(leans)) < 0.5 * max(map(abs, leans)) and leans[0] * leans[1] < 0
        if mirrored and all(abs(a) > 4 * e for a, e in zip(leans, errors, strict=True)):
            return [
                "channels: red and blue seem to be swapped on one side (mean levels of generated "
                f"and real images {shown}); read both as RGB"
            ]
    variances = [levels.var(0) / len(levels) for levels in each]
    error = torch.stack(variances).sum(0).sqrt()
    apart = (means[0] - means[1]).abs()
    if (apart > (4 * error).clamp(min=MAX_CAST)).any():
        return [
            f"color: the mean levels of generated and real images are {shown}; look for another "
            "color space, scale or set of classes"
        ]
    return []


def _mean_and_error(values: Tensor) -> tuple[float, float]:
    """Return the mean of ``[N]`` and its standard error."""
    return values.mean().item(), values.std().item() / math.sqrt(len(values))
