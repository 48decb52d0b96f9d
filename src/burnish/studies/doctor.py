"""Doctor: what a guide is as a classifier, as a discriminator and by its gradients.

Any classifier can be examined beside guides, for comparison with one that is not robust. For each:

* accuracy on real images, clean and under PGD on the cross-entropy (L2 radius 0.5, 20 steps of
  0.1);
* AUC of realness between real and generated images, clean, and with each pushed towards the other
  (real ones within 0.5, generated ones without bound in 15 steps of 0.1);
* how smooth its gradients are: the share of low frequencies in the gradient of the logit of the
  class at generated images. White noise has equal energy at all frequencies, outlines and surfaces
  have theirs at low ones. The gradients of a robust classifier look meaningful to people, those of
  a standard one like noise (Tsipras et al. 2019, "Robustness May Be at Odds with Accuracy",
  section 3, https://arxiv.org/abs/1805.12152).
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from burnish.ascent.step import value_and_gradient
from burnish.errors import InputError
from burnish.files import provenance
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.jobs.plan import resolve_device
from burnish.refinement.refiner import check_fit
from burnish.samples import Samples
from burnish.schema import plain
from burnish.seeds import stream
from burnish.storage.datasets import load_dataset
from burnish.training.config import AttackConfig
from burnish.training.losses.joint import attack_real
from burnish.training.validation import attacked_logits, tell_apart

# Without a random start: 20 steps cross the ball four times, and batches leave no trace.
CLASS_ATTACK = AttackConfig("ce", eps=0.5, step_size=0.1, num_steps=20, random_start=False)
REAL_ATTACK = replace(CLASS_ATTACK, objective="logit")
GENERATED_ATTACK = replace(REAL_ATTACK, eps=math.inf, num_steps=15)
CUTOFF, SEED = 0.25, 0
COLUMNS = {
    "accuracy_clean": "accuracy",
    "accuracy_robust": "robust accuracy",
    "auc_clean": "AUC",
    "auc_attacked": "AUC attacked",
    "low_frequency_share": "low frequencies",
}


def doctor(
    guides: Sequence[str], real: str, generated: Path, *, num_images: int = 1000,
    device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Examine guides and classifiers of one data set.

    Args:
        guides: Names, files, ``timm/NAME`` or ``torchvision/NAME``.
        real: Real images with labels that no guide was trained on, by name (then their test
            split) or path.
        generated: Generated images with labels.
        num_images: Of each kind, at most; as many as both have.
        device: Where to compute.

    Returns:
        A dict for JSON with one entry of ``guides`` each; :func:`table` prints it.
    """
    if not guides:
        raise InputError("name at least one guide")
    if num_images < 1:
        raise InputError("num_images must be at least 1")
    place = resolve_device(device)
    loaded = {name: load_guide(name).to(place).frozen() for name in guides}
    sets = load_dataset(real, split="test"), load_dataset(str(generated))
    count = min(num_images, *map(len, sets))
    here, there = (
        data.samples(torch.randperm(len(data), generator=stream(SEED, "assess"))[:count]).to(place)
        for data in sets
    )
    for (name, guide), side in product(loaded.items(), (here, there)):
        try:
            check_fit(guide, side, side.labels)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    rows = []
    for name, guide in loaded.items():
        facts = {key: guide.card.get(key) for key in ("name", "kind", "sha256")}
        rows.append({"guide": name, **facts, **examine(guide, here, there)})
    white_noise = low_frequencies(*here.images.shape[2:]).double().mean().item()
    attacks = {"class": CLASS_ATTACK, "real": REAL_ATTACK, "generated": GENERATED_ATTACK}
    return {
        "real": sets[0].source,
        "generated": sets[1].source,
        "num_images": count,
        "seed": SEED,
        "attacks": {name: plain(attack) for name, attack in attacks.items()},
        "low_frequency_cutoff": CUTOFF,
        "low_frequency_share_of_white_noise": white_noise,
        "guides": rows,
        **provenance(),
    }


def examine(
    guide: Guide, real: Samples, generated: Samples, batch_size: int = 100
) -> dict[str, float]:
    """Return the numbers of a guide in eval mode, by as many real as generated labeled images."""
    assert real.labels is not None and generated.labels is not None
    of_realness: dict[str, Any] = {"objective": guide.energy_name}
    attacks = [replace(attack, **of_realness) for attack in (REAL_ATTACK, GENERATED_ATTACK)]
    parts, robust, shares = [], [], []
    for start in tqdm(range(0, len(real), batch_size), guide.card.get("name")):
        rows = slice(start, start + batch_size)
        here, there = real[rows], generated[rows]
        parts.append(attacked_logits(guide, here, there, *attacks))
        with torch.no_grad():
            predicted = guide(attack_real(guide, here, CLASS_ATTACK)).argmax(1)
        robust.append(predicted == real.labels[rows])
        objective = guide.objective("logit")
        gradients, *_ = value_and_gradient(objective, there.images, generated.labels[rows])
        shares += low_frequency_share(gradients).tolist()
    logits = {}
    for name in parts[0]:
        of_real, of_generated = zip(*(part[name] for part in parts), strict=True)
        logits[name] = torch.cat(of_real), torch.cat(of_generated)
    numbers = tell_apart(guide, logits, real.labels, generated.labels)
    del numbers["accuracy_attacked"]  # under the attack on realness, not on the class
    numbers["accuracy_robust"] = torch.cat(robust).float().mean().item()
    numbers["low_frequency_share"] = statistics.fmean(shares)
    numbers["low_frequency_share_std"] = statistics.pstdev(shares)
    return numbers


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


def table(result: dict[str, Any]) -> str:
    """Return a result of :func:`doctor` as a Markdown table, with what chance would give."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in result["guides"]:
        cells = " | ".join(f"{row[key]:.3f}" for key in COLUMNS)
        lines.append(f"| {row['guide']} | {cells} |")
    noise = result["low_frequency_share_of_white_noise"]
    return "\n".join([*lines, f"| white noise | | | 0.500 | | {noise:.3f} |"])
