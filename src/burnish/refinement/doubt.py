"""Why refining some images may do harm, found before any of them is changed."""

import torch
from torch import Tensor

from burnish.refinement.refiner import Refiner
from burnish.samples import Samples

# Fewer images prove nothing.
MIN_IMAGES = 16
# Half of real images look at least as real as the median one.
MAX_REAL = 0.25
# Of the images of the guide's own generator, 2 % lie outside of this range.
KNOWN_RANGE = (0.01, 0.99)
MAX_UNKNOWN = 0.5
ADVICE = "adapt a guide to them (burnish adapt), or measure first (burnish tune)"


@torch.no_grad()
def doubt(refiner: Refiner, samples: Samples, labels: Tensor | None = None) -> str:
    """Return why refining these images may do harm; empty if nothing speaks against it.

    A joint model helps by making images look real to it, so it must be able to tell them from
    real ones. (Climbing the cross-entropy alone does not ask for that.) It cannot if more than
    :data:`MAX_REAL` of them already look at least as real as the median real image, which half of
    real images do. And it must know their faults. It does not if the realness of more than
    :data:`MAX_UNKNOWN` of them lies outside the range :data:`KNOWN_RANGE` of the generated images
    that it knows; guides that do not know this range are not asked. What ``burnish tune`` found
    when the guide was adapted is said instead, or overrules the first of these two signs.

    Args:
        refiner: Knows the guide.
        samples: Some of the images; fewer than :data:`MIN_IMAGES` prove nothing.
        labels: ``[B]``; None for the guide's opinion.
    """
    guide = refiner.guide
    asks = "realness" in guide.card and refiner.settings.objective != "ce"
    if not asks or len(samples) < MIN_IMAGES:
        return ""
    verdict = guide.card.get("tuning", {}).get("verdict", "")
    if verdict in ("leave", "disagree"):
        return f"no settings helped when this guide was adapted: {guide.card['tuning']['words']}"
    logits = refiner.logits(samples.images.to(refiner.device))
    labels = logits.argmax(1) if labels is None else labels.to(logits.device)
    levels = guide.realness_of(logits, labels)
    looks_real = levels >= (guide.realness_quantile(0.5) or 0.0)
    if verdict != "use" and (share := looks_real.float().mean().item()) > MAX_REAL:
        return (
            f"{share:.0%} of these images already look at least as real to this guide as the "
            "median real image: it can hardly tell them from real ones and may make them worse; "
            f"{ADVICE}"
        )
    if known := guide.card.get("realness_generated"):
        quantiles = levels.new_tensor(known["quantiles"])
        low, high = quantiles.quantile(quantiles.new_tensor(KNOWN_RANGE))
        unknown = (levels < low) | (levels > high)
        if (share := unknown.float().mean().item()) > MAX_UNKNOWN:
            return (
                f"to this guide, {share:.0%} of these images look unlike the generated images "
                f"that it knows: it was made for other images and may make these worse; {ADVICE}"
            )
    return ""
