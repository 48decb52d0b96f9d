"""What the numbers of :mod:`burnish.studies.checkup.doctor` mean, in words, and what to do.

The limits, and why they are there:

* ``MIN_GAIN``: another reading of pixels classifies a tenth of all images more (and more than four
  standard errors) only if the guide was given the wrong one. A classifier that was trained on this
  reading loses by any other.
* ``MIN_LIFT``: an accuracy that goes less than a tenth of the way from naming the most frequent
  class to 1 is hardly above chance: the labels mean other classes, or the images are of another
  kind.
* ``MIN_ROBUST``: robust guides keep more than half of their accuracy under the attack (CIFAR-10:
  0.33 of 0.60, 0.48 of 0.65), standard classifiers less than a twentieth (0.03 of 0.75, 0.00 of
  0.65), at an AUC under attack of 0.
* ``MAX_REAL`` (of refine's own warning): half of real images look at least as real as the median
  real image. Where a quarter of the generated ones do, the guide sees no fault in them.
* ``MIN_AUC``: a robust classifier that was never shown a generated image reaches 0.6.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from burnish.guide.model import Guide
from burnish.refinement.doubt import MAX_REAL

MIN_GAIN, MIN_LIFT, MIN_ROBUST, MIN_AUC = 0.1, 0.1, 0.2, 0.6
COLUMNS = {
    "accuracy_clean": "accuracy",
    "accuracy_robust": "robust accuracy",
    "auc_clean": "AUC",
    "auc_attacked": "AUC attacked",
    "share_looks_real": "look real",
    "low_frequency_share": "low frequencies",
}


def verdict(
    numbers: Mapping[str, Any], *, num_real: int = 0, most_frequent: float = 0.0,
    climbs_class: bool = False, shortcuts: Sequence[str] = (),
) -> str:  # fmt: skip
    """Return what is the matter with a guide, the first thing that is, and what to do.

    Args:
        numbers: Of one guide; what was not measured is missing.
        num_real: Real images that they come from.
        most_frequent: Share of the most frequent class among them.
        climbs_class: The guide recommends, or for want of realness takes, the cross-entropy.
        shortcuts: Trivial differences between the two sets of images.
    """
    if "accuracy_clean" in numbers and (fault := _fault(numbers, num_real, most_frequent)):
        return fault
    if "auc_clean" not in numbers:
        return _without_a_side(numbers)
    auc, share = numbers["auc_clean"], numbers["share_looks_real"]
    found = f"AUC {auc:.2f}, {share:.0%} look at least as real as the median real image"
    if climbs_class:
        return (
            "A robust classifier: it makes images clearer examples of their class, and need not "
            f"tell them from real ones ({found}). Whether that helps these images, burnish tune "
            "says."
        )
    if share > MAX_REAL or auc < MIN_AUC:
        return (
            f"It cannot tell these images from real ones ({found}): refining will not make them "
            "more real. Adapt a guide to them: burnish adapt."
        )
    if shortcuts:
        return (
            f"It tells these images from real ones ({found}), but something trivial does, too: "
            f"{shortcuts[0]}. Mend that and examine again."
        )
    return (
        f"Fine: it is robust and tells these images from real ones ({found}). Find the dose: "
        "burnish tune."
    )


def _fault(numbers: Mapping[str, Any], num_real: int, most_frequent: float) -> str:
    """Return what is wrong with the classifier; empty if nothing is."""
    clean, robust = numbers["accuracy_clean"], numbers["accuracy_robust"]
    best = max(numbers["accuracy_by_range"], key=numbers["accuracy_by_range"].get)
    found = numbers["accuracy_by_range"][best]
    # At most 0.5 / sqrt(N) each; the two are not independent, but that makes it smaller.
    if found - clean > max(MIN_GAIN, 4 * (0.5 / max(num_real, 1)) ** 0.5):
        return (
            f"Wrong input: it classifies {clean:.0%} of the real images as they are, and "
            f"{found:.0%} {best}. Put that in front of the network; burnish gives [0, 1] RGB."
        )
    if clean < most_frequent + MIN_LIFT * (1 - most_frequent):
        return (
            f"Not a classifier of these labels: it gets {clean:.0%} of the real images right, and "
            f"naming one class would get {most_frequent:.0%}. Check the order of the classes, or "
            "take a guide of them."
        )
    if robust < MIN_ROBUST * clean:
        return (
            f"Not robust: an attack leaves {robust:.0%} of {clean:.0%} accuracy, so its gradient "
            f"is noise ({numbers['low_frequency_share']:.1%} at low frequencies) and climbing it "
            "makes no better image. Take a robust classifier or a joint guide (burnish train "
            "joint)."
        )
    return ""


def _without_a_side(numbers: Mapping[str, Any]) -> str:
    """Say what can be said without generated or without real images."""
    if "accuracy_clean" in numbers:
        return (
            "A robust classifier. Whether it tells your images from real ones needs some of "
            "them: --samples."
        )
    if "share_looks_real" in numbers:
        share = numbers["share_looks_real"]
        found = f"{share:.0%} of the images look at least as real as the median real image"
        if share <= MAX_REAL:
            return f"It sees faults in these images ({found}). More needs real ones: --real."
        return (
            f"It sees no fault in these images ({found}): refining will not make them more real. "
            "Adapt a guide to them: burnish adapt. More needs real ones: --real."
        )
    return "Nothing was measured. Give images: --samples, --real."


def about(guide: Guide) -> list[str]:
    """Return what the card of a guide says, a line each."""
    card, realness = guide.card, guide.card.get("realness")
    shape, known = card.get("image_shape"), card.get("realness_generated")
    network = card.get("network") or {}
    classes = network.get("num_classes") if isinstance(network, Mapping) else None
    trained = [f"trained on {card['data']}"] if card.get("data") else []
    shown = f"was shown generated images: {card['generated']}" if card.get("generated") else ""
    lines = [
        ", ".join(
            [
                str(card.get("kind", "a classifier")),
                f"{classes} classes" if classes else "unknown number of classes",
                f"images {shape}" if shape else "images of unknown shape",
                *trained,
            ]
        ),
        shown or "does not say which generated images it has seen, if any",
        f"knows the realness of real images ({realness.get('data', 'unnamed')})"
        if realness
        else "does not know how real images look to it: no stop rule, no warning",
        "knows the realness of the generated images that it was made for"
        if known
        else "does not know the range of the generated images that it was made for",
    ]
    if dose := card.get("refine"):
        lines.append("recommends " + ", ".join(f"{key} {value}" for key, value in dose.items()))
    return [*lines, "whether it expects other pixel values than [0, 1], real images show (--real)"]


def table(result: Mapping[str, Any]) -> str:
    """Return a result of :func:`burnish.studies.checkup.doctor.doctor` as text.

    A Markdown table of what was measured, with what white noise would give, then a line for each
    trivial difference, and the verdict on each guide; without images, what the cards say.
    """
    guides, lines = result["guides"], []
    names = [name for name in COLUMNS if any(name in row for row in guides)]
    if names:
        lines += ["| | " + " | ".join(COLUMNS[name] for name in names) + " |"]
        lines += ["|---" * (len(names) + 1) + "|"]
        noise = {
            "guide": "white noise", "auc_clean": 0.5,
            "low_frequency_share": result["low_frequency_share_of_white_noise"],
        }  # fmt: skip
        for row in [*guides, noise]:
            cells = (f"{row[name]:.3f}" if name in row else "" for name in names)
            lines.append(f"| {row['guide']} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += [f"note: {line}" for line in result["shortcuts"]]
    for row in guides:
        if not names:
            lines += [f"{row['guide']}: {line}" for line in row["about"]]
        lines.append(f"{row['guide']}: {row['verdict']}")
    return "\n".join(lines)
