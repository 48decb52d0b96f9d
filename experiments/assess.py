"""Judge guides as what they are: classifiers, discriminators, and directions in pixel space.

    python experiments/assess.py runs/cifar10/joint/model.safetensors \
        runs/cifar10/judge-plain/model.safetensors --real cifar10 --fake samples.npz \
        --data cifar10 --out results/cifar10-guides.json

Any classifier can stand beside the guides as what a standard, not robust one would be. For each:

* accuracy on real test images, clean and under PGD (L2, 20 steps of 0.1 up the cross-entropy
  within 0.5);
* AUC of realness between real and generated images, clean, and with each pushed towards the other
  (real ones within 0.5, generated ones without bound, 15 steps of 0.1);
* the gradient of the own-class logit at generated images: the share of its energy at low
  frequencies, beside that of white noise, and its mean cosine to the way towards the nearest real
  image of the class.
"""

import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor
from tqdm import tqdm
from tyro.conf import Positional

from burnish.cli.commands import resolve_device
from burnish.errors import InputError
from burnish.files import check_target, provenance, write_json
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.refine.refiner import check_fit
from burnish.samples import Samples
from burnish.seeds import stream
from burnish.storage.datasets import Dataset, load_dataset
from burnish.studies.gradients import (
    cosine,
    logit_gradient,
    low_frequencies,
    low_frequency_share,
    toward_nearest,
)
from burnish.training.config import AttackConfig
from burnish.training.losses.joint import attack_real
from burnish.training.validation import attacked_logits, tell_apart

# No random start: so many steps cross the ball four times, and every image's path is its own.
CLASS_ATTACK = AttackConfig(0.5, 0.1, 20, random_start=False, objective="ce")
REAL_ATTACK = AttackConfig(0.5, 0.1, 20, random_start=False)
FAKE_ATTACK = AttackConfig(math.inf, 0.1, 15, random_start=False)
CUTOFF = 0.25
COLUMNS = {
    "accuracy_clean": "accuracy",
    "accuracy_robust": "robust accuracy",
    "auc_clean": "AUC",
    "auc_attacked": "AUC attacked",
    "low_frequency_share": "low frequencies",
    "cosine_to_nearest": "cosine to nearest",
}


def main(
    guides: Positional[tuple[str, ...]],
    fake: Path,
    out: Path,
    real: str = "cifar10",
    data: str = "cifar10",
    num_images: int = 1000,
    batch_size: int = 100,
    device: str = "auto",
    seed: int = 0,
) -> None:
    """Measure guides and classifiers of one data set; write a JSON and print a table.

    Args:
        guides: Shipped ones by name, .safetensors files, timm/NAME or torchvision/NAME.
        fake: Generated images with labels: .npz, .parquet or folder.
        out: The JSON.
        real: Real test images with labels, by name or path.
        data: Real images among which the nearest is sought, by name or path.
        num_images: How many real images, and as many generated ones; at most what there is.
        batch_size: Images per network call.
        device: Where to compute.
        seed: Chooses the images.
    """
    check_target(out, fake, Path(real), Path(data))
    if not guides:
        raise InputError("name at least one guide")
    if num_images < 1 or batch_size < 1:
        raise InputError("num_images and batch_size must be at least 1")
    place = resolve_device(device)
    loaded = {source: load_guide(source).to(place).frozen() for source in guides}
    test, generated = load_dataset(real, split="test"), load_dataset(str(fake))
    bank = load_dataset(data)
    num_images = min(num_images, len(test), len(generated))
    sides = [drawn(side, num_images, seed) for side in (test, generated)]
    for source, guide in loaded.items():
        for side in (*sides, bank.samples(slice(0, 1))):
            try:
                check_fit(guide, side, side.labels)
            except InputError as error:
                raise InputError(f"{source}: {error}") from error

    rows = []
    with tqdm(total=num_images * len(loaded), desc="assess", unit="image") as bar:
        for source, guide in loaded.items():
            numbers = assess(guide, *sides, bank, batch_size, bar.update)
            facts = {key: guide.card.get(key) for key in ("name", "kind", "sha256")}
            rows.append({"guide": source, **facts, **numbers})
    height, width = test.images_uint8.shape[2:]
    noise = low_frequencies(height, width, CUTOFF).double().mean().item()
    attacks = {"class": CLASS_ATTACK, "real": REAL_ATTACK, "fake": FAKE_ATTACK}
    result = {
        "real": test.source,
        "fake": generated.source,
        "nearest_among": bank.source,
        "num_images": num_images,
        "num_nearest_among": len(bank),
        "seed": seed,
        "attacks": {name: asdict(a) | {"eps": str(a.eps)} for name, a in attacks.items()},
        "low_frequency_cutoff": CUTOFF,
        "low_frequency_share_of_white_noise": noise,
        "guides": rows,
        **provenance(),
    }
    write_json(out, result)
    print(table(rows, noise))


