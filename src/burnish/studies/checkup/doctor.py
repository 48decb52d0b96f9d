"""Doctor: what a guide is as a classifier, as a discriminator and by its gradients.

Any classifier can be examined beside guides, for comparison with one that is not robust. What is
measured depends on the images that are given. With real ones:

* accuracy, clean and under PGD on the cross-entropy (L2 radius 0.5, 20 steps of 0.1);
* accuracy if pixels are read otherwise (other range, normalization, order of channels): one that
  is clearly better shows that the guide is given the wrong input.

With generated ones, the share that looks at least as real as the median real image. With both:

* AUC of realness between real and generated images, clean, and with each pushed towards the other
  (real ones within 0.5, generated ones without bound in 15 steps of 0.1);
* trivial differences between the two, see :mod:`burnish.studies.checkup.shortcuts`.

With either, how smooth its gradients are: the share of low frequencies in the gradient of the
logit of the class, at generated images if there are any. White noise has equal energy at all
frequencies (a share of 0.048 at 32x32), outlines and surfaces have theirs at low ones. The
gradients of a robust classifier look meaningful to people, those of a standard one like noise
(Tsipras et al. 2019, "Robustness May Be at Odds with Accuracy", section 3,
https://arxiv.org/abs/1805.12152). On CIFAR-10, a standard classifier had 0.039 and robust ones
0.16 to 0.39.

:mod:`burnish.studies.checkup.diagnosis` says what the numbers mean.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from burnish.errors import InputError
from burnish.files import provenance
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.jobs.plan import resolve_device
from burnish.jobs.sides import ROWS
from burnish.refinement.refiner import check_fit
from burnish.samples import Samples, to_uint8
from burnish.schema import plain
from burnish.seeds import stream
from burnish.storage.datasets import Dataset, load_dataset
from burnish.studies.checkup.diagnosis import about, verdict
from burnish.studies.checkup.examine import (
    CLASS_ATTACK,
    CUTOFF,
    GENERATED_ATTACK,
    REAL_ATTACK,
    examine,
    low_frequencies,
)
from burnish.studies.checkup.shortcuts import MIN_IMAGES, find_shortcuts

SEED = 0


def doctor(
    guides: Sequence[str], *, samples: str | Path | None = None, real: str | Path | None = None,
    num_images: int = 1000, device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Examine guides and classifiers of one data set.

    Args:
        guides: Names, files, ``timm/NAME`` or ``torchvision/NAME``.
        samples: Generated images with labels, by path; some of their rows as ``PATH[0-999]``.
        real: Real images with labels that no guide was trained on, likewise, or by name (then
            their test split).
        num_images: Of each kind, at most; as many as both have.
        device: Where to compute.

    Returns:
        A dict for JSON with one entry of ``guides`` each; :func:`table` prints it.

    Raises:
        InputError: There are too few images to judge, both sides are the same, they have no
            labels, or a guide does not take them.
    """
    if not guides:
        raise InputError("name at least one guide")
    if num_images < MIN_IMAGES:
        raise InputError(f"num_images must be at least {MIN_IMAGES}, not {num_images}")
    place = resolve_device(device)
    loaded = {name: load_guide(name).to(place).frozen() for name in guides}
    sides = {
        side: _load(str(source))
        for side, source in (("real", real), ("generated", samples))
        if source
    }
    count = min([num_images, *map(len, sides.values())])
    drawn = {
        side: data.samples(torch.randperm(len(data), generator=stream(SEED, "assess"))[:count])
        for side, data in sides.items()
    }
    _check_images(drawn, {side: data.source for side, data in sides.items()})
    shortcuts = []
    if len(drawn) == 2:
        shortcuts = find_shortcuts(*(to_uint8(drawn[side].images) for side in reversed(drawn)))
    drawn = {side: part.to(place) for side, part in drawn.items()}
    for (name, guide), part in product(loaded.items(), drawn.values()):
        try:
            check_fit(guide, part, part.labels)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    rows = []
    for name, guide in loaded.items():
        facts = {key: guide.card.get(key) for key in ("name", "kind", "sha256")}
        numbers = examine(guide, drawn.get("real"), drawn.get("generated"))
        said = verdict(
            numbers, num_real=count, most_frequent=_most_frequent(drawn.get("real")),
            climbs_class=_climbs_class(guide), shortcuts=shortcuts,
        )  # fmt: skip
        rows.append({"guide": name, **facts, **numbers, "about": about(guide), "verdict": said})
    attacks = {"class": CLASS_ATTACK, "real": REAL_ATTACK, "generated": GENERATED_ATTACK}
    shape = next((part.images.shape[2:] for part in drawn.values()), None)
    return {
        **{side: data.source for side, data in sides.items()},
        "num_images": count if sides else 0,
        "seed": SEED,
        "attacks": {name: plain(attack) for name, attack in attacks.items()},
        "low_frequency_cutoff": CUTOFF,
        "low_frequency_share_of_white_noise": low_frequencies(*shape).double().mean().item()
        if shape
        else None,
        "shortcuts": shortcuts,
        "guides": rows,
        **provenance(),
    }


def _load(source: str) -> Dataset:
    rows = ROWS.fullmatch(source)
    return load_dataset(*(rows.groups() if rows else (source,)), split="test")


def _check_images(drawn: dict[str, Samples], sources: dict[str, str]) -> None:
    for side, part in drawn.items():
        if len(part) < MIN_IMAGES:
            least = min(drawn, key=lambda side: len(drawn[side]))
            raise InputError(
                f"{sources[least]}: {len(part)} images are too few to judge; give {MIN_IMAGES} or "
                "more"
            )
    if len(drawn) == 2:
        known = {image.numpy().tobytes() for image in drawn["real"].images}
        if all(image.numpy().tobytes() in known for image in drawn["generated"].images):
            raise InputError("the generated images are the real ones; give two different sets")


def _most_frequent(real: Samples | None) -> float:
    if real is None or real.labels is None:
        return 0.0
    return real.labels.bincount().max().item() / len(real)


def _climbs_class(guide: Guide) -> bool:
    """Return whether the guide's own settings climb the cross-entropy."""
    return "realness" not in guide.card or guide.card.get("refine", {}).get("objective") == "ce"
