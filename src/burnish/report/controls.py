"""Controls of a gain, as ``burnish explain`` and ``tune`` find them: a table and a line."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Annotated, Any

from burnish.errors import InputError, shown
from burnish.metrics.metric import DASH
from burnish.report.checks import LARGEST
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


Number = Annotated[float, Range(-LARGEST, LARGEST)]


@dataclass(frozen=True)
class Judge:
    """A feature extractor."""

    open = True
    name: str
    independent: bool


@dataclass(frozen=True)
class Portion:
    """A share of a gain, with its 95 % interval."""

    share: Number
    low: Number
    high: Number


@dataclass(frozen=True)
class Controls:
    """What :func:`burnish.studies.controls.score.score` returns."""

    open = True
    scores: dict[str, dict[str, dict[str, Number]]]
    shares: dict[str, dict[str, dict[str, Portion | None]]]
    extractors: tuple[Judge, ...]
    unchanged: Annotated[float, Range(0, 1)]
    repeated: Annotated[float, Range(0, 1)]
    baselines: dict[str, str] = field(default_factory=dict)
    paired: dict[str, bool] = field(default_factory=dict)


def check_controls(values: Any, where: str) -> dict[str, Any]:
    """Return controls as plain values, checked.

    Raises:
        InputError: Something is missing, of another type, or contradicts the rest.
    """
    found = plain(read(Controls, values, where))
    names = [one["name"] for one in found["extractors"]] or ["any extractor"]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{where}: extractors: {shown(twice)} is given twice; name it once")
    if not found["shares"]:
        raise InputError(f"{where}: shares must hold one control or more")
    sides = {side: found["scores"].get(side, {}) for side in ("baseline", "refined")}
    for row, by in [*sides.items(), *found["shares"].items()]:
        for name in names:
            if name not in by or not CALLED.keys() <= by[name].keys():
                raise InputError(f"{where}: {row} has no numbers by {name}")
    for path, number in _numbers(values):
        if type(number) not in (int, float):  # of settings in YAML, texts may be numbers
            raise InputError(f"{where}: {path} must be a number, not {shown(number)}")
    for control, by in found["shares"].items():
        for name, key in product(names, CALLED):
            if by[name][key] is not None:
                _check_share(found, control, name, key, where)
    return found


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the numbers of controls as they are in the file, each with where it is."""
    yield from ((key, values[key]) for key in ("unchanged", "repeated"))
    for part in ("scores", "shares"):
        for row, by in values[part].items():
            for name, keys in by.items():
                for key, one in keys.items():
                    inner = {f": {k}": v for k, v in one.items()} if isinstance(one, dict) else {}
                    for end, number in (inner or {"": one}).items():
                        if number is not None:
                            yield f"{part}: {row}: {name}: {key}{end}", number


def _check_share(found: Mapping[str, Any], control: str, name: str, key: str, where: str) -> None:
    """Refuse a share outside its own interval, or other than the scores give."""
    one, scores = found["shares"][control][name][key], found["scores"]
    where = f"{where}: shares: {control}: {name}: {key}"
    if not one["low"] <= one["share"] <= one["high"]:
        raise InputError(f"{where}: share {one['share']:g} is outside of low .. high")
    first, after = (scores[side][name][key] for side in ("baseline", "refined"))
    if first <= after:
        raise InputError(f"{where}: a share, though the scores show no gain")
    against = found["baselines"].get(control)
    if against is None:  # older results do not say
        return
    try:
        start, end = (scores[row][name][key] for row in (against, control))
    except KeyError as error:
        raise InputError(f"{where}: there are no scores of {error.args[0]!r}") from error
    if abs(start - end - one["share"] * (first - after)) > 1e-6 * (abs(start) + abs(end)):
        raise InputError(f"{where}: share {one['share']:g} is not what the scores give")


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
        rows.append(
            [held_against(result, control), *(portion(one) if one else DASH for one in found)]
        )
    heads = [f"{CALLED[key]} by {name}" for name, key in columns]
    is_paired = result.get("paired", {}).get("refined")
    return {
        "heads": heads, "rows": rows, "deciding": " and ".join(deciding(result)),
        "pairing": {None: "", True: "Images are paired by their ids. "}.get(
            is_paired, "Images are not paired: the sides share no ids. "
        ),
    }  # fmt: skip


def held_against(result: Mapping[str, Any], control: str) -> str:
    """Return a control's name, with its baseline where it has one of its own."""
    against = result.get("baselines", {}).get(control, "baseline")
    return control if against == "baseline" else f"{control} (held against {against})"


def portion(one: Mapping[str, float]) -> str:
    """Return a share with its interval, in percent."""
    share, low, high = (_percent(one[key]) for key in ("share", "low", "high"))
    return f"{share} % [{low}, {high}]"


def _percent(share: float) -> str:
    return minus(f"{100 * share:.0f}" if abs(share) < 100 else f"{100 * share:.1e}")


def _gives(control: str) -> str:
    return GIVES.get(control, f"{control!r}")
