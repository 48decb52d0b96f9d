"""Training a joint model: its data, its validation, and the card of the finished guide."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from burnish.config import JointConfig
from burnish.guide.loss import JointLoss, area_under_curve, attack_fake, attack_real
from burnish.guide.model import Guide
from burnish.samples import Samples

__all__ = ["joint_loss", "realness_card", "validate_joint"]

# Fixed while the training attack grows, so that validations can be compared with each other.
VALIDATION_STEPS = 15


def joint_loss(config: JointConfig) -> JointLoss:
    """Return the loss that a configuration describes."""
    precision = {"bf16": "bfloat16", "fp16": "float16", "no": "float32"}
    return JointLoss(
        config.real_attack,
        config.fake_attack,
        config.growth,
        config.early_stop,
        config.batch_norm == "frozen",
        config.weights,
        precision[config.training.mixed_precision],
    )


def validate_joint(
    config: JointConfig, real: Samples, fake: Samples
) -> Callable[[Guide], dict[str, float]]:
    """Return a validation on held-out real and generated images.

    Its ``score`` is robust accuracy plus AUC under attack: what the model is as a classifier plus
    what it is as a discriminator, each when somebody works against it. The fake attack is not
    stopped early here.
    """

    def validate(guide: Guide) -> dict[str, float]:
        guide = guide.frozen()
        device = next(guide.parameters()).device
        here, there = real.to(device), fake.to(device)
        assert here.labels is not None and there.labels is not None
        torch.manual_seed(0)  # of the random start
        pushed_real = attack_real(guide, here, config.real_attack)
        pushed_fake, _ = attack_fake(guide, there, config.fake_attack, VALIDATION_STEPS)
        with torch.no_grad():
            logits = {
                "clean": (guide(here.images), guide(there.images)),
                "attacked": (guide(pushed_real), guide(pushed_fake)),
            }
        numbers: dict[str, float] = {}
        for name, (of_real, of_fake) in logits.items():
            real_level = guide.realness_of(of_real, here.labels)
            fake_level = guide.realness_of(of_fake, there.labels)
            hits = of_real.argmax(1) == here.labels
            numbers[f"accuracy_{name}"] = hits.float().mean().item()
            numbers[f"auc_{name}"] = area_under_curve(real_level, fake_level)
            numbers[f"realness_real_{name}"] = real_level.mean().item()
            numbers[f"realness_fake_{name}"] = fake_level.mean().item()
        numbers["score"] = numbers["accuracy_attacked"] + numbers["auc_attacked"]
        return numbers

    return validate


@torch.no_grad()
def realness_card(
    guide: Guide, real: Samples, source: str, batch_size: int = 500
) -> dict[str, Any]:
    """Return how real held-out real images look to the guide: 101 quantiles from 0 to 1."""
    assert real.labels is not None
    levels: list[Tensor] = []
    device = next(guide.parameters()).device
    for start in range(0, len(real), batch_size):
        part = real[slice(start, start + batch_size)].to(device)
        assert part.labels is not None
        levels.append(guide.realness(part.images, part.labels).cpu())
    quantiles = torch.cat(levels).double().quantile(torch.linspace(0, 1, 101, dtype=torch.float64))
    return {"quantiles": quantiles.tolist(), "num_images": len(real), "data": source}
