"""Controls of a gain, as ``burnish explain`` and ``tune`` find them: a table and a line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from burnish.errors import InputError
from burnish.metrics.metric import DASH
from burnish.report.text import minus
from burnish.schema import Range, plain, read

# A control that gives this share of the gain, by all extractors that decide, accounts for it.
MOST = 0.8
CALLED = {"fid": "FD", "kid": "KID"}
GIVES = {
    "class frequencies": "taking the same images in other class frequencies",
    "blur": "a blur", "sharpen": "sharpening",
    "filter": "a linear filter to the spectrum of real images",
    "rejection": "dropping the quarter of lowest realness",
}  # fmt: skip


@dataclass(frozen=True)
class Judge:
    """A feature extractor."""

    name: str
    independent: bool
    open = True


@dataclass(frozen=True)
class Portion:
    """A share of a gain, with its 95 % interval."""

    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Controls:
    """What :func:`burnish.studies.controls.score.score` returns."""

    scores: dict[str, dict[str, dict[str, Annotated[float, Range()]]]]
    shares: dict[str, dict[str, dict[str, Portion | None]]]
    extractors: tuple[Judge, ...]
    unchanged: Annotated[float, Range(0, 1)]
    repeated: Annotated[float, Range(0, 1)]
    open = True


def check_controls(values: Any, where: str) -> dict[str, Any]:
    """Return controls as plain values, checked.

    Raises:
        InputError: Something is missing, or of another type.
    """
    found = plain(read(Controls, values, where))
    sides = {side: found["scores"].get(side, {}) for side in ("baseline", "refined")}
    for rows, keys in ((sides, {*CALLED}), (found["shares"], set[str]())):
        for row, by in rows.items():
            for name in [one["name"] for one in found["extractors"]] or ["any extractor"]:
                if name not in by or not keys <= by[name].keys():
                    raise InputError(f"{where}: {row} has no numbers by {name}")
    return found


def deciding(result: Mapping[str, Any]) -> list[str]:
    """Return the names of the extractors that decide: the independent ones, if there are any."""
    names = [one["name"] for one in result["extractors"] if one["independent"]]
    return names or [one["name"] for one in result["extractors"]]


def accounts_for(shares: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> bool:
    """Return whether a control gives most of every gain, by all of some extractors."""
    found = [shares[name][key] for name in names for key in CALLED if shares[name].get(key)]
    return bool(found) and all(one["share"] >= MOST for one in found)


def all_of_it(result: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each control that accounts for the gain."""
    names = deciding(result)
    return [
        f"This is what {_gives(control)} gives, not what refinement adds."
        for control, shares in result["shares"].items()
        if accounts_for(shares, names)
    ]


def reading(result: Mapping[str, Any]) -> str:
    """Return in one line what part of the gain the controls explain."""
    if whole := all_of_it(result):
        return " ".join(whole)
    found = [
        (one["share"], portion(one), key, name, control)
        for control, shares in result["shares"].items()
        for name in deciding(result)
        for key in CALLED
        if (one := shares[name].get(key))
    ]
    if not found:
        return "No gain is certain, so there is nothing to explain."
    _, text, key, name, control = max(found, key=lambda one: one[0])
    return (
        f"No control gives {MOST:.0%} of every gain. The largest share, {text} of the fall of "
        f"{CALLED[key]} by {name}, comes from {_gives(control)}."
    )


def shares_table(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the heads and rows of texts of a table: the gain, and each control's share of it."""
    columns = [(one["name"], key) for one in result["extractors"] for key in CALLED]
    first, after = (result["scores"][side] for side in ("baseline", "refined"))
    moved = [f"{first[name][key]:.4g} → {after[name][key]:.4g}" for name, key in columns]
    rows = [["from baseline to refined", *map(minus, moved)]]
    for control, shares in result["shares"].items():
        found = (shares[name].get(key) for name, key in columns)
        rows.append([control, *(portion(one) if one else DASH for one in found)])
    heads = [f"{CALLED[key]} by {name}" for name, key in columns]
    return {"heads": heads, "rows": rows, "deciding": " and ".join(deciding(result))}


def portion(one: Mapping[str, float]) -> str:
    """Return a share with its interval, in percent."""
    share, low, high = (_percent(one[key]) for key in ("share", "low", "high"))
    return f"{share} % [{low}, {high}]"


def _percent(share: float) -> str:
    return minus(f"{100 * share:.0f}" if abs(share) < 100 else f"{100 * share:.1e}")


def _gives(control: str) -> str:
    return GIVES.get(control, f"{control!r}")
