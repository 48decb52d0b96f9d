"""The loss of a diffusion model, and how noise levels are drawn in training."""

import math

import torch
from torch import Tensor, nn

from burnish.generators.scalings import Scalings
from burnish.samples import Samples

__all__ = ["DenoisingLoss", "lognormal_sigmas"]


class DenoisingLoss:
    r"""Mean weighted squared error of a denoiser :math:`D` at random noise levels.

    .. math:: E\; \frac{\sigma^2 + \sigma_d^2}{(\sigma \sigma_d)^2} (D(x + \sigma z, \sigma) - x)^2

    with :math:`z \sim N(0, I)` and :math:`\ln \sigma \sim N(mean, std^2)`. Karras et al. 2022,
    "Elucidating the Design Space of Diffusion-Based Generative Models", equation 8 with the
    weighting of table 1, https://arxiv.org/abs/2206.00364.

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
        """Return the loss of a batch and the numbers to log."""
        del step
        clean = batch.images * 2 - 1
        sigma = lognormal_sigmas(len(batch), self.sigma_mean, self.sigma_std, self.scalings)
        sigma = sigma.to(clean.device)
        noise = torch.randn(clean.shape).to(clean.device)
        denoised = model(clean + sigma.view(-1, 1, 1, 1) * noise, sigma, batch.labels)
        sigma_data = self.scalings.sigma_data
        weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
        loss = (weight.view(-1, 1, 1, 1) * (denoised - clean) ** 2).mean()
        return loss, {}


def lognormal_sigmas(count: int, mean: float, std: float, scalings: Scalings) -> Tensor:
    """Draw noise levels with ln(sigma) ~ N(mean, std^2), clamped to the range; ``[count]``."""
    low, high = math.log(scalings.sigma_min), math.log(scalings.sigma_max)
    return (mean + std * torch.randn(count)).clamp(low, high).exp()
