"""Types of what a report reads: a file of something else ends in one line, not in the middle."""

from collections.abc import Mapping
from types import NoneType
from typing import Any

import numpy as np

from burnish.errors import InputError
from burnish.metrics.metric import METRICS

Check = Any  # a function of a value that returns whether it is right
MAX_STEPS = 100_000
# No distance, share of one, or realness is further from 0; a page would show nonsense.
LARGEST = 1e12


def _is_number(value: Any) -> bool:
    return type(value) in (int, float, NoneType)


def _is_real(value: Any) -> bool:
    return type(value) in (int, float)


def _is_error(value: Any) -> bool:
    return _is_real(value) and value >= 0


def _is_count(value: Any) -> bool:
    return value is None or (type(value) is int and value >= 0)


def _is_texts(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(v, str) for v in value))


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_words(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_section(value: Any) -> bool:
    return value is None or isinstance(value, Mapping)


def _is_quantiles(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and len(value) > 1 and all(type(v) in (int, float) for v in value)
        and value == sorted(value) and max(-value[0], value[-1]) <= LARGEST
    )  # fmt: skip


NUMBERS: dict[str, Check] = {
    key: _is_number for metric in METRICS for key in (metric.key, metric.std_key) if key
}
EVALUATION: dict[str, Check] = NUMBERS | {
    "num_images": _is_count, "num_reference_images": _is_count, "num_neighbors": _is_count,
    "warnings": _is_texts,
}  # fmt: skip
INTERVAL: dict[str, Check] = {
    "value": _is_real, "std_error": _is_error, "low": _is_real, "high": _is_real,
}  # fmt: skip
CHANGE: dict[str, Check] = {
    "difference": _is_real, "std_error": _is_error, "low": _is_real, "high": _is_real,
}  # fmt: skip
EXPLAINED: dict[str, Check] = {
    "verdict": _is_text, "words": _is_words, "chosen": _is_section,
}  # fmt: skip
MADE: dict[str, Check] = {"seconds": _is_number, "mean_num_steps": _is_number}
FACTS: dict[str, Check] = {"refine": _is_section}
CARD: dict[str, Check] = {"settings": _is_section, "threshold": _is_number}
SETTINGS: dict[str, Check] = {"stop_quantile": _is_number}
SAID = {
    _is_number: "a number or null", _is_real: "a number", _is_error: "a number of 0 or more",
    _is_count: "a count or null", _is_texts: "a list of texts",
    _is_text: "a text", _is_words: "a text of some words",
    _is_section: "keys and values", _is_quantiles: "a list of ascending numbers",
}  # fmt: skip


def check_fields(found: Mapping[str, Any], checks: Mapping[str, Check], where: str) -> None:
    """Refuse values of other types than ``checks`` want; missing ones are None.

    Raises:
        InputError: The message begins with ``where`` and names the field.
    """
    for key, is_right in checks.items():
        if not is_right(value := found.get(key)):
            said = str(value)[:60]
            raise InputError(f"{where}: {key} must be {SAID[is_right]}, not {said!r}")


def check_intervals(found: Any, checks: Mapping[str, Check], where: str) -> None:
    """Refuse intervals of metrics, by key, that are something else; None is none."""
    if found is None:
        return
    if not isinstance(found, Mapping):
        raise InputError(f"{where}: expected keys and values, not {str(found)[:60]!r}")
    for metric in METRICS:
        if (one := found.get(metric.key)) is None:
            continue
        if not isinstance(one, Mapping):
            raise InputError(f"{where}: {metric.key} must be keys and values")
        check_fields(one, checks, f"{where}: {metric.key}")
        if one["low"] > one["high"]:
            raise InputError(f"{where}: {metric.key}: low is above high")


def check_facts(facts: Mapping[str, Any], card: Mapping[str, Any], where: str) -> None:
    """Refuse facts of a result, or a card, in which what a report shows has another type."""
    check_fields(facts, FACTS, where)
    check_fields(card, CARD, f"{where}: card")
    for settings in (facts.get("refine") or {}, card.get("settings") or {}):
        check_fields(settings, SETTINGS, where)
    guide = card.get("guide")
    real = guide.get("realness") if isinstance(guide, Mapping) else None
    if isinstance(real, Mapping):
        check_fields(real, {"quantiles": _is_quantiles}, f"{where}: card: guide: realness")


def check_ledger(columns: Mapping[str, np.ndarray], where: str) -> None:
    """Refuse columns of a ledger that hold other things than counts, numbers and words."""
    for name in ("realness_before", "realness_after", "l2_moved"):
        if columns[name].dtype.kind not in "if":
            raise InputError(f"{where}: its column {name} holds no numbers, or lacks some")
    for name, least, most in (("label", -1, 2**31), ("num_steps", 0, MAX_STEPS)):
        values = columns[name]
        counts = values.dtype.kind == "i" and all(least <= v <= most for v in values.tolist())
        if not counts:
            raise InputError(f"{where}: its column {name} holds other things than counts")
    if not all(isinstance(value, str) for value in columns["stopped"]):
        raise InputError(f"{where}: its column stopped holds other things than words")
