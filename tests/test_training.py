"""A training that was killed ends as one that was not, and what it returns is what it says."""

import json
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from burnish.errors import InputError
from burnish.samples import from_uint8
from burnish.training.config import TrainingConfig
from burnish.training.loop import Batches, train

CONFIG = TrainingConfig(
    num_steps=12,
    batch_size=4,
    learning_rate=0.05,
    warmup_steps=3,
    ema_decay=0.8,
    mixed_precision="no",
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
    return Batches(
        images, images.flatten(1)[:, 0].long() % 2, config.batch_size, config.seed, True
    )


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


def go(run, loss=None, config=CONFIG, **more):
    more = {"validate": validate, "settings": {"seed": config.seed}} | more
    return train(network(), loss or NoisyLoss(), batches_of(config), config, run, **more)


def log_of(run):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "steps_per_second"} for line in lines]


def assert_same_state(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    run = tmp_path_factory.mktemp("uninterrupted")
    return go(run).state_dict(), torch.load(run / "state.pt"), log_of(run)


# Before the first save, right after one, between two (so that lines of the log are taken back),
# and twice in a row.
@pytest.mark.parametrize("kills", [[2], [5], [9], [7, 11]])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, uninterrupted, kills):
    for step in kills:
        with pytest.raises(Killed):
            go(tmp_path, NoisyLoss(killed_at=step))
    final, state, log = uninterrupted
    assert_same_state(go(tmp_path).state_dict(), final)
    found = torch.load(tmp_path / "state.pt")
    assert found["step"] == CONFIG.num_steps and found["loss"] == {"calls": CONFIG.num_steps}
    assert found["best"] == state["best"]
    for part in ("model", "ema", "best_state"):
        assert_same_state(found[part], state[part])
    assert log_of(tmp_path) == log
    # A finished run gives its model back at once.
    assert_same_state(go(tmp_path, NoisyLoss(killed_at=0)).state_dict(), final)


def test_the_log_has_what_it_should(uninterrupted):
    _, _, log = uninterrupted
    training = [line["step"] for line in log if "loss" in line]
    validation = [line["step"] for line in log if "validation/score" in line]
    assert training == [2, 4, 6, 8, 10, 12] and validation == [3, 6, 9, 12]


def test_a_half_written_line_is_tolerated(tmp_path, uninterrupted):
    with pytest.raises(Killed):
        go(tmp_path, NoisyLoss(killed_at=8))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')
    go(tmp_path)
    assert log_of(tmp_path) == uninterrupted[2]


def test_another_configuration_is_refused(tmp_path):
    other = TrainingConfig(**{**vars(CONFIG), "seed": 1})
    (tmp_path / "named").mkdir()
    go(tmp_path / "named")
    go(tmp_path / "bare", settings=None)
    for folder, more in (("named", {}), ("bare", {"settings": None})):
        log = log_of(tmp_path / folder)
        with pytest.raises(InputError, match="other settings"):
            go(tmp_path / folder, config=other, **more)
        assert log_of(tmp_path / folder) == log


def test_every_image_once_per_epoch_in_an_order_of_seed_and_epoch():
    images, labels = images_uint8(18), torch.arange(18)
    batches = Batches(images, labels, 4, seed=3)
    epochs = [[batches(4 * epoch + i) for i in range(4)] for epoch in range(2)]
    orders = [torch.cat([b.ids for b in epoch]).tolist() for epoch in epochs]
    for order in orders:
        assert len(set(order)) == 16  # 18 images, two of them left out
    other = [torch.cat([Batches(images, labels, 4, seed=4)(i).ids for i in range(4)]).tolist()]
    assert orders[0] != orders[1] and orders[0] != other[0]
    for batch in (b for epoch in epochs for b in epoch):
        assert torch.equal(batch.images, from_uint8(images[batch.ids]))
        assert batch.labels is not None and torch.equal(batch.labels, batch.ids)
    # Asked for out of turn, as a resumed run does.
    assert torch.equal(Batches(images, labels, 4, seed=3)(6).ids, epochs[1][2].ids)
    with pytest.raises(InputError, match="do not fill one batch"):
        Batches(images, labels, 19, seed=3)


def test_flips_mirror_left_to_right():
    images = images_uint8(64)
    batches, plain = Batches(images, None, 64, 3, flip=True), Batches(images, None, 64, 3)
    seen = []
    for step in (0, 1):
        mirrored, upright = batches(step).images, plain(step).images
        same = (mirrored == upright).flatten(1).all(1)
        flipped = (mirrored == upright.flip(3)).flatten(1).all(1)
        assert bool((same | flipped).all()) and 10 < int(flipped.sum()) < 54
        seen.append(flipped)
    assert not torch.equal(*seen)
    assert torch.equal(Batches(images, None, 64, 3, flip=True)(1).images, batches(1).images)


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
    ema = train(model, loss, batches_of(config), config, run)
    return [*loss.weights, model[-1].weight.detach().clone()], model, ema


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


def test_ema_is_the_one_that_is_documented(tmp_path):
    # The ramp is below 0.3 in two updates and above it in the next; later ones would blur that.
    weights, _, ema = record(tmp_path, ema_decay=0.3, num_steps=4)
    expected = weights[1]
    for n, weight in enumerate(weights[2:], start=1):
        decay = min(0.3, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(ema[-1].weight.detach(), expected, rtol=1e-5, atol=1e-6)
    assert not ema.training
    assert int(ema[0].num_batches_tracked) == 4


def test_steps_that_are_not_finite_leave_no_trace(tmp_path):
    # The first step is among them, which also must not upset the learning-rate schedule.
    weights, model, ema = record(tmp_path, not_finite=(0, 5, 6))
    for step in range(12):
        assert torch.equal(weights[step], weights[step + 1]) == (step in (0, 5, 6))
    for tensor in (*model.state_dict().values(), *ema.state_dict().values()):
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


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("state.pt", b"", "state.pt is damaged"),
        ("state.pt", b"junk", "state.pt is damaged"),
        ("config.json", b"{", "config.json is damaged"),
    ],
)
def test_damaged_runs_say_so(tmp_path, name, text, reason):
    go(tmp_path)
    (tmp_path / name).write_bytes(text)
    with pytest.raises(InputError, match=reason):
        go(tmp_path)


def test_damaged_lines_of_the_log_are_dropped(tmp_path):
    go(tmp_path)
    log = tmp_path / "log.jsonl"
    whole = log.read_text()
    log.write_bytes(b'{}\n{"step": }\n\xff\n' + whole.encode() + b'{"step": 1')
    go(tmp_path)
    assert log.read_text() == whole


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
    for precision in ("bf16", "no"):
        config = TrainingConfig(**{**vars(CONFIG), "mixed_precision": precision})
        model, before = network(), network().state_dict()
        model[-1].register_forward_hook(
            # The average is a copy, hook included, and not what is asked about.
            lambda _, __, out, p=precision: inside.setdefault(p, out.dtype) and None
        )
        averaged = train(model, NoisyLoss(), batches_of(), config, tmp_path / precision)
        for tensor in (*model.parameters(), *averaged.parameters()):
            assert tensor.dtype == torch.float32
        for name, tensor in model.named_parameters():
            if name != "0.bias":  # which batch norm takes out again
                assert not torch.equal(tensor, before[name]), name
        outcomes[precision] = averaged(from_uint8(images_uint8()))
        assert outcomes[precision].dtype == torch.float32
    assert inside == {"bf16": torch.bfloat16, "no": torch.float32}
    torch.testing.assert_close(outcomes["bf16"], outcomes["no"], rtol=0, atol=0.3)
