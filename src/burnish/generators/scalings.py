"""Noise levels and the scalings around a network, for losses and samplers alike.

Data are in [-1, 1]; ``sigma`` is the standard deviation of the added noise. Sources: Karras et al.
2022 (EDM), "Elucidating the Design Space of Diffusion-Based Generative Models", table 1, equation
5, https://arxiv.org/abs/2206.00364; Song et al. 2023, "Consistency Models", appendix C,
https://arxiv.org/abs/2303.01469.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Scalings:
    """The range of noise levels and what follows from it.

    Args:
        sigma_min: Smallest noise level, above 0; a consistency function is the identity there.
        sigma_max: Largest noise level, where sampling begins.
        sigma_data: Standard deviation of the data in [-1, 1].
        rho: Curvature of the sampling schedule (EDM equation 5).
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.5
    rho: float = 7.0

    def schedule(self, num_steps: int, num_train_timesteps: int = 40) -> list[float]:
        r"""Return ``num_steps`` falling noise levels, from sigma_max on.

        A table of N = ``num_train_timesteps`` levels (EDM equation 5) is read at equal strides, as
        ``CMStochasticIterativeScheduler`` of diffusers does:

        .. math:: \sigma_i = (\sigma_{max}^{1/\rho}
            + \frac{i}{N-1} (\sigma_{min}^{1/\rho} - \sigma_{max}^{1/\rho}))^\rho
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
        """Return 250 ln(sigma), the noise level as an input of the network."""
        return 250 * torch.log(sigma)

    def denoiser(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return (c_skip, c_out) of a denoiser, which estimates the mean image (EDM table 1)."""
        total = sigma**2 + self.sigma_data**2
        return self.sigma_data**2 / total, sigma * self.sigma_data * total.rsqrt()

    def boundary(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return (c_skip, c_out) of a consistency function: exactly (1, 0) at sigma_min."""
        above = sigma - self.sigma_min
        c_skip = self.sigma_data**2 / (above**2 + self.sigma_data**2)
        return c_skip, above * self.sigma_data * (sigma**2 + self.sigma_data**2).rsqrt()


class Preconditioned(nn.Module):
    r"""A U-Net :math:`F` with scalings around it.

    .. math:: c_{skip} x + c_{out} F(c_{in} x, c_{noise}, y)

    Args:
        unet: A ``UNet2DModel`` of diffusers, class-conditional if it has class embeddings.
        scalings: The range of noise levels.
        consistent: Take the scalings of a consistency function (True) or of a denoiser (False).
    """

    def __init__(self, unet: nn.Module, scalings: Scalings, consistent: bool) -> None:
        super().__init__()
        self.unet, self.scalings, self.consistent = unet, scalings, consistent

    def forward(self, noisy: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """Return the estimate of the clean image.

        Args:
            noisy: ``[B, C, H, W]``, data in [-1, 1] plus noise.
            sigma: ``[B]`` float32, its noise level, in [sigma_min, sigma_max].
            labels: ``[B]`` int64; None without classes.
        """
        scalings = self.scalings
        factors = (scalings.boundary if self.consistent else scalings.denoiser)(sigma)
        c_skip, c_out, c_in = (c.view(-1, 1, 1, 1) for c in (*factors, scalings.c_in(sigma)))
        hidden = self.unet(noisy * c_in, scalings.c_noise(sigma), class_labels=labels).sample
        return c_skip * noisy + c_out * hidden.float()
