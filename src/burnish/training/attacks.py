"""Attacks on a guide in training and in validation: PGD on its logits, inside a ball.

Attacks ascend the logit itself. The gradient of the loss is the logit's times sigma(f_v) / B,
which vanishes for a confident model.
"""

from torch import Tensor

from burnish.ascent.balls import ball_of
from burnish.ascent.loop import climb
from burnish.ascent.step import Objective
from burnish.guide.model import Guide
from burnish.guide.objectives import objective_of
from burnish.samples import Samples
from burnish.training.config import AttackConfig

__all__ = ["attack_generated", "attack_real"]


def attack_real(guide: Guide, real: Samples, attack: AttackConfig) -> Tensor:
    """Make real images look generated: lower the objective inside the ball.

    Args:
        guide: In eval mode.
        real: Real images with their labels.
        attack: Objective, ball, step size and number of steps.

    Returns:
        The attacked images ``[B, C, H, W]``.
    """
    images, _ = _climb(guide, real, attack, attack.num_steps, -1)
    return images


def attack_generated(
    guide: Guide,
    generated: Samples,
    attack: AttackConfig,
    num_steps: int | None = None,
    threshold: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Make generated images look real: raise the objective inside the ball.

    Args:
        guide: In eval mode.
        generated: Generated images with the labels they were made for.
        attack: Objective, ball, step size and number of steps.
        num_steps: Steps per image, at most; None for those of ``attack``.
        threshold: ``[B]``; an image whose largest logit has reached its entry makes no further
            step. (The sigmoid is monotone, so comparing logits is comparing probabilities.)

    Returns:
        The attacked images ``[B, C, H, W]`` and the steps each one made, ``[B]`` int64.
    """
    most = attack.num_steps if num_steps is None else num_steps
    return _climb(guide, generated, attack, most, 1, threshold)


def _climb(
    guide: Guide,
    samples: Samples,
    attack: AttackConfig,
    num_steps: int,
    sign: int,
    threshold: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    assert samples.labels is not None and attack.step_size is not None
    return climb(
        _signed(guide, attack.objective, sign), samples.images, samples.labels,
        ball=ball_of(attack.norm, attack.eps), step_size=attack.step_size, num_steps=num_steps,
        random_start=attack.random_start, threshold=threshold,
    )  # fmt: skip


def _signed(guide: Guide, name: str, sign: int) -> Objective:
    """Return sign times an objective, watching the largest logit."""
    function = objective_of(name)

    def objective(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = guide(images)
        return sign * function(logits, labels), logits.detach().amax(1)

    return objective
