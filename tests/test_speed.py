"""What is chosen for speed: by capability, memory and kept measurements; results stay the same."""

import json
import threading
import types

import psutil
import pytest
import torch

from burnish.ascent.step import value_and_gradient
from burnish.files import cache_folder
from burnish.guide.model import Guide
from burnish.networks.frozen import Frozen
from burnish.networks.resnet import ResNet
from burnish.refinement.speed import (
    batch_size_for,
    choose_precision,
    compiled_gradient,
    pays_to_compile,
)

SHAPE = (1, 8, 8)
IMAGES, LABELS = torch.rand(4, *SHAPE), torch.tensor([0, 1, 2, 3])


class Unusable(Guide):
    """A guide that must not be called."""

    def forward(self, images):
        raise AssertionError("the guide was called")


def speed_file():
    return cache_folder() / "speed.json"


def put_seconds(**seconds):
    """Replace the one measurement that is kept."""
    (key,) = json.loads(speed_file().read_text())
    speed_file().write_text(json.dumps({key: seconds}))


@pytest.fixture
def capabilities(monkeypatch):
    """Set what the processor says of itself."""

    def put(**able):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)

    return put


@pytest.fixture
def put_compiler(monkeypatch):
    """Stand in for torch.compile by a function of the plain gradient."""

    def put(compile_):
        monkeypatch.setattr(torch, "compile", lambda plain, **_: compile_(plain))
        compiled_gradient.cache_clear()

    yield put
    compiled_gradient.cache_clear()


def test_without_bfloat16_nothing_is_measured(guide, capabilities):
    capabilities(avx2=True)
    assert choose_precision(Unusable(guide.network), SHAPE, 4) == "float32"
    assert not speed_file().exists()


@pytest.mark.parametrize("able", ["avx512_bf16", "amx_bf16"])
def test_bfloat16_must_be_a_tenth_faster(guide, capabilities, able):
    capabilities(**{able: True})
    choose_precision(guide, SHAPE, 4)
    for seconds, expected in ((0.89, "bfloat16"), (0.91, "float32"), (2.0, "float32")):
        put_seconds(float32=1.0, bfloat16=seconds)
        assert choose_precision(guide, SHAPE, 4) == expected


def test_measurements_are_kept_by_network_shape_batch_size_and_processor(guide, capabilities):
    capabilities(avx512_bf16=True, cpu_name="one")
    choose_precision(guide, SHAPE, 4)
    choose_precision(guide, SHAPE, 4)
    choose_precision(guide, SHAPE, 2)
    other = Guide(ResNet(1, 4, width=2, num_blocks=1)).eval()
    choose_precision(other, SHAPE, 4)
    choose_precision(other, (1, 12, 12), 4)
    capabilities(avx512_bf16=True, cpu_name="two")
    choose_precision(guide, SHAPE, 4)
    assert len(json.loads(speed_file().read_text())) == 5


@pytest.mark.parametrize("content", ["{", "[1, 2]", '{"a": 1}', None])
def test_a_cache_that_cannot_be_used_is_no_obstacle(guide, capabilities, content):
    capabilities(avx512_bf16=True)
    if content is None:
        speed_file().mkdir()  # which cannot be written either
    else:
        speed_file().write_text(content)
    assert choose_precision(guide, SHAPE, 4) in ("float32", "bfloat16")
    assert content is None or len(json.loads(speed_file().read_text())) == 1


def pays(guide, num_calls, mode="auto"):
    frozen = guide.frozen()
    return pays_to_compile(frozen.objective("logit"), frozen, IMAGES, LABELS, num_calls, mode)


def test_short_jobs_and_never_measure_nothing(guide):
    unusable = Unusable(guide.network)
    for num_calls, mode in ((19, "auto"), (1e9, "never")):
        objective = unusable.objective("logit")
        assert not pays_to_compile(objective, unusable, IMAGES, LABELS, num_calls, mode)
    assert not speed_file().exists()


def test_compiling_must_gain_more_than_it_takes(guide, put_compiler):
    put_compiler(lambda plain: plain)
    pays(guide, 1, "always")
    put_seconds(plain=1.0, compiled=0.9, compiling=60.0)
    found = [pays(guide, num_calls) for num_calls in (100, 599, 601)]
    assert found == [False, False, True]
    put_seconds(plain=1.0, compiled=0.1, compiling=1.0)
    assert not pays(guide, 119) and pays(guide, 121)  # two minutes are the shortest job
    assert pays(guide, 1, "always") and not pays(guide, 1e9, "never")
    put_seconds(plain=1.0, compiled=1.1, compiling=1.0)
    assert not pays(guide, 1e9) and not pays(guide, 1e9, "always")


def test_a_compiled_gradient_that_points_elsewhere_is_not_used(guide, put_compiler):
    def astray(plain):
        def gradient(*inputs):
            found, values, watched = plain(*inputs)
            return -found, values, watched

        return gradient

    put_compiler(astray)
    assert not pays(guide, 1e9, "always")
    (seconds,) = json.loads(speed_file().read_text()).values()
    assert seconds["compiled"] == seconds["plain"]  # kept as no gain, however fast it is


def test_compiled_gradients_are_tried_in_a_thread_as_jobs_take_them(guide, put_compiler):
    def of_one_thread(plain):
        def gradient(*inputs):
            assert threading.current_thread() is threading.main_thread(), "as CUDA graphs may be"
            return plain(*inputs)

        return gradient

    put_compiler(of_one_thread)
    with pytest.warns(UserWarning, match="going on without it: AssertionError as CUDA graphs may"):
        assert not pays(guide, 1e9, "always")


def test_a_compiler_that_fails_is_reported_once_and_not_used(guide, put_compiler):
    def broken(plain):
        def gradient(*inputs):
            raise RuntimeError("no C++ compiler\nand a long explanation")

        return gradient

    put_compiler(broken)
    with pytest.warns(UserWarning, match="going on without it: RuntimeError no C.. compiler$"):
        assert not pays(guide, 1e9, "always")
    assert not pays(guide, 1e9, "always") and not pays(guide, 1e9)  # a warning would be an error


def test_the_batch_fits_into_the_memory_that_is_free(monkeypatch):
    network = Frozen(ResNet(3, 10, width=16, num_blocks=1))
    free = types.SimpleNamespace(available=2**40)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    assert batch_size_for(network, (3, 32, 32)) == 32
    # The stem alone keeps 16 channels of 32 x 32 before and after its activation.
    free.available = 3 * 2 * (2 * 2 * 16 * 32 * 32 * 4)
    assert batch_size_for(network, (3, 32, 32)) == 1
    free.available = 3 * 32 * 2**20
    some = batch_size_for(network, (3, 32, 32))
    assert 4 <= some < 32 and batch_size_for(network, (3, 64, 64)) in (some // 4, some // 8)


@pytest.mark.slow
def test_a_really_compiled_gradient_is_the_plain_one(guide):
    compiled_gradient.cache_clear()
    objective = guide.frozen().objective("ce")
    plain = value_and_gradient(objective, IMAGES, LABELS)
    with torch.no_grad():
        compiled = compiled_gradient("cpu")(objective, IMAGES, LABELS)
    for ours, theirs in zip(compiled, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        assert not ours.requires_grad
