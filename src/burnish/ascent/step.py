"""One step of the ascent: the gradient of an objective, and what is done with it.

    PGD    x <- clamp(project(x + step_size * P g / ||P g||))
    SGLD   x <- clamp(project(x + step_size * P g + noise_std * z)),  z ~ N(0, I)

with ``g`` the gradient of the objective at ``x`` and ``P`` the preconditioner, if there is one
(:mod:`burnish.ascent.spectrum`). PGD: Madry et al. 2018, "Towards Deep Learning
Models Resistant to Adversarial Attacks", section 2.1, https://arxiv.org/abs/1706.06083. SGLD:
Welling & Teh 2011, "Bayesian Learning via Stochastic Gradient Langevin Dynamics", equation 4.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.ascent.balls import Ball
from burnish.ascent.spectrum import Filter

# (images [B, C, H, W], labels [B]) -> (values [B], watched [B]). The values are maximized. The
# watched numbers are what stop rules read; they come from the same pass, and no gradient is taken.
Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def value_and_gradient(
    objective: Objective, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient with respect to each image, the values and the watched numbers.

    The gradient is that of the sum over the batch, never the mean, so that an image's gradient
    does not depend on its neighbors.

    Args:
        objective: Maximized.
        images: ``[B, C, H, W]``.
        labels: ``[B]``, passed to the objective.
    """
    with torch.enable_grad():
        points = images.detach().requires_grad_()
        values, watched = objective(points, labels)
        (gradient,) = torch.autograd.grad(values.sum(), points)
    return gradient, values.detach(), watched.detach()


@dataclass(frozen=True)
class Step:
    """What is done with a gradient."""

    ball: Ball
    step_size: float
    """Length of the step if it is normalized, else the factor on the gradient."""
    normalized: bool = True
    """PGD; without it SGLD."""
    noise_std: float = 0.0
    """Standard deviation of the noise, per value."""
    clamp: bool = True
    """Clamp to [0, 1] after every step; the loop clamps finished images in any case."""
    precondition: Filter | None = None
    """What the gradient is multiplied by first; None for nothing."""

    def __call__(
        self, images: Tensor, gradient: Tensor, center: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """Return the images ``[B, C, H, W]`` one step further; ``noise`` is standard normal."""
        if self.precondition is not None:
            gradient = self.precondition(gradient)
        move = self.step_size * (self.ball.normalize(gradient) if self.normalized else gradient)
        if noise is not None:
            move = move + self.noise_std * noise
        moved = self.ball.project(images + move, center)
        return moved.clamp(0, 1) if self.clamp else moved
