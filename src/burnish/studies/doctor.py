"""Doctor: what a guide is as a classifier, as a discriminator and as a direction in pixel space.

Any classifier can be examined beside guides, for comparison with one that is not robust. For each:

* accuracy on real images, clean and under PGD on the cross-entropy (L2 radius 0.5, 20 steps of
  0.1);
* AUC of realness between real and generated images, clean, and with each pushed towards the other
  (real ones within 0.5, generated ones without bound in 15 steps of 0.1);
* the gradient of the logit of the image's class at generated images: the share of its energy at
  low frequencies, and its mean cosine to the difference to the nearest real image of the class.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from burnish.errors import InputError
from burnish.files import provenance
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.jobs.plan import resolve_device
from burnish.refine.refiner import check_fit
from burnish.samples import Samples
from burnish.schema import plain
from burnish.seeds import stream
from burnish.storage.datasets import Dataset, load_dataset
from burnish.studies.gradients import (
    cosine,
    logit_gradient,
    low_frequencies,
    low_frequency_share,
    toward_nearest,
)
from burnish.training.attacks import attack_real
from burnish.training.config import AttackConfig
from burnish.training.validation import attacked_logits, tell_apart

__all__ = ["doctor", "examine", "table"]

# Without a random start: 20 steps cross the ball four times, and batches leave no trace.
CLASS_ATTACK = AttackConfig("ce", eps=0.5, step_size=0.1, num_steps=20, random_start=False)
REAL_ATTACK = replace(CLASS_ATTACK, objective="logit")
GENERATED_ATTACK = replace(REAL_ATTACK, eps=math.inf, num_steps=15)
CUTOFF = 0.25
COLUMNS = {
    "accuracy_clean": "accuracy",
    "accuracy_robust": "robust accuracy",
    "auc_clean": "AUC",
    "auc_attacked": "AUC attacked",
    "low_frequency_share": "low frequencies",
    "cosine_to_nearest": "cosine to nearest",
}


def doctor(
    guides: Sequence[str],
    real: str,
    generated: Path,
    *,
    nearest_among: str = "",
    num_images: int = 1000,
    batch_size: int = 100,
    seed: int = 0,
    device: str = "auto",
) -> dict[str, Any]:
    """Examine guides and classifiers of one data set.

    Args:
        guides: Names, files, ``timm/NAME`` or ``torchvision/NAME``.
        real: Real images with labels that no guide was trained on, by name (then their test
            split) or path.
        generated: Generated images with labels.
        nearest_among: Real images among which the nearest is sought, by name or path; by default
            ``real``.
        num_images: Real images to look at, and as many generated ones; at most what there is.
        batch_size: Images per network call.
        seed: Chooses the images.
        device: Where to compute.

    Returns:
        A dict for JSON with one entry of ``guides`` each; :func:`table` prints it.

    Raises:
        InputError: No guide is named, an input is missing, or a guide does not fit the images.
    """
    if not guides:
        raise InputError("name at least one guide")
    if num_images < 1 or batch_size < 1:
        raise InputError("num_images and batch_size must be at least 1")
    place = resolve_device(device)
    loaded = {name: load_guide(name).to(place).frozen() for name in guides}
    sets = load_dataset(real, split="test"), load_dataset(str(generated))
    bank = load_dataset(nearest_among) if nearest_among else sets[0]
    count = min(num_images, *map(len, sets))
    here, there = (_drawn(side, count, seed) for side in sets)
    for name, guide in loaded.items():
        for side in (here, there, bank.samples(slice(0, 1))):
            try:
                check_fit(guide, side, side.labels)
            except InputError as error:
                raise InputError(f"{name}: {error}") from error
    rows = []
    with tqdm(total=count * len(loaded), desc="doctor", unit="image") as bar:
        for name, guide in loaded.items():
            numbers = examine(guide, here, there, bank, batch_size, bar.update)
            facts = {key: guide.card.get(key) for key in ("name", "kind", "sha256")}
            rows.append({"guide": name, **facts, **numbers})
    height, width = bank.images_uint8.shape[2:]
    white_noise = low_frequencies(height, width, CUTOFF).double().mean().item()
    attacks = {"class": CLASS_ATTACK, "real": REAL_ATTACK, "generated": GENERATED_ATTACK}
    return {
        "real": sets[0].source,
        "generated": sets[1].source,
        "nearest_among": bank.source,
        "num_images": count,
        "num_nearest_among": len(bank),
        "seed": seed,
        "attacks": {name: plain(attack) for name, attack in attacks.items()},
        "low_frequency_cutoff": CUTOFF,
        "low_frequency_share_of_white_noise": white_noise,
        "guides": rows,
        **provenance(),
    }


def examine(
    guide: Guide,
    real: Samples,
    generated: Samples,
    bank: Dataset,
    batch_size: int = 100,
    progress: Callable[[int], object] = lambda done: None,
) -> dict[str, float]:
    """Return the numbers of one guide.

    Args:
        guide: In eval mode, on the device where to compute.
        real: Real images with labels.
        generated: Generated images with labels, as many.
        bank: Real images among which the nearest is sought.
        batch_size: Images per network call.
        progress: Called with the number of images of each kind done since the last call.
    """
    device = next(guide.parameters()).device
    of_realness: dict[str, Any] = {"objective": guide.energy_name}
    attacks = [replace(attack, **of_realness) for attack in (REAL_ATTACK, GENERATED_ATTACK)]
    logits: dict[str, list[tuple[Tensor, Tensor]]] = {"clean": [], "attacked": []}
    robust: list[Tensor] = []
    shares: list[Tensor] = []
    cosines: list[Tensor] = []
    for start in range(0, len(real), batch_size):
        rows = slice(start, start + batch_size)
        here, there = real[rows].to(device), generated[rows].to(device)
        assert here.labels is not None and there.labels is not None
        for name, pair in attacked_logits(guide, here, there, *attacks).items():
            logits[name].append(pair)
        with torch.no_grad():
            robust.append(guide(attack_real(guide, here, CLASS_ATTACK)).argmax(1) == here.labels)
        gradient = logit_gradient(guide, there.images, there.labels)
        shares.append(low_frequency_share(gradient, CUTOFF))
        nearest = toward_nearest(there.images, there.labels, bank.images_uint8, bank.labels)
        cosines.append(cosine(gradient, nearest))
        progress(len(here))
    assert real.labels is not None and generated.labels is not None
    joined = {
        name: (torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs]))
        for name, pairs in logits.items()
    }
    numbers = tell_apart(guide, joined, real.labels.to(device), generated.labels.to(device))
    del numbers["accuracy_attacked"]  # under the attack on realness, not on the class
    numbers["accuracy_robust"] = torch.cat(robust).float().mean().item()
    for name, parts in (("low_frequency_share", shares), ("cosine_to_nearest", cosines)):
        values = torch.cat(parts).tolist()
        numbers[name] = statistics.fmean(values)
        numbers[f"{name}_std"] = statistics.pstdev(values)
    return numbers


def table(result: dict[str, Any]) -> str:
    """Return a result of :func:`doctor` as a Markdown table, with what chance would give."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in result["guides"]:
        cells = " | ".join(f"{row[key]:.3f}" for key in COLUMNS)
        lines.append(f"| {row['guide']} | {cells} |")
    noise = result["low_frequency_share_of_white_noise"]
    return "\n".join([*lines, f"| white noise | | | 0.500 | | {noise:.3f} | 0.000 |"])


def _drawn(data: Dataset, count: int, seed: int) -> Samples:
    order = torch.randperm(len(data), generator=stream(seed, "assess"))
    return data.samples(order[:count])
