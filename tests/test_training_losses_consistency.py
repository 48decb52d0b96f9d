"""The losses of consistency models and of their teachers, against closed forms."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from burnish.generators.diffusion import heun_step
from burnish.generators.unet import Scalings
from burnish.samples import Samples
from burnish.seeds import Streams
from burnish.training.config import ConsistencyConfig, TeacherConfig, TrainingConfig
from burnish.training.losses.consistency import (
    ConsistencyLoss,
    DenoisingLoss,
    SelfDistillationLoss,
    lognormal_sigmas,
)

CONFIG = ConsistencyConfig(training=TrainingConfig(num_steps=600))
SCALINGS = Scalings(sigma_max=60.0, sigma_data=0.6)
# Data N(mu, s^2) per pixel have closed forms for everything.
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


class Trajectory(nn.Module):
    """The consistency function of such data: the end, at ``sigma_min``, of the flow through x."""

    def forward(self, noisy, sigma, labels):
        return MU + flow(noisy - MU, sigma, torch.tensor(0.002))


def flow(centered, t, r):
    return centered * ((S**2 + r**2) / (S**2 + t**2)).sqrt().view(-1, 1, 1, 1)


def test_pairs_of_noise_levels():
    loss = ConsistencyLoss(CONFIG, SCALINGS)

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
    value, _ = ConsistencyLoss(CONFIG, SCALINGS, teacher)(model, batch, 300)
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
    loss, batch = ConsistencyLoss(CONFIG, Scalings(), teacher), gaussian_batch(256)

    def distance(function):
        torch.manual_seed(0)
        return loss(function, batch, 599)[1]["distance"]

    # The denoiser is close to it, and yet its outputs move along a trajectory.
    assert distance(Trajectory()) < 0.02 * distance(Gaussian())


def test_denoising_loss_is_least_for_the_exact_denoiser():
    loss, batch = DenoisingLoss(TeacherConfig(), Scalings(sigma_data=S)), gaussian_batch(4096)

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


class Seen(nn.Module):
    """Returns what it was told to, and remembers what it was given."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.given = answer, []

    def forward(self, noisy, sigma, labels):
        self.given.append((noisy, sigma, labels))
        return self.answer


def test_it_shows_the_model_the_noise_of_each_seed_and_measures_the_distance():
    scalings, ids = Scalings(sigma_max=60.0), torch.tensor([4, 0, 7])
    batch = Samples(torch.rand(3, 1, 4, 4), torch.tensor([2, 0, 1]), ids)
    off = torch.full((3, 1, 4, 4), 0.25)
    model = Seen(batch.images * 2 - 1 + off)
    value, numbers = SelfDistillationLoss(scalings, first_seed=1000)(model, batch, 0)
    noisy, sigma, labels = model.given[0]
    noise = Streams([1004, 1000, 1007], "noise").normal((1, 4, 4))
    torch.testing.assert_close(noisy, 60 * noise)
    assert sigma.tolist() == [60.0] * 3 and labels.tolist() == [2, 0, 1]
    offset = 0.00054 * 4
    expected = (1 + offset**2) ** 0.5 - offset  # ||0.25 in each of 16 values|| = 1
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert numbers["distance"] == pytest.approx(expected, rel=1e-5)


def test_it_is_zero_for_a_model_that_makes_the_images():
    batch = Samples(torch.rand(3, 1, 4, 4), None, torch.arange(3))
    value, _ = SelfDistillationLoss(Scalings(), 0)(Seen(batch.images * 2 - 1), batch, 0)
    assert value.item() == pytest.approx(0, abs=1e-6)
