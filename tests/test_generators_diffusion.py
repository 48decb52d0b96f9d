"""Diffusion models: solvers of a known order, files of their own."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from burnish.errors import InputError
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.diffusion import DiffusionModel, heun_step, solve
from burnish.generators.load import load_generator
from burnish.generators.unet import Scalings, build_unet


def unet():
    torch.manual_seed(0)
    found: Any = build_unet(8, 1, 4, widths=(8, 16), norm_num_groups=4)
    nn.init.normal_(found.conv_out.weight, std=0.3)
    return found


def diffusion(num_steps=2, solver="heun"):
    return DiffusionModel(unet(), Scalings(sigma_max=60.0), num_steps, solver)


def test_files_of_diffusion_models(tmp_path):
    model = diffusion()
    for _ in range(2):  # the second time replaces the first
        model.save(tmp_path / "it")
    found = load_generator(str(tmp_path / "it"), 2)
    assert isinstance(found, DiffusionModel) and found.scalings == model.scalings
    assert torch.equal(found.sample([3]).images, model.sample([3]).images)
    ways: list[Any] = [(), (5,), (5, "euler"), (1,), (1, "euler")]
    counts = [load_generator(str(tmp_path / "it"), *options).nfe for options in ways]
    assert counts == [35, 9, 5, 1, 1]
    faults: list[Any] = [((0,), "1 step or more"), ((3, "huen"), "did you mean 'heun'")]
    for options, reason in faults:
        with pytest.raises(InputError, match=reason):
            load_generator(str(tmp_path / "it"), *options)
    with pytest.raises(InputError, match="no consistency model"):
        ConsistencyModel.load(tmp_path / "it")
    ConsistencyModel(unet()).save(tmp_path / "other")
    assert isinstance(load_generator(str(tmp_path / "other")), ConsistencyModel)
    with pytest.raises(InputError, match="no diffusion model"):
        DiffusionModel.load(tmp_path / "other")
    # Neither family replaces the other's folder.
    for model, name in ((ConsistencyModel(unet()), "it"), (diffusion(), "other")):
        with pytest.raises(InputError, match="other files"):
            model.save(tmp_path / name)


# The solver. Data N(MU, S^2) per pixel have closed forms.

MU, S = 0.1, 0.3


class Gaussian(nn.Module):
    """The denoiser of such data."""

    def __init__(self, s=S):
        super().__init__()
        self.s = s

    def forward(self, noisy, sigma, labels):
        return MU + (self.s**2 / (self.s**2 + sigma**2)).view(-1, 1, 1, 1) * (noisy - MU)


def test_schedule_is_that_of_edm():
    scalings = Scalings()
    assert scalings.schedule(1, 1) == [pytest.approx(80.0)]
    ends = 80 ** (1 / 7), 0.002 ** (1 / 7)
    expected = [(ends[0] + i / 4 * (ends[1] - ends[0])) ** 7 for i in range(5)]
    assert scalings.schedule(5, 5) == pytest.approx(expected)


def test_heun_step_is_exact_for_a_single_image():
    # If the data are one image, every path is straight.
    noisy = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    t = torch.tensor([0.1, 2.0, 50.0], dtype=torch.float64)
    found = heun_step(Gaussian(s=0.0), noisy, t, t / 5, None)
    torch.testing.assert_close(found, MU + (noisy - MU) / 5)


def test_euler_is_ddim():
    noisy = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    sigmas = [5.0, 1.0, 0.3, 0.0]
    gain = math.prod((S**2 + t * r) / (S**2 + t**2) for t, r in pairwise(sigmas))
    found = solve(Gaussian(), noisy, sigmas, None, "euler")
    torch.testing.assert_close(found, MU + gain * (noisy - MU))


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_the_solvers(solver, order):
    noisy = torch.randn(1, 1, 4, 4, dtype=torch.float64)
    exact = MU + (noisy - MU) * ((S**2 + 0.1**2) / (S**2 + 2.0**2)) ** 0.5
    errors = []
    for count in (32, 64):
        sigmas = torch.linspace(2.0, 0.1, count + 1, dtype=torch.float64).tolist()
        errors.append((solve(Gaussian(), noisy, sigmas, None, solver) - exact).abs().max().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)
