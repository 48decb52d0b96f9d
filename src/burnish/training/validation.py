"""Training a joint model: its data, its validation, and the card of the finished guide."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from burnish.guide.model import Guide
from burnish.samples import Samples
from burnish.training.config import AttackConfig, JointConfig
from burnish.training.losses.joint import JointLoss, area_under_curve, attack_fake, attack_real

__all__ = ["attacked_logits", "joint_loss", "realness_card", "tell_apart", "validate_joint"]

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
    fixed = replace(config.fake_attack, num_steps=VALIDATION_STEPS)

    def validate(guide: Guide) -> dict[str, float]:
        guide = guide.frozen()
        device = next(guide.parameters()).device
        here, there = real.to(device), fake.to(device)
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
    fake: Samples,
    real_attack: AttackConfig,
    fake_attack: AttackConfig,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the logits ``[B, K]`` of real and of generated images, ``clean`` and ``attacked``.

    Args:
        guide: In eval mode.
        real: Real images with their labels; attacked, they are made to look fake.
        fake: Generated images with theirs; attacked, they are made to look real.
        real_attack: On the real ones.
        fake_attack: On the generated ones; not stopped early.
    """
    pushed_real = attack_real(guide, real, real_attack)
    pushed_fake, _ = attack_fake(guide, fake, fake_attack, fake_attack.num_steps)
    with torch.no_grad():
        return {
            "clean": (guide(real.images), guide(fake.images)),
            "attacked": (guide(pushed_real), guide(pushed_fake)),
        }


def tell_apart(
    guide: Guide,
    logits: Mapping[str, tuple[Tensor, Tensor]],
    real_labels: Tensor,
    fake_labels: Tensor,
) -> dict[str, float]:
    """Return what logits of real and generated images say of a guide, for each pair of them.

    Args:
        guide: Whose logits they are.
        logits: Name -> (of real images ``[N, K]``, of generated ones ``[M, K]``).
        real_labels: ``[N]``.
        fake_labels: ``[M]``.

    Returns:
        For each name: ``accuracy_`` on the real ones, ``auc_`` of realness between the two,
        ``realness_real_`` and ``realness_fake_``, their means.
    """
    numbers: dict[str, float] = {}
    for name, (of_real, of_fake) in logits.items():
        real_level = guide.realness_of(of_real, real_labels)
        fake_level = guide.realness_of(of_fake, fake_labels)
        hits = of_real.argmax(1) == real_labels
        numbers[f"accuracy_{name}"] = hits.float().mean().item()
        numbers[f"auc_{name}"] = area_under_curve(real_level, fake_level)
        numbers[f"realness_real_{name}"] = real_level.mean().item()
        numbers[f"realness_fake_{name}"] = fake_level.mean().item()
    return numbers


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
