"""Training losses of the diffusion teacher and of consistency models.

* Denoising: Karras et al. 2022 (EDM), equation 8 with the weighting of table 1.
* Consistency training: Song et al. 2023, equation 10, with the continuous pairing of noise levels
  of Geng et al. 2024 (ECT): r / t = 1 - n(t) / q^stage, n(t) = 1 + k sigmoid(-b t).
* Consistency distillation: Song et al. 2023, equation 7: the point at r is reached from the point
  at t by one Heun step of the teacher's probability-flow ODE instead of by the data itself.

The distance is the pseudo-Huber one, sqrt(|d|^2 + c^2) - c with c = 0.00054 sqrt(C H W) (Song &
Dhariwal 2023, equation 8), divided by t - r.
"""

import torch
from torch import Tensor, nn

from burnish.generators.scalings import Preconditioned, Scalings, lognormal_sigmas
from burnish.samples import Samples
from burnish.seeds import Streams

__all__ = ["ConsistencyLoss", "DenoisingLoss", "ImitationLoss"]


class DenoisingLoss:
    """Mean weighted squared error of the denoiser at random noise levels.

    Args:
        scalings: The noise range.
        sigma_mean: Mean of ln(sigma).
        sigma_std: Standard deviation of ln(sigma).
    """

    def __init__(
        self, scalings: Scalings, sigma_mean: float = -1.2, sigma_std: float = 1.2
    ) -> None:
        self.scalings, self.sigma_mean, self.sigma_std = scalings, sigma_mean, sigma_std

    def __call__(
        self, model: nn.Module, batch: Samples, step: int
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch and the numbers worth a log line."""
        clean = batch.images * 2 - 1
        sigma = lognormal_sigmas(len(batch), self.sigma_mean, self.sigma_std, self.scalings)
        sigma = sigma.to(clean.device)
        noise = torch.randn(clean.shape).to(clean.device)
        denoised = model(clean + sigma.view(-1, 1, 1, 1) * noise, sigma, batch.labels)
        sigma_data = self.scalings.sigma_data
        weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
        loss = (weight.view(-1, 1, 1, 1) * (denoised - clean) ** 2).mean()
        return loss, {}


class ConsistencyLoss:
    """Distance between the consistency function at two noise levels of one trajectory.

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
        """Return the loss of a batch and the numbers worth a log line."""
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


class ImitationLoss:
    """Distance of the one-step image of a seed to a given image of that seed.

    L = d(f(sigma_max z, sigma_max), x), z the noise that sampling draws for the seed: so a model
    learns to make at once what it was shown, e.g. its own images refined.

    Args:
        scalings: The noise range.
        first_seed: Seed of the image with id 0; image i belongs to seed first_seed + i.
    """

    def __init__(self, scalings: Scalings, first_seed: int) -> None:
        self.scalings, self.first_seed = scalings, first_seed

    def __call__(
        self, model: nn.Module, batch: Samples, step: int
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch and the numbers worth a log line."""
        del step
        wanted = batch.images * 2 - 1
        seeds = (self.first_seed + batch.ids).tolist()
        noise = Streams(seeds, "noise").normal(wanted.shape[1:]).to(wanted.device)
        levels = torch.full((len(batch),), self.scalings.sigma_max, device=wanted.device)
        made = model(self.scalings.sigma_max * noise, levels, batch.labels)
        distance = pseudo_huber(made, wanted)
        return distance.mean(), {"distance": distance.detach().mean().item()}


def pseudo_huber(images: Tensor, others: Tensor) -> Tensor:
    """Return sqrt(|x - y|^2 + c^2) - c, ``[B]``, c = 0.00054 sqrt(C H W)."""
    squared = (images - others).square().flatten(1).sum(1)
    offset = 0.00054 * images[0].numel() ** 0.5
    return (squared + offset**2).sqrt() - offset


def heun_step(
    denoise: nn.Module, noisy: Tensor, t: Tensor, r: Tensor, labels: Tensor | None
) -> Tensor:
    """Move images from noise level t to r along the probability-flow ODE (EDM algorithm 1).

    Args:
        denoise: ``(noisy, sigma, labels) -> denoised``.
        noisy: ``[B, C, H, W]`` at level t.
        t: ``[B]`` noise levels.
        r: ``[B]`` lower noise levels, above 0.
        labels: ``[B]`` or None.
    """
    t_, r_ = t.view(-1, 1, 1, 1), r.view(-1, 1, 1, 1)
    slope = (noisy - denoise(noisy, t, labels)) / t_
    euler = noisy + (r_ - t_) * slope
    slope_there = (euler - denoise(euler, r, labels)) / r_
    return noisy + (r_ - t_) * (slope + slope_there) / 2
