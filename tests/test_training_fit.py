"""A killed training ends as one that was not; what it returns is what its documentation says."""

import json
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from burnish.errors import InputError
from burnish.samples import from_uint8
from burnish.storage.datasets import Dataset
from burnish.training.config import TrainingConfig
from burnish.training.fit import fit
from burnish.training.recipes.task import Batches
from burnish.training.run import Stage

CONFIG = TrainingConfig(
    num_steps=12,
    batch_size=4,
    learning_rate=0.05,
    warmup_steps=3,
    ema_decay=0.8,
    precision="float32",
    flip=True,
    log_every=2,
    validate_every=3,
    save_every=5,
)


class Killed(Exception):
    pass


def network() -> Any:
    """Everything that could break a resume: batch statistics, counters, random dropout."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.SiLU(), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(12, 2),
    )  # fmt: skip


def images_uint8(count=18):
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, 1, 4, 4), dtype=torch.uint8, generator=generator)


def batches_of(config=CONFIG):
    images = images_uint8()
    data = Dataset(images, images.flatten(1)[:, 0].long() % 2, "random")
    return Batches(data, replace(config, flip=True))


class NoisyLoss:
    """Draws noise, and has a state of its own that the weights depend on."""

    def __init__(self, killed_at=None):
        self.calls, self.killed_at = 0, killed_at

    def __call__(self, model, batch, step) -> tuple[torch.Tensor, dict[str, float]]:
        if step == self.killed_at:
            raise Killed
        self.calls += 1
        noisy = batch.images + 0.1 * torch.randn(batch.images.shape)
        value = nn.functional.cross_entropy(model(noisy), batch.labels) * (1 + self.calls / 10)
        return value, {"calls": float(self.calls)}

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


@torch.no_grad()
def validate(model):
    return {"score": -model(from_uint8(images_uint8())).square().mean().item()}


def go(folder, loss=None, config=CONFIG, **more):
    more = {"validate": validate, "settings": {"seed": config.seed}} | more
    loss = loss or NoisyLoss()
    return fit(network(), loss, batches_of(config), config, Stage(folder), **more)


def log_of(run):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "steps_per_second"} for line in lines]


def assert_same_state(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.fixture
def uninterrupted(tmp_path):
    folder = tmp_path / "uninterrupted"
    return go(folder).state_dict(), torch.load(folder / "state.pt"), log_of(folder)


# Before the first save, right after one, between two (so that lines of the log are taken back),
# and twice in a row.
@pytest.mark.parametrize("kills", [[2], [5], [9], [7, 11]])
def test_killed_and_resumed_ends_with_the_same_state_and_log(tmp_path, uninterrupted, kills):
    folder = tmp_path / "killed"
    for step in kills:
        with pytest.raises(Killed):
            go(folder, NoisyLoss(killed_at=step))
    weights, state, log = uninterrupted
    assert_same_state(go(folder).state_dict(), weights)
    found = torch.load(folder / "state.pt")
    assert found["step"] == CONFIG.num_steps
    assert found["loss"] == state["loss"] and found["best"] == state["best"]
    for part in ("model", "ema", "best_state"):
        assert_same_state(found[part], state[part])
    assert log_of(folder) == log


def test_a_training_that_no_longer_improves_stops_and_stays_stopped(tmp_path):
    patient = replace(CONFIG, patience=2)
    scores = iter([0.0, 1.0, 0.5, 0.7, 9.0])
    loss = NoisyLoss()
    longer = replace(patient, num_steps=30)
    go(tmp_path / "run", loss, longer, validate=lambda _: {"score": next(scores)})
    # Validated at 3, 6, 9 and 12; the best was that at 6.
    assert loss.calls == 12 and list(scores) == [9.0]
    again = NoisyLoss(killed_at=12)
    go(tmp_path / "run", again, longer, validate=lambda _: {"score": 0.0})


def test_a_finished_training_gives_its_model_back_without_a_step(tmp_path, uninterrupted):
    again = go(tmp_path / "uninterrupted", NoisyLoss(killed_at=0))
    assert_same_state(again.state_dict(), uninterrupted[0])


def test_the_state_of_the_loss_is_saved_and_resumed(tmp_path):
    with pytest.raises(Killed):
        go(tmp_path, NoisyLoss(killed_at=7))
    loss = NoisyLoss()
    go(tmp_path, loss)
    assert loss.calls == CONFIG.num_steps


def test_the_log_has_what_it_should(uninterrupted):
    _, _, log = uninterrupted
    training = [line["step"] for line in log if "loss" in line]
    validation = [line["step"] for line in log if "validation/score" in line]
    assert training == [2, 4, 6, 8, 10, 12] and validation == [3, 6, 9, 12]


def test_a_half_written_line_is_tolerated(tmp_path, uninterrupted):
    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        go(folder, NoisyLoss(killed_at=8))
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')
    go(folder)
    assert log_of(folder) == uninterrupted[2]


def test_other_settings_are_refused_and_leave_the_folder_as_it_is(tmp_path):
    go(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match="other settings or data"):
        go(tmp_path, settings={"seed": 1})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class Recorder:
    """Loss of one weight vector; notes the weights that each step began with."""

    def __init__(self, not_finite=()):
        self.weights, self.not_finite = [], not_finite

    def __call__(self, model, batch, step):
        weight = model[-1].weight
        self.weights.append(weight.detach().clone())
        output = model(batch.images.flatten(1) * (math.nan if step in self.not_finite else 1))
        return weight.sum() + 0 * output.sum(), {}


def line(width=16) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm1d(width), nn.Linear(width, 1))


def record(run, not_finite=(), **changes) -> Any:
    config = TrainingConfig(**{**vars(CONFIG), "flip": False, **changes})
    loss, model = Recorder(not_finite), line()
    average = fit(model, loss, batches_of(config), config, Stage(run), settings={})
    return [*loss.weights, model[-1].weight.detach().clone()], model, average


def test_learning_rate_of_each_step(tmp_path):
    # With a constant gradient AdamW moves every weight by exactly the learning rate.
    def rates(name, **changes):
        weights, *_ = record(tmp_path / name, learning_rate=0.1, **changes)
        moves = [a - b for a, b in pairwise(weights)]
        return torch.stack([move.mean() for move in moves])

    cosine = [0.05 * (1 + math.cos(math.pi * n / 12)) for n in range(12)]
    cosine[0], cosine[1] = cosine[0] / 3, cosine[1] * 2 / 3
    torch.testing.assert_close(rates("cosine"), torch.tensor(cosine), rtol=1e-3, atol=1e-5)
    steps = [0.05, *[0.1] * 3, *[0.01] * 3, *[0.001] * 5]
    found = rates("step", decay="step", milestones=(4, 7), warmup_steps=2)
    torch.testing.assert_close(found, torch.tensor(steps), rtol=1e-3, atol=1e-5)


def test_the_average_is_the_one_that_is_documented(tmp_path):
    # The ramp is below 0.3 in two updates and above it in the next; later ones would blur that.
    weights, _, average = record(tmp_path, ema_decay=0.3, num_steps=4)
    expected = weights[1]
    for n, weight in enumerate(weights[2:], start=1):
        decay = min(0.3, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(average[-1].weight.detach(), expected, rtol=1e-5, atol=1e-6)
    assert not average.training
    assert int(average[0].num_batches_tracked) == 4


def test_steps_that_are_not_finite_leave_no_trace(tmp_path):
    # The first step is among them, which also must not upset the learning-rate schedule.
    weights, model, average = record(tmp_path, not_finite=(0, 5, 6))
    for step in range(12):
        assert torch.equal(weights[step], weights[step + 1]) == (step in (0, 5, 6))
    for tensor in (*model.state_dict().values(), *average.state_dict().values()):
        assert bool(torch.isfinite(tensor).all())
    assert int(model[0].num_batches_tracked) == 9


def test_twenty_in_a_row_are_too_many(tmp_path):
    twice_nineteen = [*range(3, 22), *range(23, 42)]
    record(tmp_path / "nineteen", not_finite=twice_nineteen, num_steps=42)
    with pytest.raises(InputError, match="20 steps, last at 22"):
        record(tmp_path / "twenty", not_finite=range(3, 23), num_steps=24)


def test_a_training_without_one_finite_step_is_none(tmp_path):
    with pytest.raises(InputError, match="not finite for 4 steps"):
        record(tmp_path, not_finite=range(4), num_steps=4)


def test_of_equal_validations_the_first_is_returned(tmp_path):
    seen = []

    def scores(model):
        seen.append({k: v.clone() for k, v in model.state_dict().items()})
        return {"score": 0.5}

    assert_same_state(go(tmp_path, validate=scores).state_dict(), seen[0])


def test_every_step_of_every_seed_has_random_numbers_of_its_own(tmp_path):
    drawn = []

    def loss(model, batch, step) -> tuple[torch.Tensor, dict[str, float]]:
        drawn.append(torch.rand(()).item())
        return model(batch.images).square().mean(), {}

    for seed in (0, 1):
        go(tmp_path / str(seed), loss, TrainingConfig(**{**vars(CONFIG), "seed": seed}))
    assert len(set(drawn)) == 2 * CONFIG.num_steps


@pytest.mark.parametrize("best", [0, 2, 3])
def test_the_best_validation_is_returned(tmp_path, best):
    seen = []

    def scores(model):
        seen.append({k: v.clone() for k, v in model.state_dict().items()})
        assert not model.training
        return {"score": 1.0 if len(seen) == best + 1 else 0.5}

    assert_same_state(go(tmp_path, validate=scores).state_dict(), seen[best])
    assert not torch.equal(seen[0]["0.weight"], seen[3]["0.weight"])


def test_precision_changes_the_inside_only(tmp_path):
    # Both in one process: one training must not decide for the next.
    inside, outcomes = {}, {}
    for precision in ("bfloat16", "float32"):
        config = TrainingConfig(**{**vars(CONFIG), "precision": precision})
        model, before = network(), network().state_dict()
        model[-1].register_forward_hook(
            # The average is a copy, hook included, and not what is asked about.
            lambda _, __, out, p=precision: inside.setdefault(p, out.dtype) and None
        )
        stage = Stage(tmp_path / precision)
        averaged = fit(model, NoisyLoss(), batches_of(), config, stage, settings={})
        for tensor in (*model.parameters(), *averaged.parameters()):
            assert tensor.dtype == torch.float32
        for name, tensor in model.named_parameters():
            if name != "0.bias":  # which batch norm takes out again
                assert not torch.equal(tensor, before[name]), name
        outcomes[precision] = averaged(from_uint8(images_uint8()))
        assert outcomes[precision].dtype == torch.float32
    assert inside == {"bfloat16": torch.bfloat16, "float32": torch.float32}
    torch.testing.assert_close(outcomes["bfloat16"], outcomes["float32"], rtol=0, atol=0.3)


def test_float16_on_a_cpu_is_refused_before_anything_is_written(tmp_path):
    config = TrainingConfig(**{**vars(CONFIG), "precision": "float16"})
    stage = Stage(tmp_path / "stage")
    with pytest.raises(InputError, match="set precision to bfloat16 or float32"):
        fit(network(), NoisyLoss(), batches_of(), config, stage, settings={})
    assert not list(tmp_path.iterdir())
