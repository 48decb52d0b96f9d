"""Why refining some images may do harm, found before any of them is changed."""

import torch
from torch import Tensor

from burnish.refinement.refiner import Refiner
from burnish.samples import Samples

# Half of real images look at least as real as the median one.
MAX_REAL = 0.25


@torch.no_grad()
def doubt(refiner: Refiner, samples: Samples, labels: Tensor | None = None) -> str:
    """Return why refining these images may do harm; empty if nothing speaks against it.

    A joint model helps by making images look real to it, so it must be able to tell them from
    real ones. (Climbing the cross-entropy alone does not ask for that.) If more than
    :data:`MAX_REAL` of them already look at least as real as the median real image, which half of
    real images do, it cannot.

    Args:
        refiner: Knows the guide.
        samples: Some of the images; fewer than 16 prove nothing.
        labels: ``[B]``; None for the guide's opinion.
    """
    guide = refiner.guide
    if "realness" not in guide.card or refiner.settings.objective == "ce" or len(samples) < 16:
        return ""
    logits = refiner.logits(samples.images.to(refiner.device))
    labels = logits.argmax(1) if labels is None else labels.to(logits.device)
    median = guide.realness_quantile(0.5) or 0.0
    share = (guide.realness_of(logits, labels) >= median).float().mean().item()
    if share <= MAX_REAL:
        return ""
    return (
        f"{share:.0%} of these images already look at least as real to this guide as the median "
        "real image: it can hardly tell them from real ones and may make them worse; measure "
        "first (burnish tune), or train a guide on images of their generator (burnish train joint)"
    )
