"""A setting that is misspelt or mistyped never passes for a default."""

import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from burnish.errors import InputError
from burnish.schema import read
from burnish.training.config import Experiment, TrainingConfig
from burnish.training.experiment import load_experiment

EXPERIMENTS = sorted((Path(__file__).parents[1] / "experiments").glob("*.yaml"))


def load(tmp_path, text):
    path = tmp_path / "set.yaml"
    path.write_text(text)
    return load_experiment(path)


def test_defaults_and_name(tmp_path):
    assert load(tmp_path, "") == Experiment(name="set")
    assert load(tmp_path, "name: other").name == "other"


def test_values_reach_their_place(tmp_path):
    found = load(
        tmp_path,
        """
        judges:
          plain: {network: {name: judge, widths: [8]}, training: &it {num_steps: 5, flip: true}}
          wide: {training: {<<: *it, seed: 3}}
        consistency: {sigma_max: 60, training: {decay: step, milestones: [10, 20]}}
        joint:
          fake_attack: {eps: .inf}
          training: {learning_rate: 1e-3, weight_decay: 5e-4}
          weights: {bce_real: 2}
        """,
    )
    assert found.judges["plain"].network == {"name": "judge", "widths": [8]}
    assert found.judges["plain"].training == TrainingConfig(num_steps=5, flip=True)
    assert found.judges["wide"].training == TrainingConfig(num_steps=5, flip=True, seed=3)
    assert found.consistency.sigma_max == 60.0 and type(found.consistency.sigma_max) is float
    assert found.consistency.training.milestones == (10, 20)
    assert found.joint.fake_attack.eps == math.inf
    # YAML itself takes 1e-3 for text.
    assert found.joint.training.learning_rate == 1e-3
    assert found.joint.training.weight_decay == 5e-4
    assert found.joint.weights == {"bce_real": 2.0}
    assert found.data == Experiment().data


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("jugdes: {}", "did you mean 'judges'"),
        ("joint: {training: {num_step: 5}}", "joint: training: .*did you mean 'num_steps'"),
        ("judges: {plain: {netwrk: {}}}", "judges: plain: .*did you mean 'network'"),
        ("consistency: {training: {num_steps: many}}", "num_steps: expected int, not 'many'"),
        ("consistency: {training: {num_steps: 1.5}}", "expected int"),
        ("consistency: {training: {num_steps: true}}", "expected int"),
        ("consistency: {training: {flip: 1}}", "flip: expected bool"),
        ("consistency: {training: {learning_rate: fast}}", "expected float, not 'fast'"),
        ("consistency: {training: {learning_rate: true}}", "expected float"),
        ("consistency: {training: {milestones: 5}}", "milestones: expected a list"),
        ("consistency: {training: {milestones: [a]}}", "milestones: expected int"),
        ("consistency: {method: distilation}", "did you mean 'distillation'"),
        ("consistency: {method: [distillation]}", "method"),
        ("consistency: {training: }", "expected keys and values"),
        ("data: {source: 3}", "source: expected str"),
        ("judges: [a]", "judges: expected keys and values"),
        ("joint: {weights: {bce_real: much}}", "bce_real: expected float"),
        ("consistency: {sigma_data: -1}", "sigma_data must be above 0, not -1.0"),
        ("joint: {num_fakes: 0}", "num_fakes must be at least 1, not 0"),
        ("- a", "expected keys and values"),
        ("a: [", "not YAML"),
        ("name: 2020-13-45", "not YAML"),
        ("extends: list.yaml", "list.yaml: expected keys and values"),
        ("extends: set.yaml", "extends itself, by way of set.yaml"),
        ("joint: {refine: {eps: wide}}", "joint: refine: eps: expected float"),
        ("joint: {refine: {eps: -1}}", "joint: refine: eps must be"),
        ("joint: {refine: {objective: logits}}", "joint: refine: .*did you mean 'logit'"),
        ("joint: {weights: {bce_real: .nan}}", "bce_real must be finite"),
        ("joint: {training: {learning_rate: .inf}}", "learning_rate, a finite number"),
        ("absorb: {num_images: 3}", "num_images must be at least 64"),
    ],
)
def test_faults_name_the_file_and_the_place(tmp_path, text, reason):
    (tmp_path / "list.yaml").write_text("[1]")
    with pytest.raises(InputError, match=reason) as caught:
        load(tmp_path, text)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_experiment_extends_another(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "name: first\n"
        "consistency: {sigma_max: 60, unet: {widths: [8]}, training: {num_steps: 5}}\n"
        "joint: {weights: {ce_real: 2}}\n"
    )
    found = load(
        tmp_path,
        "{extends: base.yaml, consistency: {training: {seed: 3}, unet: {widths: [4, 4]}}}",
    )
    # A variant with its base's name would write into its base's run.
    assert found.name == "set"
    assert found.consistency.sigma_max == 60
    assert found.consistency.training == TrainingConfig(num_steps=5, seed=3)
    assert found.consistency.unet == {"widths": [4, 4]}
    assert found.joint.weights == {"ce_real": 2}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("extends: none.yaml", "no experiment at .*none.yaml"),
        ("extends: set.yaml", "extends itself"),
        ("extends: [set.yaml]", "expected the name of a file"),
    ],
)
def test_what_cannot_be_extended(tmp_path, text, reason):
    with pytest.raises(InputError, match=reason):
        load(tmp_path, text)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="no experiment at"):
        load_experiment(tmp_path / "none.yaml")


@dataclass(frozen=True)
class Limit:
    top: float | None = 1.0


def test_none_where_it_is_allowed():
    assert read(Limit, {"top": None}, "here") == Limit(None)
    assert read(Limit, {"top": 2}, "here") == Limit(2.0)
    with pytest.raises(InputError, match="here: top: expected float"):
        read(Limit, {"top": "high"}, "here")


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_our_experiments_load(path):
    assert load_experiment(path).name == path.stem


def test_there_are_experiments():
    assert EXPERIMENTS
