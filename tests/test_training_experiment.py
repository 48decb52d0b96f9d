"""Experiments: defaults, values in their places, and faults that name the file and the place."""

import math
from pathlib import Path

import pytest

from burnish.errors import InputError
from burnish.training.config import AttackConfig, TrainingConfig
from burnish.training.experiment import Experiment, load_experiment

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
        features:
          plain: {network: {name: convnet, widths: [8]}, training: &it {num_steps: 5, flip: true}}
          wide: {training: {<<: *it, seed: 3}}
        consistency: {sigma_max: 60, training: {decay: step, milestones: [10, 20]}}
        joint:
          generated_attack: {eps: .inf, step_size: 0.1, num_steps: 3, random_start: false}
          training: {learning_rate: 1e-3, gradient_clip: .inf}
          weights: {bce_real: 2}
        """,
    )
    assert found.features["plain"].network == {"name": "convnet", "widths": [8]}
    assert found.features["plain"].training == TrainingConfig(num_steps=5, flip=True)
    assert found.features["wide"].training == TrainingConfig(num_steps=5, flip=True, seed=3)
    assert found.consistency.sigma_max == 60.0
    assert found.consistency.training.milestones == (10, 20)
    assert found.joint.generated_attack == AttackConfig(
        eps=math.inf, step_size=0.1, num_steps=3, random_start=False
    )
    assert found.joint.training.learning_rate == 1e-3
    assert found.joint.training.gradient_clip == math.inf
    assert found.joint.weights == {"bce_real": 2.0}
    assert found.data == Experiment().data


def test_a_variant_does_not_take_over_the_name(tmp_path):
    # It would write into the run of the experiment that it extends.
    (tmp_path / "base.yaml").write_text("name: first\njoint: {num_generated: 5}\n")
    found = load(tmp_path, "extends: base.yaml")
    assert found.name == "set" and found.joint.num_generated == 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("feautres: {}", "did you mean 'features'"),
        ("joint: {training: {num_step: 5}}", "joint: training: .*did you mean 'num_steps'"),
        ("features: {plain: {netwrk: {}}}", "features: plain: .*did you mean 'network'"),
        ("features: {../it: {}}", "must be that of a folder"),
        ("name: ..", "must be that of a folder"),
        ("name: .hidden", "must be that of a folder"),
        ("name: " + "a" * 101, "must be that of a folder"),
        ("consistency: {teacher: {of: ../../x}}", "must be that of a folder"),
        ("consistency: {teacher: {of: /tmp}}", "must be that of a folder"),
        ("joint: {generated_by: [../x]}", "must be that of a folder"),
        ("joint: {network: {name: resnet, width: 1000000000}}", "width must be at least 1"),
        (
            "joint: {network: {name: resnet, width: wide}}",
            "joint: network 'resnet': width: expect",
        ),
        ("consistency: {teacher: {sigma_mean: .inf}}", "sigma_mean must be a finite number"),
        ("consistency: {sigma_data: -1}", "sigma_data must be above 0, not -1"),
        ("consistency: {training: {precision: bf16}}", "did you mean 'bfloat16'"),
        ("joint: {num_generated: 0}", "num_generated must be at least 1 and at most 1e.08, not 0"),
        ("joint: {refine: {eps: wide}}", "joint: refine: eps: expected a number"),
        ("joint: {refine: {eps: .inf}}", "joint: refine: eps must be"),
        ("joint: {refine: {update: sgdl}}", "joint: refine: .*did you mean 'sgld'"),
        ("joint: {refine: {objective: logti}}", "joint: refine: .*did you mean 'logit'"),
        (
            "joint: {real_attack: {objective: logti, eps: 1, step_size: 1}}",
            "joint: real_attack: unknown objective 'logti'; did you mean 'logit'",
        ),
        (
            "joint: {generated_attack: {objective: ce_bce, eps: 1, step_size: 1}}",
            "joint: generated_attack: unknown objective 'ce_bce'; did you mean",
        ),
        ("joint: {weights: {bce_generatd: 1}}", "joint: .*did you mean 'bce_generated'"),
        ("joint: {weights: {bce_real: .nan}}", "weights: bce_real: expected a number, not nan"),
        ("joint: {training: {learning_rate: .inf}}", "learning_rate must be above 0"),
        ("joint: {training: {momentum: 1}}", "momentum must be at least 0 and below 1"),
        ("joint: {real_attack: {eps: 1}}", "real_attack: step_size is missing"),
        ("joint: {real_attack: {eps: .inf, step_size: 1}}", "random_start needs a ball of finite"),
        (
            "self_distillation: {num_images: 3}",
            "num_images must be at least 64, one batch",
        ),
        ("[1]", "expected keys and values"),
    ],
)
def test_faults_name_the_file_and_the_place(tmp_path, text, reason):
    with pytest.raises(InputError, match=reason) as caught:
        load(tmp_path, text)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_our_experiments_load(path):
    assert load_experiment(path).name == path.stem


def test_there_are_experiments():
    assert EXPERIMENTS
