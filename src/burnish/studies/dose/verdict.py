"""The rule by which :mod:`burnish.studies.dose.tune` chooses, on plain numbers.

A row is a dict with ``settings`` (None for the images as they are, which is the first row; else
with ``eps``) and ``scores``: for each feature extractor ``fid``, ``kid``, ``precision`` and
``recall``, and, if known, ``fid_change`` and ``kid_change``, with ``difference``, ``std_error``,
``low`` and ``high`` of the paired difference from the first row. Numbers may be missing. Published
tables can therefore be replayed. Nothing here looks at the Inception Score.

* A setting is *admissible* if no extractor finds FD or KID significantly higher, and no precision
  or recall falls by more than its limit.
* It is *recommended* if it is admissible, every deciding extractor finds FD significantly lower
  and KID not higher, and at least one of the others, if there are any, finds FD lower too. The
  independent extractors decide, so that networks trained on the guide's own kind of images cannot
  outvote them; where none is independent, all decide.
* Of the recommended ones the lowest geometric mean of FD / FD as they are over the deciding
  extractors wins, or the smallest eps within one standard error of it: on a flat part of the
  curve, the gentlest setting (Breiman et al., "Classification and Regression Trees", 1984, section
  3.4.3).
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """What decides."""

    independent: Collection[str] = ()
    """Names of the extractors that cannot be outvoted."""
    max_recall_loss: float = 0.02
    max_precision_loss: float = 0.02

    def deciding(self, row: Row) -> list[str]:
        """Return the extractors that must agree: the independent ones, or all."""
        return [name for name in row["scores"] if name in self.independent] or [*row["scores"]]


class Change(NamedTuple):
    """A difference with its interval; without a known one, of no width."""

    difference: float
    low: float
    high: float


def change(row: Row, before: Row, name: str, key: str) -> Change | None:
    """Return how ``fid`` or ``kid`` by an extractor differs from the first row, if it is known."""
    after, first = row["scores"][name].get(key), before["scores"][name].get(key)
    if after is None or first is None:
        return None
    if known := row["scores"][name].get(f"{key}_change"):
        return Change(known["difference"], known["low"], known["high"])
    return Change(after - first, after - first, after - first)


def harms(row: Row, before: Row, rule: Rule) -> list[str]:
    """Return why a setting is not admissible, in words; nothing if it is."""
    found = []
    for name, scores in row["scores"].items():
        for key, called in (("fid", "FD"), ("kid", "KID")):
            moved = change(row, before, name, key)
            if moved and moved.low > 0:
                found.append(f"{called} by {name} rises {from_to(row, before, name, key)}")
        for key in ("precision", "recall"):
            after, first = scores.get(key), before["scores"][name].get(key)
            limit = getattr(rule, f"max_{key}_loss")
            if after is not None and first is not None and first - after > limit + 1e-9:
                found.append(f"{key} by {name} falls {from_to(row, before, name, key)}")
    return found


def shortfalls(row: Row, before: Row, rule: Rule) -> list[str]:
    """Return what an admissible setting lacks to be recommended, in words."""
    found, deciding = [], rule.deciding(row)
    for name in deciding:
        if not _falls(row, before, name):
            what = from_to(row, before, name, "fid")
            found.append(f"FD by {name} is not certain to fall ({what})")
        moved = change(row, before, name, "kid")
        if moved and moved.difference > 0:
            found.append(f"KID by {name} is no lower ({from_to(row, before, name, 'kid')})")
    others = [name for name in row["scores"] if name not in deciding]
    if others and not any(_falls(row, before, name) for name in others):
        found.append(f"none of {', '.join(others)} finds FD lower")
    return found


def score(row: Row, before: Row, rule: Rule) -> float:
    """Return the geometric mean of FD / FD as they are over the deciding extractors."""
    ratios = [_ratio(row, before, name) for name in rule.deciding(row)]
    return math.prod(ratios) ** (1 / len(ratios))


def choose(rows: Sequence[Row], rule: Rule) -> Row | None:
    """Return the setting that the rule recommends, of rows whose first is as they are; or None."""
    before, *tried = rows
    good = [row for row in tried if not harms(row, before, rule) + shortfalls(row, before, rule)]
    if not good:
        return None
    best = min(good, key=lambda row: score(row, before, rule))
    limit = score(best, before, rule) + _std_error(best, before, rule)
    near = [row for row in good if score(row, before, rule) <= limit]
    return min(near, key=lambda row: (row["settings"]["eps"], score(row, before, rule)))


def too_much(row: Row, rows: Sequence[Row], rule: Rule) -> str:
    """Return that FD is higher again than at a smaller eps, in words; empty if it is not."""
    before, *tried = rows
    best = min(tried, key=lambda one: score(one, before, rule))
    here, least = row["settings"]["eps"], best["settings"]["eps"]
    if here <= least or score(row, before, rule) <= score(best, before, rule):
        return ""
    there, back = (score(one, before, rule) - 1 for one in (best, row))
    return f"eps {here:g} is too much: FD changes by {back:+.1%}, by {there:+.1%} at eps {least:g}"


def holds(row: Row, before: Row, rule: Rule) -> list[str]:
    """Return what speaks against a choice on other images, in words; nothing if it holds."""
    found = []
    for name in rule.deciding(row):
        if not _falls(row, before, name):
            what = from_to(row, before, name, "fid")
            found.append(f"FD by {name} is not certain to fall ({what})")
        moved = change(row, before, name, "kid")
        if moved and moved.low > 0:
            found.append(f"KID by {name} rises {from_to(row, before, name, 'kid')}")
    return found


def disagreement(rows: Sequence[Row]) -> tuple[Row, list[str], list[str]] | None:
    """Return a setting over which the extractors disagree, those for it and those against it.

    At least half of them find FD significantly lower there, and at least one finds FD or KID
    significantly higher. Of several such settings, it is the one with the lowest geometric mean of
    FD ratios over all extractors. None if there is none.
    """
    before, *tried = rows
    found = []
    for row in tried:
        names = [*row["scores"]]
        lower = [name for name in names if _falls(row, before, name)]
        higher = [
            name
            for name in names
            if any((c := change(row, before, name, key)) and c.low > 0 for key in ("fid", "kid"))
        ]
        if higher and 2 * len(lower) >= len(names):
            found.append((row, lower, higher))
    return min(found, key=lambda one: score(one[0], before, Rule()), default=None)


def from_to(row: Row, before: Row, name: str, key: str) -> str:
    """Return the two values of a metric and, if it is known, the interval of their difference."""
    first, after = before["scores"][name][key], row["scores"][name][key]
    text = f"from {first:.4g} to {after:.4g}"
    known = row["scores"][name].get(f"{key}_change")
    if known and first > 0:
        low, high = known["low"] / first, known["high"] / first
        text += f" ({(after - first) / first:+.1%}, 95 % interval {low:+.1%} to {high:+.1%})"
    return text


def _falls(row: Row, before: Row, name: str) -> bool:
    moved = change(row, before, name, "fid")
    return moved is not None and moved.high < 0


def _ratio(row: Row, before: Row, name: str) -> float:
    return row["scores"][name]["fid"] / max(before["scores"][name]["fid"], 1e-12)


def _std_error(row: Row, before: Row, rule: Rule) -> float:
    """Return the standard error of the score: of independent relative changes, to first order."""
    names = rule.deciding(row)
    total = 0.0
    for name in names:
        known = row["scores"][name].get("fid_change") or {"std_error": 0.0}
        total += (known["std_error"] / max(before["scores"][name]["fid"], 1e-12)) ** 2
    return math.sqrt(total) / len(names)
