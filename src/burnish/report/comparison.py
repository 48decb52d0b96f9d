"""Results side by side: only numbers of one kind, and with intervals of their differences."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from burnish.errors import InputError, shown
from burnish.metrics.fingerprint import VERSIONS, difference, fingerprint
from burnish.metrics.influence import influence_path
from burnish.metrics.intervals import Change, paired_change, unpaired_change
from burnish.metrics.metric import METRICS, Metric
from burnish.report.comparison_result import Result, read_result

MAX_RESULTS = 100


@dataclass(frozen=True)
class Comparison:
    """Results whose numbers can be compared."""

    names: list[str]
    results: list[Result]
    metrics: list[Metric]
    """Those of which every result has a number."""
    changes: list[dict[str, Change | None]]
    """From the first result to each of the others, by key; None where there is no interval."""
    notes: list[str]

    @property
    def basis(self) -> str:
        """What all numbers depend on, in words."""
        card = self.results[0].card
        features = card.get("feature_extractor") or "given features"
        return (
            f"{card['num_images']:,} images each, features of {features}, "
            f"{_count(card.get('num_reference_images'))} reference images, "
            f"{card.get('num_neighbors')} neighbors, protocol {card['protocol'].get('name')}, "
            f"fingerprint {fingerprint(card)}"
        )


def compare(paths: Sequence[Path]) -> Comparison:
    """Read results of ``burnish evaluate`` and compare all with the first one.

    Raises:
        InputError: One is no such result, or was measured otherwise; what differs is said.
    """
    if not 2 <= len(paths) <= MAX_RESULTS:
        raise InputError(f"give 2 to {MAX_RESULTS} results of burnish evaluate to compare")
    results = [read_result(path) for path in paths]
    first, names, notes = results[0], _names(paths), []
    for name, result in zip(names[1:], results[1:], strict=True):
        found = [
            f"{key} is {shown(a)} and {shown(b)}"
            for key, a, b in difference(first.card, result.card)
        ]
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise InputError(
                f"{paths[0]} and {result.path} cannot be compared: {found[0]}{more}; evaluate "
                "both in one way"
            )
        notes += [
            f"{names[0]} and {name} were made by different versions of {key}"
            for key in VERSIONS
            if first.versions[key] != result.versions[key]
        ]
    known = [one for one in METRICS if all(one.key in result.values for result in results)]
    if not known:
        raise InputError("the results have no metric in common")
    changes = []
    for name, result in zip(names[1:], results[1:], strict=True):
        is_paired = _can_pair(first, result)
        found = {one.key: _change(one.key, first, result, is_paired) for one in known}
        said = PAIRED if is_paired else _why(first, result)
        if is_paired:
            said += _apart(first, result, [one for one in known if found[one.key]])
        notes.append(f"{names[0]} and {name}: {said}")
        changes.append(found)
    return Comparison(names, results, known, changes, notes)


def changes_of(before: Path, after: Path) -> dict[str, dict[str, float]]:
    """Return the differences of two results that have intervals, by key, as values for JSON."""
    (found,) = compare([before, after]).changes
    return {key: asdict(change) for key, change in found.items() if change is not None}


PAIRED = "differences are paired, image by image"
UNPAIRED = "differences are taken for those of independent images, which widens the intervals"


def _change(key: str, first: Result, other: Result, is_paired: bool) -> Change | None:
    if is_paired and _pairs(key, first, other):
        return paired_change(first.estimates[key], other.estimates[key])
    if key not in first.intervals or key not in other.intervals:
        return None
    a, b = first.intervals[key], other.intervals[key]
    return unpaired_change(a["value"], b["value"], a["std_error"], b["std_error"])


def _pairs(key: str, first: Result, other: Result) -> bool:
    """Return whether both have influences of a metric, and as many: other versions halve more."""
    a, b = first.estimates.get(key), other.estimates.get(key)
    return a is not None and b is not None and len(a.influence) == len(b.influence)


def _apart(first: Result, other: Result, metrics: Sequence[Metric]) -> str:
    """Say which differences are not paired, and what their influences are like."""
    apart = [one for one in metrics if not _pairs(one.key, first, other)]
    if not apart:
        return ""
    odd = [one.title for one in apart if one.key in first.others | other.others]
    lacking = [one.title for one in apart if one.title not in odd]
    why = [f"lacks {', '.join(lacking)}"] * bool(lacking)
    why += [f"holds a wrong number of values for {', '.join(odd)}; evaluate again"] * bool(odd)
    titles = ", ".join(one.title for one in apart)
    return f", but those of {titles} are not: an .influence.npz {' and '.join(why)}"


def _can_pair(first: Result, other: Result) -> bool:
    if first.ids is None or other.ids is None:
        return False
    return bool(np.array_equal(first.ids, other.ids))


def _why(first: Result, other: Result) -> str:
    for result in (first, other):
        if result.ids is None:
            return f"{UNPAIRED} (there is no {influence_path(result.path).name})"
    return f"{UNPAIRED} (the images have other ids, or another order)"


def _names(paths: Sequence[Path]) -> list[str]:
    """Return as many of the last parts of the paths as tell them apart."""
    for count in range(1, 5):
        names = [_plain("/".join(path.with_suffix("").parts[-count:])) for path in paths]
        if all(a != b for a, b in pairwise(sorted(names))):
            return names
    return [_plain(str(path)) for path in paths]


def _plain(name: str) -> str:
    """Return a name on one line, without signs that command a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in name)


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "an unknown number of"
