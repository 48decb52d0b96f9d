"""The settings of refinement, and the presets that fill them in.

Presets:

* ``bigroc`` (Ganz & Elad 2023): targeted L2 PGD on the cross-entropy of any classifier, 7 steps of
  1.5 eps / 7. The ball is true and levels are rounded; the released notebooks centre it after the
  first step (reaching 1.21 eps) and truncate.
* ``golan24-sgld`` (Golan et al. 2024, released script): 15 raw-gradient steps of 0.002 on the
  logit of a joint model, noise 1e-4, one clamp at the end.
* ``golan24-pgd``: the same objective by normalised steps in an L2 ball.
* ``joint``: what burnish does when nothing else is said; ``golan24-pgd`` with per-image stopping
  at the realness of real images.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from burnish.errors import InputError, unknown
from burnish.guide.model import OBJECTIVES, Guide

__all__ = ["PRESETS", "RefineSettings", "settings_for"]


@dataclass(frozen=True)
class RefineSettings:
    """How to climb; every field means what it says whatever the others are."""

    objective: str = "logit"
    """What to maximise: logit, ce, bce, ce_minus_bce, ce_plus_bce, logsumexp."""
    update: Literal["pgd", "sgld"] = "pgd"
    """Steps of fixed length, or the raw gradient with noise."""
    norm: Literal["l2", "linf", "none"] = "l2"
    """The ball that images stay in."""
    eps: float | None = None
    """Radius of the ball in [0, 1] pixel units; L2 is over all values of an image."""
    step_size: float | None = None
    """Length of a PGD step (default 1.5 eps / num_steps), or factor on the gradient for SGLD."""
    num_steps: int = 7
    """Steps per image, at most."""
    noise_std: float = 0.0
    """Standard deviation of the noise of one SGLD step."""
    clamp_each: bool = True
    """Clamp to [0, 1] after every SGLD step, or once at the end."""
    stop_quantile: float | None = None
    """Stop an image once its realness reaches this quantile of real images; none = never."""
    seed: int = 0
    """Of the SGLD noise."""

    def __post_init__(self) -> None:
        for name in ("eps", "step_size", "num_steps", "noise_std"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise InputError(f"{name} must be a finite number of at least 0, not {value}")
        for name, choices in (
            ("objective", tuple(OBJECTIVES)),
            ("update", ("pgd", "sgld")),
            ("norm", ("l2", "linf", "none")),
        ):
            if getattr(self, name) not in choices:
                raise unknown(name, getattr(self, name), choices)
        if self.stop_quantile is not None and not 0 <= self.stop_quantile <= 1:
            raise InputError(f"stop_quantile must lie in [0, 1], not {self.stop_quantile}")


NAMES = tuple(field.name for field in dataclasses.fields(RefineSettings))

PRESETS: dict[str, RefineSettings] = {
    "joint": RefineSettings(stop_quantile=0.5),
    "bigroc": RefineSettings(objective="ce"),
    "golan24-pgd": RefineSettings(),
    "golan24-sgld": RefineSettings(
        update="sgld", norm="none", step_size=0.002, num_steps=15, noise_std=1e-4, clamp_each=False
    ),
}


def settings_for(guide: Guide, preset: str | None, **overrides: Any) -> RefineSettings:
    """Resolve settings: the preset, then what the guide's card recommends, then the overrides.

    The card speaks only where its training's own preset, ``joint``, is in use.

    Args:
        guide: Whose card is asked.
        preset: One of :data:`PRESETS`; None means ``joint`` for a guide that knows the realness of
            real images and ``bigroc`` for any other classifier.
        overrides: Fields of :class:`RefineSettings`; those that are None do not override.

    Raises:
        InputError: The preset is unknown, or something that the settings need is missing.
    """
    if preset is None:
        preset = "joint" if "realness" in guide.card else "bigroc"
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    settings, card = PRESETS[preset], guide.card.get("refine", {})
    if preset == "joint":
        for name in card:
            if name not in NAMES:
                raise unknown("refine setting in the guide's card", name, NAMES)
        settings = dataclasses.replace(settings, **card)
    given = {name: value for name, value in overrides.items() if value is not None}
    settings = dataclasses.replace(settings, **given)
    if settings.norm == "none":
        if "eps" in given:
            raise InputError("eps means nothing without a ball; leave it out or give --norm l2")
        settings = dataclasses.replace(settings, eps=None)
    elif "eps" not in given:
        # A radius says nothing about another norm's ball.
        eps = card.get("eps") if settings.norm == card.get("norm", "l2") else None
        if eps is None:
            raise InputError("give --eps, the radius in [0, 1] pixels, e.g. L2 1.0 for 32x32")
        settings = dataclasses.replace(settings, eps=eps)
    if settings.update == "pgd" and given.get("noise_std"):
        raise InputError("noise_std belongs to --update sgld; pgd has no noise")
    if settings.step_size is None:
        if settings.update == "sgld" or settings.eps is None:
            raise InputError("give --step-size; it has no default without a ball or for sgld")
        step_size = 1.5 * settings.eps / max(1, settings.num_steps)
        settings = dataclasses.replace(settings, step_size=step_size)
    _check(settings, guide)
    return settings


def _check(settings: RefineSettings, guide: Guide) -> None:
    guide.objective(settings.objective)
    if settings.stop_quantile is not None and "realness" not in guide.card:
        raise InputError("this guide does not know the realness of real images; no stop_quantile")
