"""Settings of refinement: presets, a guide's own recommendation, and what is refused."""

import pytest
import torch

from burnish.errors import InputError
from burnish.guide.model import Guide
from burnish.refine.refiner import RefineSettings, settings_for


def test_presets_resolve():
    plain = Guide(torch.nn.Linear(1, 1))
    bigroc = settings_for(plain, None, eps=1.4)
    assert bigroc == RefineSettings("ce", "pgd", "l2", 1.4, 1.5 * 1.4 / 7, 7)
    released = settings_for(plain, "golan24-sgld")
    assert released == RefineSettings(
        "logit", "sgld", "none", None, 0.002, 15, 1e-4, clamp_each=False
    )
    assert settings_for(plain, "golan24-pgd", eps=1.0, num_steps=3).step_size == 0.5
    assert settings_for(plain, "golan24-pgd", eps=1.0, num_steps=0).num_steps == 0
    # A joint guide's card recommends; flags overrule it; other presets take its radius alone.
    card = {"realness": {"quantiles": [0.0, 1.0]}, "refine": {"eps": 2.0, "num_steps": 4}}
    joint = Guide(torch.nn.Linear(1, 1), card)
    expected = RefineSettings("logit", "pgd", "l2", 2.0, 0.75, 4, stop_quantile=0.5)
    assert settings_for(joint, None) == settings_for(joint, "joint") == expected
    assert settings_for(joint, "joint", num_steps=6, eps=None).step_size == 0.5
    assert settings_for(joint, "joint", eps=0.0, stop_quantile=0.0).stop_quantile == 0.0
    assert settings_for(joint, "bigroc") == RefineSettings("ce", eps=2.0, step_size=3 / 7)
    assert settings_for(joint, "joint", norm="none", step_size=0.1).eps is None


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("bigroc", {}, "give --eps"),
        ("bigrock", {"eps": 1.0}, "did you mean 'bigroc'"),
        ("joint", {"eps": 1.0}, "realness of real images"),
        ("bigroc", {"eps": -1.0}, "at least 0"),
        ("bigroc", {"eps": float("nan")}, "at least 0"),
        ("bigroc", {"eps": 1.0, "objective": "logits"}, "did you mean 'logit'"),
        ("bigroc", {"eps": 1.0, "norm": "l3"}, "norm"),
        ("bigroc", {"eps": 1.0, "update": "sgld"}, "give --step-size"),
        ("bigroc", {"eps": 1.0, "update": "pdg"}, "did you mean 'pgd'"),
        ("bigroc", {"eps": 1.0, "noise_std": 0.1}, "noise_std"),
        ("golan24-sgld", {"eps": 0.0}, "eps means nothing without a ball"),
        ("golan24-sgld", {"stop_quantile": 2.0}, "lie in"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(preset, overrides, message):
    with pytest.raises(InputError, match=message):
        settings_for(Guide(torch.nn.Linear(1, 1)), preset, **overrides)


def test_a_card_is_read_with_care():
    misspelt = Guide(torch.nn.Linear(1, 1), {"refine": {"stepsize": 1.0}})
    with pytest.raises(InputError, match="did you mean 'step_size'"):
        settings_for(misspelt, "joint", eps=1.0)
    # An L2 radius is no radius for another norm.
    with pytest.raises(InputError, match="give --eps"):
        settings_for(Guide(torch.nn.Linear(1, 1), {"refine": {"eps": 2.0}}), "bigroc", norm="linf")
