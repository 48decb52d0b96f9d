"""Attacks on a guide in training and in validation: PGD on its logits, inside a ball.

Attacks ascend the logit itself. The gradient of the loss is the logit's times sigma(f_v) / B,
which vanishes for a confident model.
"""

from torch import Tensor

from burnish.ascent.balls import ball_of
from burnish.ascent.loop import climb
from burnish.guide.model import Guide
from burnish.guide.objectives import objective_of
from burnish.samples import Samples
from burnish.training.config import AttackConfig


def attack_real(guide: Guide, real: Samples, attack: AttackConfig) -> Tensor:
    """Return real images ``[B, C, H, W]`` made to look generated: the objective is lowered.

    The guide is in eval mode, here and below.
    """
    return _climb(guide, real, attack, -1, None)[0]


def attack_generated(
    guide: Guide, generated: Samples, attack: AttackConfig, threshold: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return generated images ``[B, C, H, W]`` made to look real, and the steps each one made.

    The objective is raised. An image whose largest logit has reached its entry of the threshold,
    ``[B]``, makes no further step. (The sigmoid is monotone, so comparing logits is comparing
    probabilities.)
    """
    return _climb(guide, generated, attack, 1, threshold)


def _climb(
    guide: Guide, samples: Samples, attack: AttackConfig, sign: int, threshold: Tensor | None
) -> tuple[Tensor, Tensor]:
    function = objective_of(attack.objective)

    def objective(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = guide(images)
        return sign * function(logits, labels), logits.detach().amax(1)

    assert samples.labels is not None and attack.step_size is not None
    return climb(
        objective, samples.images, samples.labels, ball=ball_of(attack.norm, attack.eps),
        step_size=attack.step_size, num_steps=attack.num_steps,
        random_start=attack.random_start, threshold=threshold,
    )  # fmt: skip
