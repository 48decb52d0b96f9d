"""Noise levels and the scalings around a network, one definition for losses and samplers.

Sources: Karras et al. 2022 (EDM), table 1 and equation 5; Song et al. 2023 (consistency models),
appendix C. Data live in [-1, 1] here; ``sigma`` is the standard deviation of the noise added.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Preconditioned", "Scalings"]


@dataclass(frozen=True)
class Scalings:
    """The noise range and what follows from it.

    Args:
        sigma_min: Smallest noise level, above 0; there a consistency function is the identity.
        sigma_max: Largest noise level, where sampling begins.
        sigma_data: Standard deviation of the data in [-1, 1].
        rho: Bend of the sampling schedule (EDM equation 5).
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.5
    rho: float = 7.0

    def schedule(self, num_steps: int, num_train_timesteps: int = 40) -> list[float]:
        """Return ``num_steps`` falling noise levels, from sigma_max on.

        They are the levels of a table of ``num_train_timesteps`` (EDM equation 5) taken at equal
        strides, which is how diffusers' ``CMStochasticIterativeScheduler`` picks them.
        """
        stride = num_train_timesteps // num_steps
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        last = max(1, num_train_timesteps - 1)
        ramp = [step * stride / last for step in range(num_steps)]
        return [(high + at * (low - high)) ** self.rho for at in ramp]

    def c_in(self, sigma: Tensor) -> Tensor:
        """Return 1 / sqrt(sigma^2 + sigma_data^2): the network sees unit variance."""
        return (sigma**2 + self.sigma_data**2).rsqrt()

    def c_noise(self, sigma: Tensor) -> Tensor:
        """Return 250 ln(sigma), what the network is told of the noise."""
        return 250 * torch.log(sigma)

    def denoiser(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return (c_skip, c_out) of a denoiser, the estimate of the mean (EDM table 1)."""
        total = sigma**2 + self.sigma_data**2
        return self.sigma_data**2 / total, sigma * self.sigma_data * total.rsqrt()

    def boundary(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return (c_skip, c_out) of a consistency function: (1, 0) at sigma_min exactly."""
        above = sigma - self.sigma_min
        c_skip = self.sigma_data**2 / (above**2 + self.sigma_data**2)
        return c_skip, above * self.sigma_data * (sigma**2 + self.sigma_data**2).rsqrt()


class Preconditioned(nn.Module):
    """A U-Net with the scalings around it: c_skip x + c_out F(c_in x, c_noise, labels).

    Args:
        unet: diffusers' ``UNet2DModel``, class-conditional if it has class embeddings.
        scalings: The noise range.
        consistent: Use the boundary scalings (a consistency function) or those of a denoiser.
    """

    def __init__(self, unet: nn.Module, scalings: Scalings, consistent: bool) -> None:
        super().__init__()
        self.unet, self.scalings, self.consistent = unet, scalings, consistent

    def forward(self, noisy: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """Return the estimate of the clean image.

        Args:
            noisy: ``[B, C, H, W]``, data in [-1, 1] plus noise.
            sigma: ``[B]`` float32, its noise level, in [sigma_min, sigma_max].
            labels: ``[B]`` int64, or None without classes.
        """
        scalings = self.scalings
        c_skip, c_out = (scalings.boundary if self.consistent else scalings.denoiser)(sigma)
        hidden = self.unet(
            noisy * _spread(scalings.c_in(sigma)), scalings.c_noise(sigma), class_labels=labels
        ).sample
        return _spread(c_skip) * noisy + _spread(c_out) * hidden.float()


def _spread(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def lognormal_sigmas(count: int, mean: float, std: float, scalings: Scalings) -> Tensor:
    """Draw noise levels with ln(sigma) ~ N(mean, std^2), kept within the range; ``[count]``."""
    low, high = math.log(scalings.sigma_min), math.log(scalings.sigma_max)
    return (mean + std * torch.randn(count)).clamp(low, high).exp()
