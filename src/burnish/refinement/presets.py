"""Presets of refinement, and how settings are resolved.

* ``bigroc``: targeted L2 PGD on the cross-entropy of any classifier, 7 steps of 1.5 eps / 7. Ganz
  & Elad 2023, "BIGRoC: Boosting Image Generation via a Robust Classifier",
  https://arxiv.org/abs/2108.03702. The ball is a true one and levels are rounded; the released
  notebooks center it after the first step (which reaches 1.21 eps) and truncate.
* ``golan24-sgld``: 15 raw-gradient steps of 0.002 on the logit of a joint model, with noise of
  1e-4 and one clamp at the end. Golan, Ganz & Elad 2024, https://arxiv.org/abs/2405.16260, as in
  the released script.
* ``golan24-pgd``: the same objective by normalized steps in an L2 ball.
* ``joint``: ``golan24-pgd``, and each image stops at the realness of real images.
* ``bigroc/...``: ``bigroc`` with the radius that was published for a generator, see
  :mod:`burnish.refinement.published`.
"""

import dataclasses
from typing import Any

from burnish.errors import InputError, unknown
from burnish.guide.model import Guide
from burnish.refinement.published import PUBLISHED
from burnish.refinement.settings import RefineSettings

PRESETS: dict[str, RefineSettings] = {
    "joint": RefineSettings(stop_quantile=0.5),
    "bigroc": RefineSettings(objective="ce"),
    "golan24-pgd": RefineSettings(),
    "golan24-sgld": RefineSettings(
        update="sgld", norm="none", step_size=0.002, num_steps=15, noise_std=1e-4, clamp_each=False
    ),
    **{name: published.settings() for name, published in PUBLISHED.items()},
}


def settings_for(guide: Guide, preset: str | None = None, **overrides: Any) -> RefineSettings:
    """Resolve settings: the preset, then what the guide's card recommends, then the overrides.

    The card speaks only for the preset ``joint``, which its training was made for.

    Args:
        guide: Whose card is read.
        preset: One of :data:`PRESETS`; None means ``joint`` for a guide that knows the realness of
            real images, and ``bigroc`` for any other classifier.
        overrides: Fields of :class:`~burnish.refinement.settings.RefineSettings`; None overrides
            nothing.

    Raises:
        InputError: The preset or a setting is unknown, or something that they need is missing.
    """
    if preset is None:
        preset = "joint" if "realness" in guide.card else "bigroc"
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    card = guide.card.get("refine", {})
    given = {name: value for name, value in overrides.items() if value is not None}
    names = [field.name for field in dataclasses.fields(RefineSettings)]
    for source, kind in ((card, "setting in the card of the guide"), (given, "setting")):
        for name in source:
            if name not in names:
                raise unknown(kind, name, names)
    merged = {**(card if preset == "joint" else {}), **given}
    settings = dataclasses.replace(_base(preset, given), **merged)
    known = "eps" in given or (preset in PUBLISHED and settings.eps is not None)
    return _checked(_filled(settings, given, guide.card, known), given, guide)


def _base(preset: str, given: dict[str, Any]) -> RefineSettings:
    """Return a preset; what was published follows another radius, number of steps or ball."""
    base, published = PRESETS[preset], PUBLISHED.get(preset)
    if published is None:
        return base
    if given.get("norm", "l2") != "l2" or given.get("update", "pgd") != "pgd":
        return dataclasses.replace(base, eps=None, step_size=None)
    eps, num_steps = given.get("eps", base.eps), given.get("num_steps", base.num_steps)
    try:
        step_size = published.path * eps / max(1, num_steps)
    except TypeError:  # said below, with the name of the setting
        step_size = None
    return dataclasses.replace(base, step_size=step_size)


def _filled(
    settings: RefineSettings, given: dict[str, Any], guide_card: dict[str, Any], known: bool
) -> RefineSettings:
    """Fill in the radius, unless it is known, and the step size where they were not given."""
    card = guide_card.get("refine", {})
    if settings.norm == "none":
        if "eps" in given:
            raise InputError("eps means nothing without a ball; leave it out or give --norm l2")
        settings = dataclasses.replace(settings, eps=None)
    elif not known:
        # A radius says nothing about the ball of another norm.
        eps = card.get("eps") if settings.norm == card.get("norm", "l2") else None
        if eps is None:
            if "tuning" in guide_card:
                raise InputError(
                    "no settings helped when this guide was adapted, so it has no eps of its own; "
                    "leave the images as they are, or give --eps and measure"
                )
            raise InputError(
                "give eps (--eps), the radius in [0, 1] pixels, e.g. L2 1.0 for 32x32"
            )
        settings = dataclasses.replace(settings, eps=eps)
    if settings.step_size is None:
        if settings.update == "sgld" or settings.eps is None:
            raise InputError(
                "give step_size (--step-size); it has no default without a ball or for sgld"
            )
        step_size = 1.5 * settings.eps / max(1, settings.num_steps)
        settings = dataclasses.replace(settings, step_size=step_size)
    return settings


def _checked(settings: RefineSettings, given: dict[str, Any], guide: Guide) -> RefineSettings:
    if settings.update == "pgd" and given.get("noise_std"):
        raise InputError("noise_std belongs to --update sgld; pgd has no noise")
    guide.objective(settings.objective)
    guide.realness_quantile(settings.stop_quantile)
    return settings
