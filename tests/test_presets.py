"""Settings: presets, a guide's own recommendation, and what is refused."""

import math
import subprocess
import sys

import pytest
from torch import nn

from burnish.errors import InputError
from burnish.guide.model import Guide
from burnish.refinement.presets import PRESETS, settings_for
from burnish.refinement.settings import AscentSettings, RefineSettings

JOINT_CARD = {"realness": {"quantiles": [0.0, 1.0]}, "refine": {"eps": 2.0, "num_steps": 4}}


def classifier(card=None):
    return Guide(nn.Linear(1, 1), card)


def test_bigroc_is_for_any_classifier():
    expected = RefineSettings("ce", "l2", 1.4, 1.5 * 1.4 / 7, 7)
    assert settings_for(classifier(), None, eps=1.4) == expected
    assert settings_for(classifier(), "bigroc", eps=1.4) == expected


def test_golan24_is_as_in_the_paper():
    released = settings_for(classifier(), "golan24-sgld")
    assert released == RefineSettings(
        "logit", "none", None, 0.002, 15, update="sgld", noise_std=1e-4, clamp_each=False
    )
    pgd = settings_for(classifier(), "golan24-pgd", eps=1.0, num_steps=3)
    assert pgd == RefineSettings("logit", "l2", 1.0, 0.5, 3)
    assert settings_for(classifier(), "golan24-pgd", eps=1.0, num_steps=0).num_steps == 0


def test_the_card_of_a_joint_model_recommends_and_overrides_win():
    joint = classifier(JOINT_CARD)
    expected = RefineSettings("logit", "l2", 2.0, 0.75, 4, stop_quantile=0.5)
    assert settings_for(joint) == settings_for(joint, "joint") == expected
    assert settings_for(joint, "joint", num_steps=6, eps=None).step_size == 0.5
    assert settings_for(joint, "joint", eps=0.0, stop_quantile=0.0).stop_quantile == 0.0
    assert settings_for(joint, "joint", norm="none", step_size=0.1).eps is None
    # Other presets take its radius alone, and only for its own norm.
    assert settings_for(joint, "bigroc") == RefineSettings("ce", eps=2.0, step_size=3 / 7)
    with pytest.raises(InputError, match="give eps"):
        settings_for(joint, "bigroc", norm="linf")
    misspelt = classifier({**JOINT_CARD, "refine": {"stepsize": 1.0}})
    with pytest.raises(InputError, match="did you mean 'step_size'"):
        settings_for(misspelt, "joint", eps=1.0)


def test_an_objective_may_be_a_function():
    def largest(logits, labels):
        return logits.amax(1)

    assert settings_for(classifier(), "bigroc", eps=1.0, objective=largest).objective is largest


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("bigroc", {}, "give eps"),
        ("bigrock", {"eps": 1.0}, "did you mean 'bigroc'"),
        ("joint", {"eps": 1.0}, "realness of real images"),
        ("bigroc", {"eps": -1.0}, "eps must be at least 0"),
        ("bigroc", {"eps": math.nan}, "eps must be at least 0"),
        ("bigroc", {"eps": math.inf}, "eps must be at least 0"),
        ("bigroc", {"epz": 1.0}, "did you mean 'eps'"),
        ("bigroc", {"eps": 1.0, "objective": "logits"}, "did you mean 'logit'"),
        ("bigroc", {"eps": 1.0, "norm": "l3"}, "norm"),
        ("bigroc", {"eps": 1.0, "num_steps": -1}, "num_steps must be at least 0"),
        ("bigroc", {"eps": 1.0, "update": "sgld"}, "give step_size"),
        ("bigroc", {"eps": 1.0, "update": "pdg"}, "did you mean 'pgd'"),
        ("bigroc", {"eps": 1.0, "noise_std": 0.1}, "noise_std"),
        ("golan24-sgld", {"eps": 0.0}, "eps means nothing without a ball"),
        ("golan24-sgld", {"stop_quantile": 2.0}, "stop_quantile must be at least 0 and at most 1"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(preset, overrides, message):
    with pytest.raises(InputError, match=message):
        settings_for(classifier(), preset, **overrides)


def test_attacks_may_be_unbounded_and_refinement_not():
    assert AscentSettings(eps=math.inf).eps == math.inf
    with pytest.raises(InputError, match="eps"):
        RefineSettings(eps=math.inf)


def test_every_preset_is_whole_for_a_joint_model():
    for name in PRESETS:
        settings = settings_for(classifier(JOINT_CARD), name)
        assert settings.step_size and (settings.eps is None) == (settings.norm == "none")


def test_settings_import_no_torch():
    code = "import sys, burnish.refinement.settings; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
