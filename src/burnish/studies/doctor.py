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
from collections.abc import Callable, Sequence
from dataclasses import replace
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
from burnish.training.attacks import attack_real
from burnish.training.config import AttackConfig
from burnish.training.validation import attacked_logits, tell_apart

__all__ = ["doctor", "examine", "low_frequencies", "low_frequency_share", "table"]

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
    guides: Sequence[str],
    real: str,
    generated: Path,
    *,
    num_images: int = 1000,
    device: str = "auto",
) -> dict[str, Any]:
    """Examine guides and classifiers of one data set.

    Args:
        guides: Names, files, ``timm/NAME`` or ``torchvision/NAME``.
        real: Real images with labels that no guide was trained on, by name (then their test
            split) or path.
        generated: Generated images with labels.
        num_images: Real images to look at, and as many generated ones; at most what there is.
        device: Where to compute.

    Returns:
        A dict for JSON with one entry of ``guides`` each; :func:`table` prints it.

    Raises:
        InputError: No guide is named, an input is missing, or a guide does not fit the images.
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
        data.samples(torch.randperm(len(data), generator=stream(SEED, "assess"))[:count])
        for data in sets
    )
    for name, guide in loaded.items():
        for side in (here, there):
            try:
                check_fit(guide, side, side.labels)
            except InputError as error:
                raise InputError(f"{name}: {error}") from error
    rows = []
    with tqdm(total=count * len(loaded), desc="doctor", unit="image") as bar:
        for name, guide in loaded.items():
            facts = {key: guide.card.get(key) for key in ("name", "kind", "sha256")}
            numbers = examine(guide, here, there, progress=bar.update)
            rows.append({"guide": name, **facts, **numbers})
    height, width = here.images.shape[2:]
    white_noise = low_frequencies(height, width, CUTOFF).double().mean().item()
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
    guide: Guide,
    real: Samples,
    generated: Samples,
    batch_size: int = 100,
    progress: Callable[[int], object] = lambda done: None,
) -> dict[str, float]:
    """Return the numbers of one guide.

    Args:
        guide: In eval mode, on the device where to compute.
        real: Real images with labels.
        generated: Generated images with labels, as many.
        batch_size: Images per network call.
        progress: Called with the number of images of each kind done since the last call.
    """
    device = next(guide.parameters()).device
    of_realness: dict[str, Any] = {"objective": guide.energy_name}
    attacks = [replace(attack, **of_realness) for attack in (REAL_ATTACK, GENERATED_ATTACK)]
    real, generated = real.to(device), generated.to(device)
    assert real.labels is not None and generated.labels is not None
    parts: list[dict[str, tuple[Tensor, Tensor]]] = []
    robust, shares = [], []
    for start in range(0, len(real), batch_size):
        rows = slice(start, start + batch_size)
        here, there = real[rows], generated[rows]
        assert there.labels is not None
        parts.append(attacked_logits(guide, here, there, *attacks))
        with torch.no_grad():
            robust.append(guide(attack_real(guide, here, CLASS_ATTACK)).argmax(1) == here.labels)
        gradients = value_and_gradient(guide.objective("logit"), there.images, there.labels)[0]
        shares += low_frequency_share(gradients, CUTOFF).tolist()
        progress(len(here))
    logits = {
        name: (torch.cat([part[name][0] for part in parts]),
               torch.cat([part[name][1] for part in parts]))
        for name in parts[0]
    }  # fmt: skip
    numbers = tell_apart(guide, logits, real.labels, generated.labels)
    del numbers["accuracy_attacked"]  # under the attack on realness, not on the class
    numbers["accuracy_robust"] = torch.cat(robust).float().mean().item()
    numbers["low_frequency_share"] = statistics.fmean(shares)
    numbers["low_frequency_share_std"] = statistics.pstdev(shares)
    return numbers


def low_frequencies(height: int, width: int, cutoff: float) -> Tensor:
    """Return which frequencies of ``torch.fft.fft2`` count as low, ``[H, W]`` bool.

    They are those of radius sqrt(u^2 + v^2) <= cutoff / 2, with u and v in cycles per pixel,
    between -1/2 and 1/2 (Nyquist); frequency 0 is among them. The mean of this mask is the share
    that is expected of white noise.

    Args:
        height: H.
        width: W.
        cutoff: Largest radius as a share of Nyquist's frequency.
    """
    rows, columns = (torch.fft.fftfreq(size, dtype=torch.float64) for size in (height, width))
    squares = rows[:, None] ** 2 + columns[None, :] ** 2
    return squares <= (cutoff / 2) ** 2 + 1e-12


def low_frequency_share(gradients: Tensor, cutoff: float = CUTOFF) -> Tensor:
    """Return the share of each gradient's energy at low frequencies, ``[B]`` in [0, 1].

    Energy is |F|^2, with F the 2-D Fourier transform of each channel, summed over channels. A
    gradient of 0 has the share 0.

    Args:
        gradients: ``[B, C, H, W]``.
        cutoff: As for :func:`low_frequencies`.
    """
    # In float64, because the square of a small gradient underflows in float32.
    energy = torch.fft.fft2(gradients.double()).abs().square().sum(1)
    height, width = gradients.shape[2:]
    low = low_frequencies(height, width, cutoff).to(energy.device)
    total = energy.sum((1, 2))
    share = (energy * low).sum((1, 2)) / total.clamp(min=torch.finfo(total.dtype).tiny)
    return share.float()


def table(result: dict[str, Any]) -> str:
    """Return a result of :func:`doctor` as a Markdown table, with what chance would give."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in result["guides"]:
        cells = " | ".join(f"{row[key]:.3f}" for key in COLUMNS)
        lines.append(f"| {row['guide']} | {cells} |")
    noise = result["low_frequency_share_of_white_noise"]
    return "\n".join([*lines, f"| white noise | | | 0.500 | | {noise:.3f} |"])
