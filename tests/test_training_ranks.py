"""Several processes train as one does: the same batches, attacks, growth and weights."""

import json
import math
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
import yaml
from safetensors.torch import load_file
from training_setup import SHORT

from burnish.ascent.balls import L2Ball
from burnish.errors import InputError
from burnish.samples import Samples, from_uint8
from burnish.schema import plain
from burnish.storage.datasets import load_dataset
from burnish.storage.formats import write_samples
from burnish.training import ranks
from burnish.training.config import AttackConfig, GrowthConfig, JointConfig
from burnish.training.experiment import DataConfig, Experiment
from burnish.training.losses.joint import JointLoss
from burnish.training.train import train

# Two ways of summing 32 images differ in the last bits of float32. Adam makes a full step of a
# gradient of 1e-9, so that a single weight may go the other way; on the mean none does.
TOLERANCE = 1e-5
JOINT = JointConfig(
    {"name": "resnet", "width": 4, "num_blocks": 1},
    training=replace(
        SHORT, num_steps=4, batch_size=32, learning_rate=1e-2, flip=True, log_every=1,
        validate_every=2, save_every=2,
    ),
    real_attack=AttackConfig(eps=0.5, step_size=0.25, num_steps=2),
    generated_attack=AttackConfig(eps=math.inf, step_size=0.1, num_steps=1, random_start=False),
    growth=GrowthConfig("auc", every=1, threshold=0.45, max_steps=3),
)  # fmt: skip


@pytest.fixture
def experiment(tmp_path):
    """Digits, and digits with noise in the place of generated ones."""
    data = load_dataset("digits")[:400]
    noise = torch.randn(data.images_uint8.shape, generator=torch.Generator().manual_seed(0))
    images = (from_uint8(data.images_uint8) + 0.2 * noise).clamp(0, 1)
    samples = Samples(images, data.labels, torch.arange(400))
    path = write_samples(tmp_path / "generated.npz", [samples], 400)
    config = replace(JOINT, generated=str(path))
    return Experiment("it", DataConfig("digits", "0-1199", "1200-1499"), joint=config)


def one_of(index, count, port, experiment, out, dies_at):
    """Train as one of several processes; this one dies before a step, if it is to."""
    torch.set_num_threads(1)
    sys.stderr = (out.parent / f"{out.name}-{index}.txt").open("a")
    os.environ |= {"RANK": str(index), "LOCAL_RANK": str(index), "WORLD_SIZE": str(count),
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                   "OMP_NUM_THREADS": "1"}  # fmt: skip
    # As torchrun sets it; without it, Accelerate warns.
    call = JointLoss.__call__

    def watched(self, model, batch, step):
        if step == dies_at and index == count - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(self, model, batch, step)

    JointLoss.__call__ = watched
    train("joint", experiment, out=out)
    os._exit(0)


