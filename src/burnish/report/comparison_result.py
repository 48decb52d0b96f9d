"""A result of ``burnish evaluate`` as it is read again: refused where it contradicts itself."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish.errors import InputError, shown
from burnish.files import read_json
from burnish.metrics.fingerprint import VERSIONS, fingerprint
from burnish.metrics.influence import influence_path, read_influences
from burnish.metrics.intervals import Z95, Estimate
from burnish.metrics.metric import METRICS, Metric
from burnish.report.checks import EVALUATION, INTERVAL, check_fields, check_intervals

# What a result says of itself and its card says, too.
TWICE = (
    "feature_extractor", "num_images", "num_reference_images", "num_reference_features",
    "num_neighbors",
)  # fmt: skip
ROUNDING = 1e-6
DISTANCES = ("fid", "sfid", "kid", "mind", "cmmd", "fdr")


@dataclass(frozen=True)
class Result:
    """One result of ``burnish evaluate``."""

    path: Path
    values: dict[str, float]
    card: dict[str, Any]
    intervals: dict[str, dict[str, float]]
    versions: dict[str, Any]
    ids: Any = None
    """``[N]``; None if no influences lie beside the result."""
    estimates: dict[str, Estimate] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    """Keys of which as many influences are there as another version keeps."""


def read_result(path: Path) -> Result:
    """Read a result of ``burnish evaluate`` and the influences beside it.

    Raises:
        InputError: It is something else, was changed, or was made before results had cards.
    """
    found = read_json(path)
    card, intervals = found.get("card"), found.get("intervals")
    if not isinstance(card, dict) or not isinstance(intervals, dict):
        raise InputError(f"{path} has no card of its numbers; evaluate again with --json")
    number, protocol = card.get("num_images"), card.get("protocol")
    if type(number) is not int or number < 2 or not isinstance(protocol, dict):
        raise InputError(f"{path}: its card lacks num_images or protocol; evaluate again")
    if found.get("fingerprint") != fingerprint(card):
        raise InputError(f"{path}: its fingerprint is not that of its card; evaluate again")
    check_fields(found, EVALUATION, str(path))
    check_fields(card, {k: EVALUATION[k] for k in TWICE if k in EVALUATION}, f"{path}: card")
    for key in TWICE:
        if key in found and found[key] != card.get(key):
            here, there = shown(found[key]), shown(card.get(key))
            raise InputError(f"{path}: {key} is {here}, and {there} in its card; evaluate again")
    check_intervals(intervals, INTERVAL, f"{path}: intervals")
    for metric in METRICS:
        if problem := _problem(metric, found, intervals.get(metric.key)):
            raise InputError(f"{path}: {problem}; evaluate again")
    known = {one.key: intervals[one.key] for one in METRICS if intervals.get(one.key)}
    values = {one.key: found[one.key] for one in METRICS if found.get(one.key) is not None}
    versions = {key: found.get(key) for key in VERSIONS}
    beside = influence_path(path)
    if not beside.is_file():
        return Result(path, values, card, known, versions)
    centers = {key: interval["value"] for key, interval in known.items()}
    ids, estimates, others = read_influences(beside, centers, number, found["fingerprint"])
    for key, one in estimates.items():
        # Of distances they do not hold what pairs of images add: see burnish.metrics.intervals.
        error, said, slack = one.std_error, known[key]["std_error"], ROUNDING * abs(one.value)
        least, most = (0, 2**0.5) if key in DISTANCES else (1, 1)
        if not 0.999 * least * said - slack <= error <= 1.001 * most * said + slack:
            raise InputError(
                f"{beside}: the influences on {key} have a standard error of {error:g}, and its "
                f"interval one of {said:g}; evaluate again"
            )
    return Result(path, values, card, known, versions, ids, estimates, others)


def _fits(above: float, below: float, error: float, slack: float, cut: bool) -> bool:
    """Return whether distances of the ends from the value fit 1.96 standard errors.

    Their product is the square of these, or less where the lower end was cut; older versions,
    which moved an interval without widening it, came to three quarters of it or more.
    """
    if not (size := max(above, below, error)):
        return True
    above, below, error, slack = above / size, below / size, error / size, slack / size
    product, square = above * below, error * error
    whole = cut or product >= 0.75 * square - slack
    return whole and product <= square + slack and error <= 5 * above + slack


def _fits_share(share: float, ends: tuple[float, float], error: float, num_images: int) -> bool:
    """Return whether the ends of a share's interval are Wilson's for its standard error.

    A share of 0 or 1 has the interval of N images, whatever its error. Behind an error of
    1 / (N + 2), the least there is, may be a smaller one, or none and the interval of N images.
    """
    certain, errors = share in (0, 1), error * (num_images + 2)  # in units of the least one
    if num_images < 1 or errors < 1 - ROUNDING or error > 1:
        return False
    count, least = share * (1 - share) / (error * error), errors <= 1 + ROUNDING
    count = num_images if certain else min(count, num_images) if least else count
    for end in ends:
        far, given = (share - end) ** 2, Z95**2 * end * (1 - end) / count
        if far > given + ROUNDING or (far < given - ROUNDING and (certain or not least)):
            return False
    return True


def _problem(
    metric: Metric, found: Mapping[str, Any], interval: Mapping[str, float] | None
) -> str:
    """Return what cannot be true of a metric; nothing if all can."""
    key, value, (least, most) = metric.key, found.get(metric.key), metric.range
    spread = found.get(metric.std_key or "")
    if spread is not None and spread < 0:
        return f"{metric.std_key} is {spread:g}, and cannot be below 0"
    if value is not None and not least - ROUNDING <= value <= most + ROUNDING:
        bounds = f"from {least:g} to {most:g}" if math.isfinite(most) else f"{least:g} or more"
        return f"{key} is {value:g}, and must be {bounds}"
    if interval is None:
        return ""
    low, center, high = (interval[name] for name in ("low", "value", "high"))
    slack = ROUNDING * max(abs(center), abs(low), abs(high))
    said = f"its interval [{low:g}, {high:g}]"
    if not low - slack <= center <= high + slack:
        return f"{key} is {center:g}, outside of {said}"
    # Below, older versions did not cut at the bound.
    if math.isfinite(most) and not least - ROUNDING <= low <= high <= most + ROUNDING:
        return f"{key} must be from {least:g} to {most:g}, unlike {said}"
    error = interval["std_error"]
    if math.isinf(most):
        cut = low <= least + slack
        fits = _fits(high - center, center - low, Z95 * error, 3 * slack, cut)
    else:  # what is expected of copying is not in the result
        share, ends = min(max(center, 0.0), 1.0), (max(low, 0.0), min(high, 1.0))
        fits = key == "copying" or _fits_share(share, ends, error, found["num_images"])
    if not fits:
        return f"{key} has a standard error of {error:g}, which does not fit {said}"
    if key == "kid":  # the interval is over all pairs, the value over subsets
        slack = 20 * error + abs(center) / 2 if error > slack else math.inf
    if value is not None and abs(value - center) > slack + 1e-12:
        return f"{key} is {value:g}, but {said} is of {center:g}"
    return ""
