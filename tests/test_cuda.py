"""What only a GPU can break: precisions, graphs, threads, memory, ranks, and states of training.

Skipped without CUDA. ``BURNISH_TEST_DEVICE=cpu pytest tests/test_cuda.py`` tries the tests
themselves on a CPU.
"""

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import distributed
from training_setup import SHORT, data_of, real_images

from burnish.ascent.step import value_and_gradient
from burnish.cli.main import main
from burnish.files import card_path
from burnish.generators.load import load_generator
from burnish.guide.load import load_guide
from burnish.jobs import refine_plan
from burnish.metrics.features import load_extractor
from burnish.metrics.inception import multiplies_float16, packaged_weights
from burnish.networks.resnet import ResNet
from burnish.refinement.presets import settings_for
from burnish.refinement.refiner import Refiner
from burnish.refinement.speed import batch_size_for, compiled_gradient
from burnish.seeds import global_numbers
from burnish.storage.formats import write_samples
from burnish.training.config import (
    AttackConfig,
    AugmentConfig,
    ConsistencyConfig,
    GrowthConfig,
    JointConfig,
    TeacherConfig,
)
from burnish.training.experiment import Experiment
from burnish.training.losses.consistency import ConsistencyLoss
from burnish.training.losses.joint import JointLoss
from burnish.training.train import train

DEVICE = os.environ.get("BURNISH_TEST_DEVICE", "cuda")
needs_float16 = pytest.mark.skipif(DEVICE == "cpu", reason="training in float16 needs a GPU")
# A thread that begins with a product of matrices is told that it had no context yet.
pytestmark = pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS")
# Relative rounding. CUDA's convolutions of float32 round their inputs as TF32 does, to 11 bits.
ROUNDING = {"float32": 2**-11, "float16": 2**-11, "bfloat16": 2**-8}


@pytest.fixture(scope="session")
def device():
    """The device under test; without it the test is skipped."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA here; BURNISH_TEST_DEVICE=cpu tries these tests on the CPU")
    return DEVICE


@pytest.fixture
def deterministic(monkeypatch):
    """Only kernels that give the same bits each time."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def images(device):
    """Sixteen images of the shipped generator, made on the CPU; none where tests are skipped."""
    del device
    return load_generator("cifar10").sample(range(16))


def run(*arguments):
    main([str(argument) for argument in arguments])


def apart(found, expected):
    """Return the distances of images or gradients in their own lengths, the mean over images."""
    found, expected = (part.detach().cpu().float().flatten(1) for part in (found, expected))
    return ((found - expected).norm(dim=1) / expected.norm(dim=1)).mean().item()


@pytest.mark.parametrize("precision", ROUNDING)
def test_gradients_are_those_of_the_cpu(device, images, precision):
    guide = load_guide("cifar10")
    inputs = images.images, images.labels

    def gradient(where, precision):
        frozen = guide.to(where).frozen(precision)
        return value_and_gradient(frozen.objective("logit"), *(x.to(where) for x in inputs))

    expected, values, _ = gradient("cpu", "float32")
    found, others, _ = gradient(device, precision)
    # Some 20 roundings in a row, forth and back, add up like a random walk: the CPU's bfloat16 and
    # float16 end 2.8 and 2.5 of them away.
    assert apart(found, expected) < 8 * ROUNDING[precision]
    assert (others.cpu() - values).abs().max() < 20 * ROUNDING[precision] * values.abs().max()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_refined_images_are_those_of_the_cpu(device, images, precision):
    guide = load_guide("cifar10")
    settings = settings_for(guide, "golan24-pgd", eps=1.0, num_steps=5, stop_quantile=1.0)

    def moved(where, precision):
        refiner = Refiner(guide.to(where), settings, precision=precision, batch_size=8)
        parts = list(refiner([images], images.labels))
        return torch.cat([p.samples.images.cpu() for p in parts]) - images.images

    expected, found = moved("cpu", "float32"), moved(device, precision)
    # Steps are normalized: an error of the direction is one of the place, and bends later steps.
    # The CPU's bfloat16 ends 2.4 roundings away.
    assert apart(found, expected) < 10 * ROUNDING[precision]


@pytest.mark.filterwarnings("ignore")  # the compiler's remarks about the machine
def test_compiled_gradients_are_fresh_and_those_of_eager_in_any_thread(device, guide):
    guide, compiled = guide.to(device), compiled_gradient(device)
    objective = guide.frozen().objective("logit")
    batches = [torch.rand(4, 1, 8, 8, device=device) for _ in range(5)]
    labels = torch.arange(4, device=device)

    @torch.no_grad()
    def all_of_them():
        # A CUDA graph is recorded in the second call, and replayed in later ones.
        return [compiled(objective, one, labels) for one in batches]

    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(all_of_them).result()
    here = all_of_them()
    for one, *others in zip(batches, there, here, strict=True):
        expected = value_and_gradient(objective, one, labels)
        for found in others:
            for ours, theirs in zip(found, expected, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)


