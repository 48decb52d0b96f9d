"""The settings of an ascent, and those of refinement. No torch is imported here.

Presets, and what a guide's card adds to them, are in :mod:`burnish.refinement.presets`.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from burnish.schema import Range, check

# Which class each image is refined towards; see burnish.refinement.labels.
LABELINGS = ("given", "pseudo", "balanced", "quotas")


@dataclass(frozen=True)
class AscentSettings:
    """What is climbed, and how far; for refinement and for the attacks in training."""

    objective: str = "logit"
    """What is maximized: logit, ce, bce, ce_minus_bce, ce_plus_bce or logsumexp."""
    norm: Literal["l2", "linf", "none"] = "l2"
    """The ball that images stay in."""
    eps: Annotated[float | None, Range(0, finite=False)] = None
    """Radius of the ball in [0, 1] pixel units; L2 is over all values of an image."""
    step_size: Annotated[float | None, Range(0)] = None
    """Length of a step, in the unit of eps; for sgld, the factor on the gradient."""
    num_steps: Annotated[int, Range(0)] = 7
    """Steps per image, at most."""
    precondition: Literal["none", "spectrum"] = "none"
    """spectrum: gradients are first multiplied by the square root of the spectrum of real images,
    which keeps steps from spending their length on grain."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class RefineSettings(AscentSettings):
    """How images are refined; every field means what it says whatever the others are."""

    eps: Annotated[float | None, Range(0)] = None
    """Radius of the ball in [0, 1] pixel units; L2 is over all values of an image."""
    update: Literal["pgd", "sgld"] = "pgd"
    """pgd makes steps of fixed length, sgld follows the raw gradient with noise."""
    noise_std: Annotated[float, Range(0)] = 0.0
    """Standard deviation of the noise of one sgld step."""
    clamp_each: bool = True
    """Clamp to [0, 1] after every sgld step, or once at the end."""
    match_spectrum: bool = False
    """First give images the spectrum of real ones, by a linear filter; the ball is centered on
    the result."""
    stop_quantile: Annotated[float | None, Range(0, 1)] = None
    """Stop an image once its realness reaches this quantile of real images; none for never."""
    seed: int = 0
    """Seed of the sgld noise."""
    keep_better: bool = False
    """Leave an image exactly as it came if the guide finds it worse after the steps."""
