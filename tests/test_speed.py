"""What is chosen for speed: by capability, memory and measuring; never at a cost in results."""

import json
import types

import pytest
import torch

from burnish.networks.frozen import Frozen
from burnish.networks.resnet import ResNet
from burnish.refine import speed


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(speed, "CACHE", tmp_path / "cache" / "speed.json")
    return speed.CACHE


IMAGES = torch.rand(4, 1, 8, 8)


def plain(images):
    return images + 0.1, images.sum()


@pytest.fixture
def compiler(monkeypatch):
    """Stand in for torch.compile and the clock: what it returns, how long things take."""
    fake = types.SimpleNamespace(result=lambda images: plain(images), calls=0)
    seconds = {"plain": 1.0, "compiled": 0.5}

    def compile(step, **options):
        fake.calls += 1
        return fake.result

    def clock(step, arguments, repeats=3):
        return seconds["plain" if step is plain else "compiled"]

    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setattr(speed, "_clock", clock)
    fake.seconds = seconds
    return fake


def choose(num_calls, mode="auto"):
    return speed.fastest(plain, plain, (IMAGES,), num_calls, "a step", mode)


def test_short_jobs_are_not_compiled(compiler):
    assert choose(100) is plain and choose(1e6, "never") is plain
    compiler.seconds["plain"] = 100.0
    assert choose(19) is plain and compiler.calls == 0
    assert choose(21) is compiler.result


def test_long_jobs_take_what_is_faster_and_remember_it(compiler, cache):
    assert choose(1000) is compiler.result and compiler.calls == 1
    (record,) = json.loads(cache.read_text()).values()
    assert (record["plain_s"], record["compiled_s"]) == (1.0, 0.5)
    compiler.seconds["compiled"] = 2.0
    assert choose(1000, "always") is compiler.result  # asked for, faster or not
    # What was measured just now is known from here on: nothing is compiled again to find it out.
    assert choose(1000) is plain and compiler.calls == 2


def test_a_compiled_step_that_gains_less_than_compiling_takes_is_left(compiler, cache):
    choose(1000)
    (key,) = json.loads(cache.read_text())
    record = {"plain_s": 1.0, "compiled_s": 0.99, "compiling_s": 60.0}
    cache.write_text(json.dumps({key: record}))
    assert choose(1000) is plain and choose(10_000) is compiler.result


def test_a_compiled_step_that_fails_or_strays_is_not_used(compiler):
    compiler.result = lambda images: (images - 0.1, images.sum())
    assert choose(1000) is plain

    def broken(images):
        raise RuntimeError("no C++ compiler")

    compiler.result = broken
    with pytest.warns(UserWarning, match="going on without it: RuntimeError no C"):
        assert choose(1000, "always") is plain


def test_a_broken_cache_is_no_obstacle(compiler, cache):
    cache.parent.mkdir()
    cache.write_text("{")
    assert choose(1000) is compiler.result
    cache.unlink()
    cache.mkdir()  # cannot be written either
    assert choose(1000) is compiler.result


def test_the_batch_fits_the_memory_that_is_free(monkeypatch):
    network = Frozen(ResNet(3, 10, width=16, num_blocks=1))
    free = types.SimpleNamespace(available=2**40)
    monkeypatch.setattr(speed.psutil, "virtual_memory", lambda: free)
    assert speed.batch_size_for(network, (3, 32, 32)) == 64
    # The stem alone keeps 16 channels of 32 x 32 before and after its activation.
    free.available = 3 * 2 * (2 * 2 * 16 * 32 * 32 * 4)
    assert speed.batch_size_for(network, (3, 32, 32)) == 1
    free.available = 3 * 32 * 2**20
    some = speed.batch_size_for(network, (3, 32, 32))
    assert 4 <= some <= 32 and speed.batch_size_for(network, (3, 64, 64)) in (some // 4, some // 8)


def test_bfloat16_is_for_devices_that_multiply_it(monkeypatch):
    for able, expected in (({}, "float32"), ({"avx512_bf16": True}, "bfloat16")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able, raising=False)
        assert speed.precision_for(torch.device("cpu")) == expected
    assert speed.precision_for(torch.device("meta")) == "float32"


@pytest.mark.slow
def test_a_really_compiled_step_is_the_same_step(guide):
    from burnish.refine.refiner import Refiner, RefineSettings
    from burnish.samples import Samples

    images, labels = torch.rand(8, 1, 8, 8), torch.arange(8) % 4
    settings = RefineSettings(eps=1.0, step_size=0.25, num_steps=5, stop_quantile=0.9)
    samples = Samples(images, labels, torch.arange(8))
    (exact,) = Refiner(guide, settings, "float32", compile="never")([samples], labels)
    (compiled,) = Refiner(guide, settings, "float32", compile="always")([samples], labels)
    assert json.loads(speed.CACHE.read_text())
    # Once, in fastest, where a compiler's failure does no harm; not again when the climb begins.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    torch.testing.assert_close(compiled.samples.images, exact.samples.images, rtol=0, atol=1e-4)