def drawn(data: Dataset, count: int, seed: int) -> Samples:
    """Return some images of a set, at random but always the same."""
    order = torch.randperm(len(data), generator=stream(seed, "assess"))
    return data.samples(order[:count])


def assess(
    guide: Guide,
    real: Samples,
    fake: Samples,
    bank: Dataset,
    batch_size: int = 100,
    progress: Callable[[int], object] = lambda done: None,
) -> dict[str, float]:
    """Return the numbers of one guide.

    Args:
        guide: In eval mode, on the device where to compute.
        real: Real images with labels.
        fake: Generated images with labels, as many.
        bank: Real images among which the nearest is sought.
        batch_size: Images per network call.
        progress: Called with the number of images of each kind done since the last call.
    """
    device = next(guide.parameters()).device
    of_realness: dict[str, Any] = {"objective": guide.energy_name}
    real_attack, fake_attack = (replace(a, **of_realness) for a in (REAL_ATTACK, FAKE_ATTACK))
    logits: dict[str, list[tuple[Tensor, Tensor]]] = {"clean": [], "attacked": []}
    robust: list[Tensor] = []
    shares: list[Tensor] = []
    cosines: list[Tensor] = []
    for start in range(0, len(real), batch_size):
        rows = slice(start, start + batch_size)
        here, there = real[rows].to(device), fake[rows].to(device)
        assert here.labels is not None and there.labels is not None
        for name, pair in attacked_logits(guide, here, there, real_attack, fake_attack).items():
            logits[name].append(pair)
        with torch.no_grad():
            robust.append(guide(attack_real(guide, here, CLASS_ATTACK)).argmax(1) == here.labels)
        gradient = logit_gradient(guide, there.images, there.labels)
        shares.append(low_frequency_share(gradient, CUTOFF))
        way = toward_nearest(there.images, there.labels, bank.images_uint8, bank.labels)
        cosines.append(cosine(gradient, way))
        progress(len(here))
    assert real.labels is not None and fake.labels is not None
    joined = {
        name: (torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs]))
        for name, pairs in logits.items()
    }
    numbers = tell_apart(guide, joined, real.labels.to(device), fake.labels.to(device))
    del numbers["accuracy_attacked"]  # by the attack on realness, which is no attack on the class
    numbers["accuracy_robust"] = torch.cat(robust).float().mean().item()
    for name, parts in (("low_frequency_share", shares), ("cosine_to_nearest", cosines)):
        values = torch.cat(parts).tolist()
        numbers[name] = statistics.fmean(values)
        numbers[f"{name}_std"] = statistics.pstdev(values)
    return numbers


def table(rows: Sequence[dict[str, Any]], noise: float) -> str:
    """Return a Markdown table, one row per guide, and one of what chance would give."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in rows:
        lines.append(
            f"| {row['guide']} | " + " | ".join(f"{row[key]:.3f}" for key in COLUMNS) + " |"
        )
    return "\n".join([*lines, f"| white noise | | | 0.500 | | {noise:.3f} | 0.000 |"])


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except (InputError, OSError) as error:
        print(f"assess: {error}", file=sys.stderr)
        sys.exit(2)
