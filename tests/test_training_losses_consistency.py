"""The losses of consistency models, against closed forms."""

from typing import Any

import pytest
import torch
from torch import nn

from burnish.generators.diffusion import heun_step
from burnish.generators.scalings import Scalings
from burnish.samples import Samples
from burnish.training.losses.consistency import ConsistencyLoss

SCALINGS = Scalings(sigma_max=60.0, sigma_data=0.6)
# Data N(mu, s^2) per pixel have closed forms for everything.
MU, S = 0.1, 0.2


def gaussian_batch(count):
    """Samples whose images, in [-1, 1], are N(MU, S^2) in each pixel."""
    values = MU + S * torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    return Samples((values / 2 + 0.5).clamp(0, 1), None, torch.arange(count))


class Gaussian(nn.Module):
    """The denoiser of such data."""

    def forward(self, noisy, sigma, labels):
        return MU + (S**2 / (S**2 + sigma**2)).view(-1, 1, 1, 1) * (noisy - MU)


class Trajectory(nn.Module):
    """The consistency function of such data: the end, at ``sigma_min``, of the flow through x."""

    def forward(self, noisy, sigma, labels):
        return MU + flow(noisy - MU, sigma, torch.tensor(0.002))


def flow(centered, t, r):
    return centered * ((S**2 + r**2) / (S**2 + t**2)).sqrt().view(-1, 1, 1, 1)


def test_pairs_of_noise_levels():
    loss = ConsistencyLoss(SCALINGS, num_steps=600, num_stages=6)

    def pairs(step):
        torch.manual_seed(0)
        return loss.pairs(4000, step)

    for stage, step in enumerate(range(50, 600, 100), start=1):
        t, r = pairs(step)
        assert bool((t > r).all()) and r.min() >= SCALINGS.sigma_min
        assert t.max() <= SCALINGS.sigma_max * (1 + 1e-6)
        assert abs(t.log().median() + 0.8) < 0.2
        gap = (1 + 8 * torch.sigmoid(-t)) / 2**stage
        expected = (t * (1 - gap)).clamp(min=SCALINGS.sigma_min)
        torch.testing.assert_close(r, expected, rtol=1e-4, atol=1e-6)
    # Stages are of equal length and the last does not end.
    for step, same in ((99, 0), (100, 150), (500, 599), (10_000, 599)):
        assert torch.equal(pairs(step)[1], pairs(same)[1])


class Scaled(nn.Module):
    """a x, and a memory of the x it was given."""

    def __init__(self):
        super().__init__()
        self.a, self.seen = nn.Parameter(torch.tensor(1.0)), []

    def forward(self, noisy, sigma, labels):
        self.seen.append((noisy, sigma))
        return self.a * noisy


@pytest.mark.parametrize("teacher", [None, Gaussian()])
def test_consistency_loss_and_its_gradient(teacher):
    model, batch = Scaled(), gaussian_batch(5)
    value, _ = ConsistencyLoss(SCALINGS, 600, teacher)(model, batch, 300)
    value.backward()
    (nearer, r), (noisy, t) = model.seen
    clean = batch.images * 2 - 1
    if teacher is None:
        noise = (noisy - clean) / t.view(-1, 1, 1, 1)
        expected = clean + r.view(-1, 1, 1, 1) * noise
    else:
        expected = heun_step(teacher, noisy, t, r, None)
    torch.testing.assert_close(nearer, expected, rtol=1e-4, atol=1e-5)
    # d = a noisy - target with the target held fast.
    gap, offset = (noisy - nearer).flatten(1), 0.00054 * 4
    root = (gap.square().sum(1) + offset**2).sqrt()
    torch.testing.assert_close(value, ((root - offset) / (t - r)).mean())
    slope = ((gap * noisy.flatten(1)).sum(1) / root / (t - r)).mean()
    torch.testing.assert_close(model.a.grad, slope)


def test_distillation_is_least_for_the_exact_function():
    teacher: Any = Gaussian()
    loss, batch = ConsistencyLoss(Scalings(), 600, teacher), gaussian_batch(256)

    def distance(function):
        torch.manual_seed(0)
        return loss(function, batch, 599)[1]["distance"]

    # The denoiser is close to it, and yet its outputs move along a trajectory.
    assert distance(Trajectory()) < 0.02 * distance(Gaussian())
