"""Numbers as text: how each metric is rounded, and what counts as a change.

Results are files of full precision; rounding happens here and nowhere else.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["DASH", "FID", "METRICS", "Metric", "change_of", "count", "facts", "minus", "percent"]

DASH = "\N{EN DASH}"


class Metric(NamedTuple):
    """How a metric is shown; between the two limits, decimals give three significant digits."""

    key: str
    title: str
    sign: int
    """1 if higher is better, -1 if lower is."""
    min_decimals: int
    max_decimals: int

    @property
    def heading(self) -> str:
        """The title with an arrow towards the better."""
        return f"{self.title} {'↑' if self.sign > 0 else '↓'}"

    def decimals(self, value: float) -> int:
        """Return the number of decimals for a value."""
        if not math.isfinite(value) or value == 0:
            return self.min_decimals
        wanted = 2 - math.floor(math.log10(abs(value)))
        return min(self.max_decimals, max(self.min_decimals, wanted))

    def text(self, value: float | None) -> str:
        """Round a value."""
        return DASH if value is None else minus(f"{value:.{self.decimals(value)}f}")


FID = Metric("fid", "FID", -1, 2, 5)
METRICS = (
    FID,
    Metric("kid", "KID", -1, 2, 6),
    Metric("inception_score", "Inception Score", 1, 2, 2),
    *(Metric(name, name.title(), 1, 3, 3) for name in ("precision", "recall")),
    *(Metric(name, name.title(), 1, 3, 3) for name in ("density", "coverage")),
)


def minus(text: str) -> str:
    """Set true minus signs."""
    return text.replace("-", "\N{MINUS SIGN}")


def percent(base: float | None, refined: float | None) -> float | None:
    """Return the change in percent of ``base``, or None where that means nothing."""
    if base is None or refined is None or not base > 0 or not math.isfinite(refined / base):
        return None
    return 100 * (refined - base) / base


def change_of(metric: Metric, base: float | None, refined: float | None) -> tuple[str, str]:
    """Return the change as text, of the full numbers, and whether it is for the better.

    "better" or "worse" is said only where the rounded numbers differ.
    """
    if base is None or refined is None or not math.isfinite(refined - base):
        return DASH, ""
    if metric.text(base) == metric.text(refined):
        return "0", "same"
    decimals = max(metric.decimals(base), metric.decimals(refined))
    change, relative = f"{refined - base:+.{decimals}f}", percent(base, refined)
    if relative is not None:
        change += f" ({relative:+.1f}%)"
    return minus(change), "better" if (refined - base) * metric.sign > 0 else "worse"


def count(value: int | None) -> str:
    """Return a count as text."""
    return "an unknown number of" if value is None else f"{value:,}"


def facts(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Flatten nested settings to dotted names and texts; long lists are counted only."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from facts(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple) and len(value) > 8:
            yield f"{prefix}{key}", f"{len(value)} values"
        else:
            yield f"{prefix}{key}", "none" if value is None or value == {} else str(value)
