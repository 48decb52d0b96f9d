"""The loss of a consistency model, trained from data or distilled from a denoiser.

With noise levels :math:`t > r` of one trajectory, the loss is the distance between the consistency
function :math:`f` at both, divided by their gap:

    d(f(x_t, t), sg f(x_r, r)) / (t - r)

where sg stops the gradient. Training takes x_r = x + r z from the same data and noise as
x_t = x + t z: Song et al. 2023, "Consistency Models", equation 10,
https://arxiv.org/abs/2303.01469. Distillation takes x_r from one Heun step of the teacher's
probability-flow ODE: equation 7 there. Pairs of noise levels are continuous, r / t = 1 -
n(t) / q^stage with n(t) = 1 + k sigmoid(-b t): Geng et al. 2024, "Consistency Models Made Easy",
https://arxiv.org/abs/2406.14548. The distance d is the pseudo-Huber one: Song & Dhariwal 2023,
"Improved Techniques for Training Consistency Models", equation 8,
https://arxiv.org/abs/2310.14189.
"""

import torch
from torch import Tensor, nn

from burnish.generators.diffusion import heun_step
from burnish.generators.scalings import Preconditioned, Scalings
from burnish.samples import Samples
from burnish.training.losses.denoising import lognormal_sigmas

__all__ = ["ConsistencyLoss", "pseudo_huber"]


class ConsistencyLoss:
    """Mean distance between the consistency function at two noise levels of one trajectory.

    Args:
        scalings: The noise range.
        num_steps: Length of the training; the pairs grow closer with its progress.
        teacher: A denoiser to distil; None trains from data alone.
        sigma_mean: Mean of ln(t).
        sigma_std: Standard deviation of ln(t).
        num_stages: How many times the gap between t and r shrinks over the training.
        shrink: q, the factor of one shrinking.
        widen: k, how much wider the gap is at low noise.
        bend: b, how fast that widening ends as t grows.
    """

    def __init__(
        self,
        scalings: Scalings,
        num_steps: int,
        teacher: Preconditioned | None = None,
        sigma_mean: float = -0.8,
        sigma_std: float = 1.8,
        num_stages: int = 6,
        shrink: float = 2.0,
        widen: float = 8.0,
        bend: float = 1.0,
    ) -> None:
        self.scalings, self.num_steps, self.teacher = scalings, num_steps, teacher
        self.sigma_mean, self.sigma_std = sigma_mean, sigma_std
        self.num_stages, self.shrink, self.widen, self.bend = num_stages, shrink, widen, bend

    def pairs(self, count: int, step: int) -> tuple[Tensor, Tensor]:
        """Draw ``count`` pairs of noise levels t > r >= sigma_min, ``[count]`` each."""
        t = lognormal_sigmas(count, self.sigma_mean, self.sigma_std, self.scalings)
        t = t.clamp(min=self.scalings.sigma_min * 1.01)
        stage = 1 + min(self.num_stages - 1, step * self.num_stages // self.num_steps)
        gap = (1 + self.widen * torch.sigmoid(-self.bend * t)) / self.shrink**stage
        r = (t * (1 - gap)).clamp(min=self.scalings.sigma_min)
        return t, r

    def __call__(
        self, model: nn.Module, batch: Samples, step: int
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch and the numbers to log."""
        clean, labels = batch.images * 2 - 1, batch.labels
        t, r = (sigma.to(clean.device) for sigma in self.pairs(len(batch), step))
        noise = torch.randn(clean.shape).to(clean.device)
        noisy = clean + t.view(-1, 1, 1, 1) * noise
        with torch.no_grad():
            if self.teacher is None:
                nearer = clean + r.view(-1, 1, 1, 1) * noise
            else:
                nearer = heun_step(self.teacher, noisy, t, r, labels)
            target = model(nearer, r, labels)
        distance = pseudo_huber(model(noisy, t, labels), target)
        return (distance / (t - r)).mean(), {"distance": distance.detach().mean().item()}


def pseudo_huber(images: Tensor, others: Tensor) -> Tensor:
    """Return sqrt(||x - y||^2 + c^2) - c with c = 0.00054 sqrt(C H W), ``[B]``."""
    squared = (images - others).square().flatten(1).sum(1)
    offset = 0.00054 * images[0].numel() ** 0.5
    return (squared + offset**2).sqrt() - offset
