"""The loss of diffusion models is least for the exact denoiser; noise levels are as asked."""

import math

import pytest
import torch
from torch import nn

from burnish.generators.scalings import Scalings
from burnish.samples import Samples
from burnish.training.losses.denoising import DenoisingLoss, lognormal_sigmas

# Data N(mu, s^2) per pixel.
MU, S = 0.1, 0.2


def gaussian_batch(count):
    """Samples whose images, in [-1, 1], are N(MU, S^2) in each pixel."""
    values = MU + S * torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    return Samples((values / 2 + 0.5).clamp(0, 1), None, torch.arange(count))


class Gaussian(nn.Module):
    """The denoiser of such data; ``scale`` and ``shift`` spoil it."""

    def __init__(self, scale=1.0, shift=0.0):
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, noisy, sigma, labels):
        gain = (S**2 / (S**2 + sigma**2)).view(-1, 1, 1, 1)
        return MU + self.scale * gain * (noisy - MU) + self.shift


def test_denoising_loss_is_least_for_the_exact_denoiser():
    loss, batch = DenoisingLoss(Scalings(sigma_data=S)), gaussian_batch(4096)

    def value(**spoilt):
        torch.manual_seed(0)  # the same noise for all
        return loss(Gaussian(**spoilt), batch, 0)[0].item()

    # The weighting makes the least loss 1 at every noise level; six standard errors.
    assert value() == pytest.approx(1, abs=6 * (2 / batch.images.numel()) ** 0.5)
    for spoilt in ({"scale": 0.9}, {"scale": 1.1}, {"shift": 0.03}, {"shift": -0.03}):
        assert value(**spoilt) > value() + 0.005


def test_noise_levels_are_lognormal_and_within_the_range():
    sigmas = lognormal_sigmas(20_000, -0.5, 1.5, Scalings())
    logs = sigmas.log()
    assert logs.mean().item() == pytest.approx(-0.5, abs=0.05)
    assert logs.std().item() == pytest.approx(1.5, abs=0.05)
    narrow = Scalings(sigma_min=0.5, sigma_max=0.7)
    ends = lognormal_sigmas(1000, -0.5, 1.5, narrow)
    assert ends.min().item() == pytest.approx(0.5) and ends.max().item() == pytest.approx(0.7)
    assert math.isfinite(ends.sum().item())
