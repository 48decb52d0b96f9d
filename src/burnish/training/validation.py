"""What a joint model is worth on held-out real and generated images, clean and under attack."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from burnish.guide.model import Guide
from burnish.samples import Samples
from burnish.storage.datasets import Dataset
from burnish.storage.disk_dataset import DiskDataset
from burnish.training.config import AttackConfig, JointConfig
from burnish.training.losses.joint import area_under_curve, attack_generated, attack_real

# Fixed while the training attack grows, so that validations can be compared with each other.
VALIDATION_STEPS = 15
BATCH_SIZE = 500


def validate_joint(
    config: JointConfig, real: Samples, generated: Samples
) -> Callable[[Guide], dict[str, float]]:
    """Return a validation on held-out images with their labels.

    Its ``score`` is robust accuracy plus AUC under attack: what the model is as a classifier plus
    what it is as a discriminator. The attack on generated images has 15 steps and no early stop.
    """
    fixed = replace(config.generated_attack, num_steps=VALIDATION_STEPS)

    def validate(guide: Guide) -> dict[str, float]:
        guide = guide.frozen()
        device = next(guide.parameters()).device
        here, there = real.to(device), generated.to(device)
        torch.manual_seed(0)  # of the random start
        logits = attacked_logits(guide, here, there, config.real_attack, fixed)
        assert here.labels is not None and there.labels is not None
        numbers = tell_apart(guide, logits, here.labels, there.labels)
        numbers["score"] = numbers["accuracy_attacked"] + numbers["auc_attacked"]
        return numbers

    return validate


def attacked_logits(
    guide: Guide,
    real: Samples,
    generated: Samples,
    real_attack: AttackConfig,
    generated_attack: AttackConfig,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the logits ``[B, K]`` of real and of generated images, ``clean`` and ``attacked``."""
    real_images = attack_real(guide, real, real_attack)
    generated_images, _ = attack_generated(guide, generated, generated_attack)
    with torch.no_grad():
        return {
            "clean": (guide(real.images), guide(generated.images)),
            "attacked": (guide(real_images), guide(generated_images)),
        }


def tell_apart(
    guide: Guide,
    logits: Mapping[str, tuple[Tensor, Tensor]],
    real_labels: Tensor,
    generated_labels: Tensor,
) -> dict[str, float]:
    """Return how well a guide classifies real images and tells them from generated ones.

    For each name of logits, ``[N, K]`` of real and ``[M, K]`` of generated images: ``accuracy_``
    on the real ones, ``auc_`` of realness, ``realness_real_`` and ``realness_generated_``, means.
    """
    numbers: dict[str, float] = {}
    for name, (of_real, of_generated) in logits.items():
        real_level = guide.realness_of(of_real, real_labels)
        generated_level = guide.realness_of(of_generated, generated_labels)
        hits = of_real.argmax(1) == real_labels
        numbers[f"accuracy_{name}"] = hits.float().mean().item()
        numbers[f"auc_{name}"] = area_under_curve(real_level, generated_level)
        numbers[f"realness_real_{name}"] = real_level.mean().item()
        numbers[f"realness_generated_{name}"] = generated_level.mean().item()
    return numbers


@torch.no_grad()
def realness_card(guide: Guide, real: Dataset | DiskDataset) -> dict[str, Any]:
    """Return how real held-out real images look to the guide: 101 quantiles from 0 to 1."""
    parts = batches(real, next(guide.parameters()).device)
    levels = torch.cat([guide.realness(part.images, part.labels).cpu() for part in parts])
    quantiles = levels.double().quantile(torch.linspace(0, 1, 101, dtype=torch.float64))
    return {"quantiles": quantiles.tolist(), "num_images": len(real), "data": real.source}


def batches(data: Dataset | DiskDataset, device: torch.device | str) -> Iterator[Any]:
    """Yield the images of a data set in their order, as samples on a device."""
    for start in range(0, len(data), BATCH_SIZE):
        yield data.samples(slice(start, start + BATCH_SIZE)).to(device)
