"""The controls: what anybody could do to images in place of refining them.

* ``class frequencies``: no pixel changes. Baseline images are dropped and repeated until the
  classes that a network predicts for them are as frequent as among the refined images.
* ``blur``, ``sharpen``: a Gaussian blur, and unsharp masking.
* ``filter``: the linear filter that gives the baseline images the spectrum of the real ones
  (:func:`burnish.ascent.spectrum.transport`).
* ``rejection``: the baseline images of lowest realness are dropped.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from burnish.ascent.spectrum import measure_spectrum, transport
from burnish.samples import from_uint8, to_uint8
from burnish.studies.baselines import blur, resample_counts, sharpen

SIGMA, AMOUNT, REJECTED = 0.5, 0.5, 0.25
AT_ONCE = 500


@dataclass(frozen=True)
class Control:
    """A set of images made of the baseline's."""

    name: str
    rows: Tensor | None = None
    """Places of the baseline images that it consists of, repeats included; None for all."""
    images_uint8: Tensor | None = None
    """``[N, C, H, W]``, changed pixels of all baseline images; None where none changed."""


def pixel_controls(baseline: Tensor, real: Tensor) -> list[Control]:
    """Return the controls that change pixels, of uint8 images ``[N, C, H, W]``."""
    spectra = [measure_spectrum(map(from_uint8, side.split(AT_ONCE))) for side in (baseline, real)]
    match = transport(*spectra)
    changes: dict[str, Any] = {
        "blur": lambda images: blur(images, SIGMA),
        "sharpen": lambda images: sharpen(images, SIGMA, AMOUNT),
        "filter": lambda images: match(images).clamp(0, 1),
    }
    parts = baseline.split(AT_ONCE)
    return [
        Control(name, images_uint8=torch.cat([to_uint8(change(from_uint8(p))) for p in parts]))
        for name, change in changes.items()
    ]


def class_frequencies(baseline: Tensor, refined: Tensor) -> Control:
    """Return baseline images taken as often as their predicted classes occur among the refined.

    Args:
        baseline: Predicted class of each baseline image, ``[N]`` int64.
        refined: Of each refined image, ``[M]`` int64.
    """
    num_classes = int(max(baseline.max(), refined.max())) + 1
    wanted = torch.bincount(refined, minlength=num_classes).double()
    wanted[torch.bincount(baseline, minlength=num_classes) == 0] = 0  # none to take
    if not wanted.sum():
        wanted = torch.bincount(baseline, minlength=num_classes).double()
    share = wanted / wanted.sum() * len(baseline)
    quotas = share.floor().long()
    left = len(baseline) - int(quotas.sum())
    quotas[(share - quotas).topk(left).indices] += 1
    counts = resample_counts(baseline, quotas)
    return Control("class frequencies", torch.repeat_interleave(counts))


def rejection(realness: Tensor) -> Control:
    """Return the baseline images whose realness ``[N]`` is not among the lowest quarter."""
    kept = len(realness) - int(REJECTED * len(realness))
    return Control("rejection", realness.topk(kept).indices.sort().values)
