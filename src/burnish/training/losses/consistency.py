"""Losses of consistency models: of their teachers, from data or a teacher, from given images."""

import math

import torch
from torch import Tensor, nn

from burnish.generators.diffusion import heun_step
from burnish.generators.unet import Preconditioned, Scalings
from burnish.samples import Samples
from burnish.seeds import Streams
from burnish.training.config import ConsistencyConfig, TeacherConfig

Value = tuple[Tensor, dict[str, float]]  # of a loss, with numbers to log


class DenoisingLoss:
    r"""Mean weighted squared error of a denoiser :math:`D` at random noise levels.

    .. math:: E\; \frac{\sigma^2 + \sigma_d^2}{(\sigma \sigma_d)^2} (D(x + \sigma z, \sigma) - x)^2

    with :math:`z \sim N(0, I)` and :math:`\ln \sigma \sim N(mean, std^2)`. Karras et al. 2022,
    "Elucidating the Design Space of Diffusion-Based Generative Models", equation 8 with the
    weighting of table 1, https://arxiv.org/abs/2206.00364.
    """

    def __init__(self, config: TeacherConfig, scalings: Scalings) -> None:
        self.config, self.scalings = config, scalings

    def __call__(self, model: nn.Module, batch: Samples, step: int) -> Value:
        """Return the loss of a batch and the numbers to log."""
        config, sigma_data = self.config, self.scalings.sigma_data
        clean = batch.images * 2 - 1
        sigma = lognormal_sigmas(len(batch), config.sigma_mean, config.sigma_std, self.scalings)
        sigma = sigma.to(clean.device)
        noise = torch.randn(clean.shape).to(clean.device)
        denoised = model(clean + sigma.view(-1, 1, 1, 1) * noise, sigma, batch.labels)
        weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
        return (weight.view(-1, 1, 1, 1) * (denoised - clean) ** 2).mean(), {}


class ConsistencyLoss:
    r"""Mean distance between the consistency function at two noise levels of one trajectory.

    With noise levels :math:`t > r`, the distance of the consistency function :math:`f` at both is
    divided by their gap; sg stops the gradient:

    .. math:: d(f(x_t, t), \mathrm{sg} f(x_r, r)) / (t - r)

    With a teacher, :math:`x_r` comes from one Heun step of its probability-flow ODE from
    :math:`x_t = x + t z`; without, :math:`x_r = x + r z`. Song et al. 2023, "Consistency Models",
    equations 7 and 10, https://arxiv.org/abs/2303.01469. Noise levels are continuous,
    :math:`r / t = 1 - n(t) / 2^{stage}` with :math:`n(t) = 1 + 8 \sigma(-t)`, and grow closer in
    stages of equal length: Geng et al. 2024, "Consistency Models Made Easy",
    https://arxiv.org/abs/2406.14548. The distance is :func:`pseudo_huber`.
    """

    def __init__(
        self, config: ConsistencyConfig, scalings: Scalings, teacher: Preconditioned | None = None
    ) -> None:
        self.config, self.scalings, self.teacher = config, scalings, teacher

    def pairs(self, count: int, step: int) -> tuple[Tensor, Tensor]:
        """Draw ``count`` pairs of noise levels t > r >= sigma_min, ``[count]`` each."""
        config, least = self.config, self.scalings.sigma_min
        t = lognormal_sigmas(count, config.sigma_mean, config.sigma_std, self.scalings)
        t = t.clamp(min=least * 1.01)
        num_stages = config.num_stages
        stage = 1 + min(num_stages - 1, step * num_stages // config.training.num_steps)
        gap = (1 + 8 * torch.sigmoid(-t)) / 2**stage
        return t, (t * (1 - gap)).clamp(min=least)

    def __call__(self, model: nn.Module, batch: Samples, step: int) -> Value:
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


class SelfDistillationLoss:
    r"""Distance of the one-step image of a seed to a given image of that seed.

    .. math:: d(f(\sigma_{max} z, \sigma_{max}), x)

    with :math:`z` the noise that sampling draws for the seed and :math:`d` the pseudo-Huber
    distance. So a model learns to make at once what it was shown. The image with id i belongs to
    seed ``first_seed + i``.
    """

    def __init__(self, scalings: Scalings, first_seed: int) -> None:
        self.sigma_max, self.first_seed = scalings.sigma_max, first_seed

    def __call__(self, model: nn.Module, batch: Samples, step: int) -> Value:
        """Return the loss of a batch and the numbers to log."""
        wanted = batch.images * 2 - 1
        seeds = (self.first_seed + batch.ids).tolist()
        noise = Streams(seeds, "noise").normal(wanted.shape[1:]).to(wanted.device)
        levels = torch.full((len(batch),), self.sigma_max, device=wanted.device)
        distance = pseudo_huber(model(self.sigma_max * noise, levels, batch.labels), wanted)
        return distance.mean(), {"distance": distance.detach().mean().item()}


def pseudo_huber(images: Tensor, others: Tensor) -> Tensor:
    """Return sqrt(||x - y||^2 + c^2) - c with c = 0.00054 sqrt(C H W), ``[B]``.

    Song & Dhariwal 2023, "Improved Techniques for Training Consistency Models", equation 8,
    https://arxiv.org/abs/2310.14189.
    """
    squared = (images - others).square().flatten(1).sum(1)
    offset = 0.00054 * images[0].numel() ** 0.5
    return (squared + offset**2).sqrt() - offset


def lognormal_sigmas(count: int, mean: float, std: float, scalings: Scalings) -> Tensor:
    """Draw noise levels with ln(sigma) ~ N(mean, std^2), clamped to the range; ``[count]``."""
    low, high = math.log(scalings.sigma_min), math.log(scalings.sigma_max)
    return (mean + std * torch.randn(count)).clamp(low, high).exp()
