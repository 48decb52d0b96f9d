"""The loss of a VAE against torch.distributions."""

import math

import pytest
import torch
from torch import nn

from burnish.samples import Samples
from burnish.training.losses.elbo import ElboLoss


class Codec(nn.Module):
    """Decodes to gray, whatever the image; its posterior is the same for all."""

    def forward(self, images, labels, noise):
        mean = torch.tensor([0.5, -1.0, 0.0]).expand(len(images), 3)
        log_variance = torch.tensor([0.2, -0.7, 0.0]).expand(len(images), 3)
        return torch.full_like(images, 0.5), mean, log_variance


def test_the_loss_is_the_negative_bound_in_closed_form():
    batch = Samples(torch.rand(24, 1, 8, 8), torch.arange(24) % 4, torch.arange(24))
    posterior = torch.distributions.Normal(
        torch.tensor([0.5, -1.0, 0.0]), torch.tensor([0.2, -0.7, 0.0]).mul(0.5).exp()
    )
    prior = torch.distributions.Normal(torch.zeros(3), torch.ones(3))
    divergence = torch.distributions.kl_divergence(posterior, prior).sum().item()

    def value(kl_weight, noise_std=None):
        return ElboLoss(3, kl_weight, noise_std)(Codec(), batch, 0)[0].item()

    std = (batch.images - 0.5).square().mean().sqrt().item()
    gray = torch.distributions.Normal(torch.tensor(0.5), torch.tensor(0.2))
    expected = -gray.log_prob(batch.images).mean().item() - math.log(2 * math.pi) / 2
    assert value(0.0, 0.2) == pytest.approx(expected, rel=1e-4)
    # The width of its own is the best one, where the squared error is worth a half.
    assert value(0.0) + 0.5 == pytest.approx(value(0.0, std), rel=1e-4)
    assert all(value(0.0, std * factor) > value(0.0, std) for factor in (0.9, 1.1))
    assert value(3.0) - value(0.0) == pytest.approx(3 * divergence / 64, rel=1e-4)
