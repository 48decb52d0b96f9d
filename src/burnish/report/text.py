"""Numbers and templates as text: results keep full precision and are rounded here alone."""

import base64
import math
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from burnish.metrics.intervals import Change
from burnish.metrics.metric import DASH, Metric, rounded


def render(template: str, **values: Any) -> str:
    """Fill a template of this folder; in HTML, all values are escaped."""
    environment = Environment(
        loader=PackageLoader("burnish.report", ""),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not template.endswith(".html.j2"),
    )
    environment.filters |= {"uri": _uri, "minus": minus, "cell": cell}
    return environment.get_template(template).render(values)


def cell(text: Any) -> str:
    """Keep a cell of Markdown one cell and a name a name: escape line ends, columns and tags."""
    text = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _uri(picture: bytes) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def minus(text: str) -> str:
    """Replace hyphens by minus signs."""
    return text.replace("-", "\N{MINUS SIGN}")


def counted(count: int, noun: str) -> str:
    """Return a number with what it counts: ``1 pair``, ``1,000 pairs``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def count(value: int | None) -> str:
    """Return a count as text."""
    return "an unknown number of" if value is None else f"{value:,}"


def number(metric: Metric, value: float | None) -> str:
    """Return a value of a metric, rounded."""
    return minus(metric.text(value))


def percent(baseline: float | None, refined: float | None) -> float | None:
    """Return the change in percent of the baseline; None if it is not defined."""
    if baseline is None or refined is None or not baseline > 0:
        return None
    change = 100 * (refined - baseline) / baseline
    return change if math.isfinite(change) else None


def share_error(share: float, num: int | None) -> float:
    """Return the binomial standard error of a share of ``num`` images; 0 for an unknown number.

    ``sqrt(p (1 - p) / n)``. Images are counted as independent, which they are not quite where they
    share neighbors.
    """
    return math.sqrt(max(0.0, share * (1 - share)) / num) if num else 0.0


def change_of(
    metric: Metric, baseline: float | None, refined: float | None, interval: Change | None = None
) -> tuple[str, str]:
    """Return the change of the full numbers as text, and what it is in a word.

    It is "better" or "worse"; "same" if the rounded numbers are the same; "unclear" if 0 lies in
    the ``interval`` of the difference, None where none is known; and "" if a number is missing.
    """
    if baseline is None or refined is None or not math.isfinite(refined - baseline):
        return DASH, ""
    if metric.text(baseline) == metric.text(refined):
        return "0", "same"
    decimals = max(metric.decimals(baseline), metric.decimals(refined))
    change, relative = rounded(refined - baseline, decimals, "+"), percent(baseline, refined)
    if relative is not None:
        change += f" ({rounded(relative, 1, '+')}%)"
    if interval is not None and not interval.is_significant:
        return minus(change), "unclear"
    is_better = (refined > baseline) == (metric.better == "higher")
    return minus(change), "better" if is_better else "worse"


def interval_text(metric: Metric, value: float, interval: Change | None) -> str:
    """Return the interval of a difference as ``[low, high]``, "" where there is none."""
    if interval is None:
        return ""
    ends, decimals = (interval.low, interval.high), metric.decimals(value)
    low, high = (rounded(end, decimals, "+") for end in ends)
    return minus(f"[{low}, {high}]")
