"""Settings: presets, a guide's own recommendation, and what is refused."""

import json
import math
import subprocess
import sys

import pytest
from torch import nn

from burnish.cli.main import main
from burnish.errors import InputError
from burnish.guide.model import Guide
from burnish.refinement.presets import PRESETS, settings_for
from burnish.refinement.published import PUBLISHED, published_labels, size_note
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


# Table 7 of BIGRoC in its own units, for images in [-1, 1]; its notebooks of ImageNet in [0, 1].
TABLE_7 = {"vae": 25, "dcgan": 5, "wgan-gp": 5, "sngan": 3, "ssgan": 3, "cgan": 5, "cgan-pd": 2,
           "biggan": 1, "diff-biggan": 1}  # fmt: skip
IMAGENET = {"adm-g-128": 1.5, "biggan-deep-128": 5, "biggan-deep-256": 1, "adm-g-256": 3,
            "adm-g-u-256": 1.5, "sn-resnet-gan": 1.8, "sn-resnet-proj-128": 15}  # fmt: skip


@pytest.mark.parametrize("guide_card", [{}, JOINT_CARD])
def test_published_radii_in_units_of_0_to_1(guide_card):
    """Whatever the card of the guide recommends."""
    radii = {name: eps / 2 for name, eps in TABLE_7.items()} | IMAGENET
    for name, eps in radii.items():
        found = settings_for(classifier(guide_card), f"bigroc/{name}")
        assert found == RefineSettings("ce", "l2", eps, 1.5 * eps / 7, 7), name
    notebook = settings_for(classifier(guide_card), "bigroc/sngan-notebook")
    assert notebook == RefineSettings("ce", "l2", 2.5, 2.5 / 30, 30)
    assert len([name for name in PUBLISHED if not name.endswith("-notebook")]) == len(radii)


def test_overrides_of_published_settings():
    found = settings_for(classifier(), "bigroc/sngan", eps=7.0)
    assert found == RefineSettings("ce", eps=7.0, step_size=1.5)
    found = settings_for(classifier(), "bigroc/sngan-notebook", eps=1.0, num_steps=10)
    assert found == RefineSettings("ce", eps=1.0, step_size=0.1, num_steps=10)
    assert settings_for(classifier(), "bigroc/sngan", step_size=0.1).step_size == 0.1
    assert settings_for(classifier(), "bigroc/sngan", norm="l2").eps == 1.5
    for other in ({"norm": "linf"}, {"update": "sgld"}):  # a radius of another ball, or no ball
        with pytest.raises(InputError, match="give eps"):
            settings_for(classifier(), "bigroc/sngan", **other)
    with pytest.raises(InputError, match="eps"):
        settings_for(classifier(), "bigroc/sngan", eps="much")


def test_labels_and_sizes_are_as_published():
    assert published_labels("bigroc/sngan") == "balanced"
    assert published_labels("bigroc/cgan-pd") == "given"
    assert published_labels("bigroc") is published_labels(None) is None
    assert size_note("bigroc/adm-g-128", 128, 128) == size_note("joint", 8, 8) == ""
    assert "published for images of 128 x 128, and these are 64 x 64" in size_note(
        "bigroc/adm-g-128", 64, 64
    )


def test_presets_are_listed_with_what_they_reached(capsys):
    main(["presets", "--json"])
    rows = {row["preset"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == PRESETS.keys()
    row = rows["bigroc/adm-g-128"]
    found = [row[key] for key in ("eps", "num_steps", "labels", "image_size")]
    assert found == [1.5, 7, "given", 128]
    assert "2.974 -> 2.534" in row["reached"] and "OpenAI" in row["protocol"]
    main(["presets"])
    text = capsys.readouterr().out
    assert all(name in text for name in PRESETS) and max(map(len, text.splitlines())) < 250