def launch(experiment, out, count=2, dies_at=-1):
    """Train with several processes; stop all once one has died, as torchrun does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # A fork has imported everything already.
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=one_of, args=(i, count, port, experiment, out, dies_at))
        for i in range(count)
    ]
    for process in processes:
        process.start()
    while any(one.is_alive() for one in processes):
        if any(one.exitcode for one in processes):
            for one in processes:
                one.kill()
        processes[0].join(0.02)
        processes[-1].join(0.02)
    return [process.exitcode for process in processes]


def weights_of(out):
    return load_file(out / "it" / "joint" / "model.safetensors")


def log_of(out):
    lines = (out / "it" / "joint" / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(x).items() if k != "steps_per_second"} for x in lines]


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).abs().double().mean() <= TOLERANCE, name


def test_two_processes_train_as_one_does_and_resume_after_one_was_killed(experiment, tmp_path):
    train("joint", experiment, out=tmp_path / "one")
    expected, log = weights_of(tmp_path / "one"), log_of(tmp_path / "one")
    assert launch(experiment, tmp_path / "two", dies_at=3)[1] == -signal.SIGKILL
    assert not (tmp_path / "two" / "it" / "joint" / "model.safetensors").exists()
    assert launch(experiment, tmp_path / "two") == [0, 0]
    assert_close(weights_of(tmp_path / "two"), expected)
    found = log_of(tmp_path / "two")
    assert [line.keys() for line in found] == [line.keys() for line in log]
    for line, other in zip(found, log, strict=True):
        assert line == pytest.approx(other, rel=1e-3, abs=1e-3)
    # The attack has grown, by the AUC of all images.
    steps = [line["attack_steps"] for line in log if "attack_steps" in line]
    assert steps[0] < steps[-1]


def test_batches_in_parts_train_as_whole_ones(experiment, tmp_path):
    frozen = replace(experiment.joint, batch_norm="frozen")  # live, parts have their own moments
    whole = replace(experiment, joint=frozen)
    train("joint", whole, out=tmp_path / "whole")
    parts = replace(experiment, joint=replace(frozen, accumulate=4))
    train("joint", parts, out=tmp_path / "parts")
    assert_close(weights_of(tmp_path / "parts"), weights_of(tmp_path / "whole"))
    assert len(log_of(tmp_path / "parts")) == len(log_of(tmp_path / "whole"))


def test_batches_that_cannot_be_cut_into_equal_parts_are_refused(experiment, tmp_path):
    odd = replace(experiment, joint=replace(experiment.joint, accumulate=5))
    with pytest.raises(InputError, match="batch_size 32 cannot be cut"):
        train("joint", odd, out=tmp_path)
    assert not (tmp_path / "it" / "joint" / "config.json").exists()


def test_random_starts_of_parts_are_those_of_the_whole(guide, monkeypatch):
    starts = []
    draw = L2Ball.random_start
    monkeypatch.setattr(L2Ball, "random_start", lambda *a: starts.append(draw(*a)) or starts[-1])
    images, labels = torch.rand(8, 1, 8, 8), torch.arange(8) % 4
    side = Samples(images, labels, torch.arange(8))
    for parts in (1, 4):
        loss = JointLoss(replace(JOINT, accumulate=parts))
        torch.manual_seed(torch.Generator().initial_seed())
        for rows in (slice(i, i + 8 // parts) for i in range(0, 8, 8 // parts)):
            loss(guide, (side[rows], side[rows]), 0)
    # Each part draws for the whole batch, and the same.
    assert len(starts) == 5 and all(torch.equal(starts[1], one) for one in starts[2:])


def test_one_process_is_the_first_of_one(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")  # of a launcher that is not torchrun
    assert (ranks.count(), ranks.index(), ranks.share(12)) == (1, 0, slice(0, 12))
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("RANK", "3")
    assert (ranks.count(), ranks.index(), ranks.share(12)) == (4, 3, slice(9, 12))


@pytest.mark.slow
def test_torchrun_resumes_after_a_kill(experiment, tmp_path):
    longer = replace(experiment.joint.training, num_steps=30)
    experiment = replace(experiment, joint=replace(experiment.joint, training=longer))
    described = plain(experiment)
    described = {key: described[key] for key in ("name", "data", "joint")}
    (tmp_path / "it.yaml").write_text(yaml.safe_dump(described))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--nproc-per-node", "2", "-m", "burnish", "train", "joint",
               str(tmp_path / "it.yaml"), "--device", "cpu", "--out"]  # fmt: skip
    log = tmp_path / "two" / "it" / "joint" / "log.jsonl"
    first = subprocess.Popen([*command, str(tmp_path / "two")], start_new_session=True)
    while not log.exists() or len(log_of(tmp_path / "two")) < 8:
        time.sleep(0.05)
        assert first.poll() is None
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert subprocess.run([*command, str(tmp_path / "two")], check=False).returncode == 0
    train("joint", experiment, out=tmp_path / "one")
    assert_close(weights_of(tmp_path / "two"), weights_of(tmp_path / "one"))
