"""The scripts in examples/, each run as a user would, with few images."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def load():
    def load(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_refining_tensors_raises_realness(load):
    before, after = load("refine_tensors").main(num_images=8)
    assert after > before


def test_a_ball_of_radius_zero_changes_no_tensor(load):
    before, after = load("refine_tensors").main(num_images=4, eps=0.0)
    assert after == before


def test_images_within_a_good_radius_are_nearer_to_real_ones_than_those_not_refined(load):
    distances = load("compare_radii").main(num_images=100, radii=(0.0, 1.5), batch_size=50)
    assert distances[1.5] < distances[0.0]


def test_the_guides_own_objective_reaches_more_realness_than_another(load, tmp_path):
    reached = load("custom_objective").main(num_images=8, out=tmp_path)
    assert reached["logit"] > reached["margin"]
    assert len(list(tmp_path.glob("step-*/**/*.png"))) >= 16  # the start and at least one step


def test_no_example_reaches_beyond_the_public_names(load):
    for path in EXAMPLES.glob("*.py"):
        assert "from burnish" not in path.read_text(), path