def test_the_batch_falls_with_the_memory_that_is_free(device, monkeypatch):
    network = ResNet(3, 10, width=16, num_blocks=1).to(device).eval()
    sizes = []
    for free in (2**40, 2**27, 1):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_, free=free: (free, 2**40))
        monkeypatch.setattr("psutil.virtual_memory", lambda f=free: type("", (), {"available": f}))
        sizes.append(batch_size_for(network, (3, 32, 32)))
    assert sizes[0] == {"cpu": 32, "cuda": 512}[device] > sizes[1] > sizes[2] == 1


def test_a_batch_that_does_not_fit_is_refused_in_one_line(device, tmp_path, images, capsys):
    if device == "cpu":
        pytest.skip("systems promise memory that they do not have")
    write_samples(tmp_path / "in.npz", [images], len(images))
    with pytest.raises(SystemExit) as stop:
        run("refine", tmp_path / "in.npz", "--guide", "cifar10", "--out", tmp_path / "out.npz",
            "--device", device, "--batch-size", 10**9, "--precision", "float32",
            "--compile", "never")  # fmt: skip
    assert stop.value.code == 2 and "not enough memory" in capsys.readouterr().err
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("precision", ROUNDING)
def test_sampled_images_are_those_of_the_cpu(device, images, precision):
    generator = load_generator("cifar10", precision=precision).to(device)
    found = generator.sample(range(16))
    assert found.labels is not None and torch.equal(found.labels, images.labels)
    # Lengths are of images in [0, 1], so their brightness counts: on the CPU, 0.3 roundings.
    assert apart(found.images, images.images) < 2 * ROUNDING[precision]


class Killed(BaseException):
    """As if by a signal."""


@contextmanager
def killed_at(step, kind, monkeypatch):
    """Within the block a training must end at a step of its loss."""
    call = kind.__call__

    def killed(self, model, batch, now):
        if now == step:
            raise Killed
        return call(self, model, batch, now)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(kind, "__call__", killed)
        yield


def test_commands_write_whole_files_and_a_killed_job_the_same(device, tmp_path, monkeypatch):
    base, out, again = (tmp_path / f"{name}.npz" for name in ("base", "out", "again"))
    run("sample", "cifar10", "--seeds", "0-23", "--out", base, "--device", device)
    refine = ["refine", base, "--guide", "cifar10", "--device", device, "--batch-size", 8,
              "--shard-size", 8, "--out"]  # fmt: skip
    run(*refine, out)
    written, write_shard = [], refine_plan._write

    def killed(folder, *more):
        if len(written) == 2:
            raise Killed
        written.append(folder)
        return write_shard(folder, *more)

    monkeypatch.setattr(refine_plan, "_write", killed)
    with pytest.raises(Killed):
        run(*refine, again)
    monkeypatch.setattr(refine_plan, "_write", write_shard)
    assert not again.exists() and len(written) == 2
    run(*refine, again)
    assert again.read_bytes() == out.read_bytes()
    run("evaluate", out, "--reference", "cifar10/plain", "--device", device,
        "--json", tmp_path / "out.json")  # fmt: skip
    with np.load(out) as after, np.load(base) as before:
        assert after["arr_0"].shape == (24, 32, 32, 3)
        assert (after["arr_0"] != before["arr_0"]).any((1, 2, 3)).all()
    found = json.loads((tmp_path / "out.json").read_text())
    assert math.isfinite(found["fid"]) and found["num_images"] == 24
    assert json.loads(card_path(out).read_text())["device"] == device


@pytest.mark.parametrize(
    "name", ["cifar10/views", "inception-v3-compat", "inception-v3-compat:float16"]
)
def test_features_are_those_of_the_cpu(device, images, name):
    if name.startswith("inception") and not packaged_weights():
        pytest.skip("the weights of Inception are not installed")
    if name.endswith("float16") and not multiplies_float16(torch.device(device)):
        pytest.skip("this processor does not multiply float16")
    images_uint8 = (images.images[:4] * 255).round().to(torch.uint8)
    exact = load_extractor(name.partition(":")[0])(images_uint8).features
    found = load_extractor(name, device)(images_uint8).features
    # Features of no image are near zero, and their distances are what counts.
    assert apart(found - found.mean(0), exact.cpu() - exact.cpu().mean(0)) < 40 * 2**-11


def test_numbers_of_the_device_are_set_watched_and_put_back(device):
    torch.rand(1, device=device)
    torch.manual_seed(1)
    inside, outside = [], [torch.rand(3, device=device)]
    for _ in range(2):
        with global_numbers(7) as moved:
            assert not moved()
            inside.append(torch.rand(3, device=device))
            assert moved()
    assert torch.equal(*inside)
    outside.append(torch.rand(3, device=device))
    torch.manual_seed(1)
    again = [torch.rand(3, device=device) for _ in range(2)]
    assert torch.equal(torch.cat(outside), torch.cat(again))


