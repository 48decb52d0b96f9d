"""Numbers as text. Results are kept at full precision; they are rounded here alone."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from burnish.metrics.metric import DASH, Metric

__all__ = ["change_of", "count", "flatten", "minus", "number", "percent"]


def minus(text: str) -> str:
    """Replace hyphens by minus signs."""
    return text.replace("-", "\N{MINUS SIGN}")


def number(metric: Metric, value: float | None) -> str:
    """Return a value of a metric, rounded."""
    return minus(metric.text(value))


def percent(baseline: float | None, refined: float | None) -> float | None:
    """Return the change in percent of the baseline; None if it is not defined."""
    if baseline is None or refined is None or not baseline > 0:
        return None
    change = 100 * (refined - baseline) / baseline
    return change if math.isfinite(change) else None


def change_of(metric: Metric, baseline: float | None, refined: float | None) -> tuple[str, str]:
    """Return the change of the full numbers as text, and "better", "worse", "same" or "".

    It is "same" if the rounded numbers are the same, and "" if a number is missing.
    """
    if baseline is None or refined is None or not math.isfinite(refined - baseline):
        return DASH, ""
    if metric.text(baseline) == metric.text(refined):
        return "0", "same"
    decimals = max(metric.decimals(baseline), metric.decimals(refined))
    change, relative = f"{refined - baseline:+.{decimals}f}", percent(baseline, refined)
    if relative is not None:
        change += f" ({relative:+.1f}%)"
    is_better = (refined > baseline) == (metric.better == "higher")
    return minus(change), "better" if is_better else "worse"


def count(value: int | None) -> str:
    """Return a count as text."""
    return "an unknown number of" if value is None else f"{value:,}"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings as dotted names and texts; of long lists, the length alone."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple) and len(value) > 8:
            yield f"{prefix}{key}", f"{len(value)} values"
        else:
            yield f"{prefix}{key}", "none" if value is None or value == {} else str(value)
