"""Which of several guides some images need: the one that tells them best from real ones.

A guide knows the faults that it was shown. One that learned from weak generators looks for their
crude faults, and may find images of a strong generator more real than real ones; climbing it then
makes them worse. Another one may have learned just the faults that these have. How well a guide
tells images from real ones is its AUC: the probability that a real image looks more real to it
than a generated one. Its card holds the realness of real images, so none are needed here.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from burnish.errors import InputError, shown
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.refinement.batching import in_batches
from burnish.refinement.labels import pseudo_labels
from burnish.refinement.learned import guide_sha256
from burnish.refinement.refiner import check_fit
from burnish.refinement.speed import BATCH_SIZE
from burnish.samples import Samples

# Images that a guide is chosen by; the standard error of an AUC is then at most 0.02.
NUM_IMAGES = 256
# By 32 images of Stable Diffusion the wrong shipped guide is taken in 1 to 2 % of draws.
MIN_IMAGES = 64
KNOW_NO_REALNESS = ("clip/", "timm/", "torchvision/")


@dataclass(frozen=True)
class Choice:
    """The guide that was chosen of several, or the only one."""

    source: str | None
    """Its name or path; None if it was loaded already."""
    guide: Guide
    aucs: dict[str, float]
    """The AUC of each of several, by name or path."""


def several(guide: object) -> list[str]:
    """Return the names or paths in a list of them, or in a text with commas; empty for just one.

    Raises:
        InputError: One of them is empty, loaded, or named twice.
    """
    if isinstance(guide, str) and "," in guide and not os.path.exists(guide):
        guide = guide.split(",")
    if not isinstance(guide, list | tuple):
        return []
    if not all(isinstance(one, str | Path) for one in guide):
        raise InputError("a list of guides holds names or paths, not loaded ones")
    names = [str(one).strip() for one in guide]
    if not names or not all(names) or len(set(names)) < len(names):
        raise InputError(f"{shown(','.join(names))}: name each guide once, with commas between")
    for name in names:
        if name.startswith(KNOW_NO_REALNESS):
            raise InputError(f"{shown(name)} does not know how real images look; name it alone")
    return names


def spread(count: int) -> list[int]:
    """Return at most :data:`NUM_IMAGES` places, evenly among ``0 .. count - 1``.

    Files often hold one class after the other, so the first images are not like all.
    """
    places = torch.linspace(0, count - 1, min(count, NUM_IMAGES), dtype=torch.float64)
    return places.round().long().tolist()


def load_one(guide: object, samples: Samples, labels: Tensor | None, device: str) -> Choice:
    """Return a guide on a device: a loaded one, one by name or path, or one of several.

    Args and errors are those of :func:`choose_guide`.
    """
    if sources := several(guide):
        return choose_guide(sources, samples, labels, device)
    if isinstance(guide, Guide):
        return Choice(None, guide.to(device), {})
    return Choice(str(guide), load_guide(str(guide)).to(device), {})


@torch.no_grad()
def choose_guide(
    sources: Sequence[str], samples: Samples, labels: Tensor | None, device: str = "cpu"
) -> Choice:
    """Load guides and return the one that tells some images best from real ones.

    Args:
        sources: Names or paths, see :func:`burnish.load_guide`.
        samples: Some of the images, :data:`MIN_IMAGES` or more.
        labels: ``[B]``; None for each guide's own opinion.
        device: Where to compute.

    Raises:
        InputError: There are too few images; two guides are the same; or one does not take the
            images, or does not know the realness of real ones.
    """
    if len(sources) == 1:
        return Choice(sources[0], load_guide(sources[0]).to(device), {})
    if len(samples) < MIN_IMAGES:
        raise InputError(
            f"{len(samples)} images are too few to choose a guide by; give {MIN_IMAGES} or more, "
            "or one guide"
        )
    guides = {source: load_guide(source).to(device) for source in sources}
    aucs = {}
    for source, guide in guides.items():
        try:
            check_fit(guide, samples, labels)
            aucs[source] = auc_of(guide, samples, labels)
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
    hashes = {source: guide_sha256(guide) for source, guide in guides.items()}
    if len(set(hashes.values())) < len(hashes):
        raise InputError(f"{', '.join(hashes)}: two of these are the same guide; name it once")
    # The order in which they are named must not decide.
    best = max(aucs, key=lambda source: (aucs[source], hashes[source]))
    return Choice(best, guides[best], aucs)


def words(best: str, aucs: Mapping[str, float], num_images: int) -> str:
    """Say which guide was chosen, and how sure that is.

    Args:
        best: The chosen one.
        aucs: See :class:`Choice`.
        num_images: Images of the file; a guide is chosen by :data:`NUM_IMAGES` of them at most.
    """
    found = ", ".join(f"{name} {auc:.2f}" for name, auc in aucs.items())
    # Two standard errors of the difference of two AUCs, as measured on images of four generators.
    chance = 0.64 / min(num_images, NUM_IMAGES) ** 0.5
    lead = aucs[best] - max(auc for name, auc in aucs.items() if name != best)
    if aucs[best] < 0.5 + chance:
        return f"guide {best}, but none tells these images from real ones (AUC: {found})"
    if lead < chance:
        return f"guide {best}, though the others tell these images as well (AUC: {found})"
    return f"guide {best}: it tells these images best from real ones (AUC: {found})"


def auc_of(guide: Guide, samples: Samples, labels: Tensor | None) -> float:
    r"""Return how well a guide tells images from real ones: 1 for always, 0.5 for not at all.

    .. math:: \frac{1}{B} \sum_i \bigl(1 - F(r(x_i, y_i))\bigr)

    with the realness :math:`r`, and :math:`F` the share of real images that are less real, by the
    quantiles in the guide's card. This is the area under the ROC curve.

    Args:
        guide: Knows the realness of real images.
        samples: ``B`` images.
        labels: ``[B]``; None for the guide's opinion, by which fewer images look generated.

    Raises:
        InputError: The guide does not know the realness of real images.
    """
    if "realness" not in guide.card:
        raise InputError(
            "it does not know how real images look to it, so it cannot be one of several to "
            "choose from; name it alone"
        )
    device = next(guide.parameters()).device
    frozen, size = guide.frozen(), BATCH_SIZE.get(device.type, 32)
    images = samples.images.to(device)
    (logits,) = in_batches(lambda part: (frozen(part),), size, images)
    labels = pseudo_labels(logits) if labels is None else labels.to(device)
    levels = guide.realness_of(logits, labels)
    table = levels.new_tensor(guide.card["realness"]["quantiles"])
    # Equal levels count half, as they do in an AUC.
    below, up_to = (torch.searchsorted(table, levels, right=side) for side in (False, True))
    return 1 - ((below + up_to) / 2 / len(table)).mean().item()