LONGER = replace(SHORT, num_steps=24, flip=True, log_every=1, save_every=4, validate_every=8)
CONSISTENCY = ConsistencyConfig(
    "distillation", {"widths": [8, 8], "attention": True, "dropout": 0.1},
    teacher=TeacherConfig(training=replace(LONGER, num_steps=4)), training=LONGER,
)  # fmt: skip
JOINT = JointConfig(
    {"name": "resnet", "width": 4, "num_blocks": 1}, training=LONGER,
    real_attack=AttackConfig(eps=0.5, step_size=0.25, num_steps=2),
    generated_attack=AttackConfig(eps=math.inf, step_size=0.1, num_steps=1, random_start=False),
    growth=GrowthConfig("clock", every=8),
)  # fmt: skip


def experiment_of(folder, what, precision, **changes):
    """Return an experiment of one kind in a precision, with images in a folder."""
    data = data_of(real_images(folder / "real.npz"))
    training = replace(LONGER, precision=precision, channels_last=True)
    if what == "consistency":
        return Experiment("it", data, consistency=replace(CONSISTENCY, training=training))
    generated = str(real_images(folder / "generated.npz", channels=1, count=64))
    joint = replace(JOINT, training=training, generated=generated, **changes)
    return Experiment("it", data, joint=joint)


def weights_of(out, what):
    (path,) = (out / "it" / what).rglob("*model.safetensors")
    return load_file(path)


@pytest.mark.parametrize(
    ("what", "precision"),
    [("consistency", "bfloat16"), ("joint", "bfloat16"), ("joint", "float32"),
     pytest.param("consistency", "float16", marks=needs_float16),
     pytest.param("joint", "float16", marks=needs_float16)],
)  # fmt: skip
def test_trainings_are_finite_and_a_killed_one_ends_in_the_same_bits(
    device, deterministic, tmp_path, monkeypatch, what, precision
):
    experiment = experiment_of(tmp_path, what, precision)
    train(what, experiment, out=tmp_path / "whole", device=device)
    kind = ConsistencyLoss if what == "consistency" else JointLoss
    with killed_at(14, kind, monkeypatch):
        train(what, experiment, out=tmp_path / "killed", device=device)
    train(what, experiment, out=tmp_path / "killed", device=device)
    expected, found = (weights_of(tmp_path / name, what) for name in ("whole", "killed"))
    for name, value in expected.items():
        assert value.isfinite().all() and torch.equal(found[name], value), name
    # Float16 skips steps until its scale fits; then weights have moved, and have moments.
    state = torch.load(tmp_path / "whole" / "it" / what / "state.pt", map_location="cpu")
    assert state["step"] == 24 and state["optimizer"]["state"][0]["step"] > 0
    lines = (tmp_path / "whole" / "it" / what / "log.jsonl").read_text().splitlines()
    assert all(math.isfinite(json.loads(line).get("loss", 0)) for line in lines)


def test_steps_of_a_resumed_optimizer_are_numbers_of_the_cpu(device, tmp_path, monkeypatch):
    """On a GPU, AdamW would wait for each of them, in every step."""
    experiment = experiment_of(tmp_path, "joint", "float32")
    places = []
    with killed_at(6, JointLoss, monkeypatch):
        train("joint", experiment, out=tmp_path, device=device)
    step = torch.optim.AdamW.step

    def stepped(self, *more, **named):
        places.extend(one["step"].device.type for one in self.state.values())
        return step(self, *more, **named)

    monkeypatch.setattr(torch.optim.AdamW, "step", stepped)
    train("joint", experiment, out=tmp_path, device=device)
    assert set(places) == {"cpu"}


def test_worker_processes_make_batches_beside_a_device_that_is_in_use(device, tmp_path):
    torch.zeros(1, device=device)
    changed = {"augment": AugmentConfig(mirror=True, rotation=10.0)}
    experiment = experiment_of(tmp_path, "joint", "float32", **changed)
    experiment = replace(experiment, data=replace(experiment.data, num_workers=1))
    (path,) = train("joint", experiment, out=tmp_path, device=device)
    assert all(value.isfinite().all() for value in load_file(path).values())


def test_one_rank_of_a_launcher_trains_as_no_launcher_does(
    device, deterministic, tmp_path, monkeypatch
):
    experiment = experiment_of(tmp_path, "joint", "float32")
    train("joint", experiment, out=tmp_path / "alone", device=device)
    launched = {
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    try:
        train("joint", experiment, out=tmp_path / "launched", device=device)
        assert distributed.get_backend() == {"cpu": "gloo", "cuda": "nccl"}[device]
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
    expected, found = (weights_of(tmp_path / name, "joint") for name in ("alone", "launched"))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
