"""Diffusion models: steps of a known order, files of their own, the teacher as a generator."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from burnish import recipes
from burnish.errors import InputError
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.diffusion import DiffusionModel, solve
from burnish.generators.load import load_generator
from burnish.generators.scalings import Scalings
from burnish.generators.unet import build_unet
from burnish.storage.datasets import Dataset
from burnish.training.config import ConsistencyConfig, Experiment, TeacherConfig, TrainingConfig

STEPS = TrainingConfig(num_steps=6, batch_size=8, warmup_steps=1, save_every=2, log_every=1)


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
    def forward(self, noisy, sigma, labels):
        return MU + (S**2 / (S**2 + sigma**2)).view(-1, 1, 1, 1) * (noisy - MU)


def test_schedule_is_that_of_edm():
    scalings = Scalings()
    assert scalings.schedule(1, 1) == [pytest.approx(80.0)]
    ends = 80 ** (1 / 7), 0.002 ** (1 / 7)
    expected = [(ends[0] + i / 4 * (ends[1] - ends[0])) ** 7 for i in range(5)]
    assert scalings.schedule(5, 5) == pytest.approx(expected)


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


# The teacher.


def real(count=24):
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return Dataset(images, torch.arange(count) % 4, "noise")


def test_a_finished_teacher_gets_its_pipeline_and_older_runs_resume(tmp_path):
    config = ConsistencyConfig(
        "training", {"widths": [8, 16], "norm_num_groups": 4},
        teacher=TeacherConfig(training=STEPS), training=STEPS,
    )  # fmt: skip
    experiment, out = Experiment("tiny", consistency=config), tmp_path / "tiny"
    recipes.train_consistency(experiment, real(), out, "cpu")
    folder = out / "teacher" / "pipeline"
    first = load_generator(str(folder), 2)
    assert isinstance(first, DiffusionModel) and first.card["name"] == "tiny-teacher"
    # As a run of before there were pipelines, or a momentum.
    folder.rename(tmp_path / "away")
    for path in out.glob("*/config.json"):
        text = path.read_text()
        path.write_text(text.replace('"momentum": 0.9,', ""))
        assert path.read_text() != text
    states = {path: path.stat().st_mtime_ns for path in out.glob("*/state.pt")}
    recipes.train_consistency(experiment, real(), out, "cpu")
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/state.pt")} == states
    again = load_generator(str(folder), 2)
    assert torch.equal(again.sample([1]).images, first.sample([1]).images)
