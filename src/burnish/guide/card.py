"""What the card of a guide may say; a field that is not listed is kept and never read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from burnish.checkpoint import Card
from burnish.errors import InputError
from burnish.schema import read

ENERGIES = ("logit", "logsumexp")


@dataclass(frozen=True)
class Quantiles:
    """The realness of some images."""

    open = True
    quantiles: tuple[float, ...] = ()
    """Equally spaced from 0 to 1, so ascending."""
    data: str = ""
    """The images."""

    def __post_init__(self) -> None:
        rows = self.quantiles
        if not 2 <= len(rows) <= 10_001 or any(low > high for low, high in pairwise(rows)):
            raise InputError("quantiles must be two or more ascending numbers")
        if abs(rows[0]) == float("inf") or abs(rows[-1]) == float("inf"):
            raise InputError("quantiles must be finite")


@dataclass(frozen=True)
class Tuning:
    """What ``burnish tune`` found when the guide was adapted."""

    open = True
    verdict: str = ""
    words: str = ""


@dataclass(frozen=True)
class GuideCard(Card):
    """What is known of a guide."""

    energy: Literal["logit", "logsumexp"] = "logit"
    realness: Quantiles | None = None
    """Of real images."""
    realness_generated: Quantiles | None = None
    """Of the generated images that it was trained on."""
    refine: dict[str, Any] = field(default_factory=dict)
    """Recommended settings of refinement."""
    tuning: Tuning | None = None
    generated: str = ""
    """The generated images that it was trained on, in words."""


def check_card(card: Any, where: str) -> None:
    """Raise InputError if a field of a guide's card has another type or range than listed."""
    if not isinstance(card, Mapping):
        raise InputError(f"{where} must be keys and values, not {type(card).__name__}")
    for name in ("realness", "realness_generated", "tuning"):
        if name in card and card[name] is None:
            raise InputError(f"{where}: {name} is null; leave it out")
    read(GuideCard, dict(card), where)
