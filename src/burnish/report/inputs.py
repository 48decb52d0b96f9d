"""Everything a report reads: results, cards, ledgers and logs, checked before anything is drawn.

A result is one evaluation, or a comparison: evaluations ``baseline`` and ``refined``, and under
``second_features`` the same two by another feature extractor.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from burnish.errors import InputError
from burnish.files import card_path, read_json
from burnish.metrics.intervals import Change, unpaired_change
from burnish.metrics.metric import METRICS
from burnish.report.checks import (
    CHANGE,
    EVALUATION,
    EXPLAINED,
    INTERVAL,
    check_facts,
    check_fields,
    check_intervals,
)
from burnish.report.controls import check_controls
from burnish.report.pairs import Pairs, find_pairs, read_pairs
from burnish.report.text import share_error
from burnish.storage.parts import find_parts

SIDES = ("baseline", "refined")
# Precision is a share of the generated images, recall and coverage are shares of the real ones.
COUNTS = {"precision": "num_images", "recall": "num_reference_images"}
COUNTS["coverage"] = COUNTS["recall"]


class Scores(NamedTuple):
    """Evaluations by one extractor: ``generated`` alone, or ``baseline`` and ``refined``."""

    features: str
    sides: dict[str, dict[str, Any]]
    changes: dict[str, dict[str, float]] = {}  # noqa: RUF012 - never written to
    """Paired differences by key, each with ``low`` and ``high``."""

    def change(self, key: str) -> Change | None:
        """Return the difference of the sides with its interval; None where none is known.

        Without a paired one the sides are taken for independent images. Results of older versions
        have the binomial errors of shares alone.
        """
        if paired := self.changes.get(key):
            return Change(*(paired[name] for name in CHANGE))
        sides = [self.sides.get(side, {}) for side in SIDES]
        known = [(side.get("intervals") or {}).get(key) for side in sides]
        first, second = known
        if first and second:
            errors = first["std_error"], second["std_error"]
            return unpaired_change(first["value"], second["value"], *errors)
        count = COUNTS.get(key, "")
        shares: list[Any] = [(side.get(key), side.get(count)) for side in sides]
        if any(share is None or not num for share, num in shares):
            return None
        (before, _), (after, _) = shares
        return unpaired_change(before, after, *(share_error(*one) for one in shares))

    @property
    def fids(self) -> tuple[float | None, float | None]:
        """FID of the baseline and of the refined images; None where there is none."""
        baseline, refined = (self.sides.get(side, {}).get("fid") for side in SIDES)
        return baseline, refined


@dataclass(frozen=True)
class Source:
    """One thing to report on; parts that are missing are empty or None.

    ``facts`` are the result without its evaluations, ``card`` is that of the refined images.
    """

    name: str
    scores: list[Scores] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    pair: Pairs | None = None
    card: dict[str, Any] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    controls: dict[str, Any] | None = None
    """See :func:`burnish.report.controls.check_controls`."""


def read_sources(paths: Sequence[Path]) -> list[Source]:
    """Read results, refined samples with a card, folders of a demo or run, and pairs of files.

    Results are those of evaluate, explain and tune.
    Files of images that have no card of a refinement are taken two by two, before and after.
    """
    sources, left = [], list(paths)
    while left:
        path = left.pop(0)
        find_parts(path)  # raises where there is nothing
        if path.suffix == ".json":
            # The folder of a demo says more than "result".
            name = path.resolve().parent.name if path.stem == "result" else path.stem
            found = read_json(path)
            explained = _read_explained(name, found, path)
            sources.append(explained or Source(name, *_read_result(found, path)))
        elif (path / "result.json").is_file() or (path / "log.jsonl").is_file():
            sources.append(_read_folder(path))
        elif pair := find_pairs(path) if path.is_dir() or _refines(path) else None:
            sources.append(Source(path.resolve().name, pair=pair, card=pair.card))
        elif left and _holds_images(left[0]):
            pair = read_pairs(path, after := left.pop(0))
            sources.append(Source(f"{path.name} and {after.name}", pair=pair, card=pair.card))
        else:
            raise InputError(f"{path}: {_lacking(path)}; or give images before and after")
        check_facts(sources[-1].facts, sources[-1].card, str(path))
    return sources


def _refines(path: Path) -> bool:
    return card_path(path).is_file() and "input" in read_json(card_path(path))


def _holds_images(path: Path) -> bool:
    return path.suffix != ".json" and not (path / "result.json").is_file()


def _lacking(path: Path) -> str:
    if path.is_dir():
        wanted = "give a result, refined samples, the folder of a demo or a training run"
        return f"neither result.json nor log.jsonl in it; {wanted}"
    card = "its card names no input" if card_path(path).is_file() else "no card beside it"
    return f"no result, and no refined images ({card})"


def _read_folder(path: Path) -> Source:
    """Read the folder of a demo or of a training run."""
    result, log, config = (path / name for name in ("result.json", "log.jsonl", "config.json"))
    pair = find_pairs(path)
    return Source(
        path.resolve().name,
        *(_read_result(read_json(result), result) if result.is_file() else ([], {})),
        pair,
        pair.card if pair else {},
        _read_log(log) if log.is_file() else [],
        read_json(config) if config.is_file() else {},
    )


def _read_explained(name: str, found: dict[str, Any], path: Path) -> Source | None:
    """Return what explain or tune found; None where it is something else."""
    is_tuned = {"verdict", "words", "rows"} <= found.keys()
    if not is_tuned and not {"words", "shares", "scores"} <= found.keys():
        return None
    controls, where = found.get("controls") if is_tuned else found, str(path)
    if controls is not None:
        controls = check_controls(controls, f"{where}: controls" if is_tuned else where)
    hidden = "scores shares extractors rows confirmation controls chosen".split()
    facts = {key: value for key, value in found.items() if key not in hidden}
    check_fields(found, EXPLAINED, where)
    return Source(name, facts=facts | {"refine": found.get("chosen")}, controls=controls)


def _read_result(result: dict[str, Any], path: Path) -> tuple[list[Scores], dict[str, Any]]:
    """Return the scores, and the rest of the result."""
    if "baseline" in result:
        shown = {*SIDES, "second_features"}
        second = result.get("second_features")
        pairs = [result, second] if isinstance(second, dict) else [result]
        evaluations = [{side: pair.get(side) for side in SIDES} for pair in pairs]
        changes = [pair.get("changes") or {} for pair in pairs]
        shown.add("changes")
    else:
        shown = {key for metric in METRICS for key in (metric.key, metric.std_key)}
        shown |= {"intervals", "card"}
        evaluations, changes = [{"generated": result}], [{}]
    facts = {key: value for key, value in result.items() if key not in shown}
    both = zip(evaluations, changes, strict=True)
    return [_scores(sides, paired, path) for sides, paired in both], facts


def _scores(sides: dict[str, Any], changes: Any, path: Path) -> Scores:
    for side, found in sides.items():
        if not (isinstance(found, dict) and "fid" in found and "feature_extractor" in found):
            raise InputError(
                f"{path}: no result of burnish ({side}); an evaluation has feature_extractor and "
                "fid, a comparison has such a baseline and refined"
            )
        check_fields(found, EVALUATION, f"{path}: {side}")
        check_intervals(found.get("intervals"), INTERVAL, f"{path}: {side}: intervals")
    check_intervals(changes, CHANGE, f"{path}: changes")
    names = [str(found["feature_extractor"] or "unnamed features") for found in sides.values()]
    if len(set(names)) > 1:
        raise InputError(
            f"{path}: baseline and refined were scored by {' and '.join(names)}; these numbers "
            "cannot be compared"
        )
    return Scores(names[0], sides, changes)


def _read_log(path: Path) -> list[dict[str, Any]]:
    rows, lines = [], path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                break  # a run that is still training or was killed may leave half a line
            raise InputError(f"{path}, line {number}: not JSON") from error
        if not isinstance(row, dict) or type(row.get("step")) is not int:
            raise InputError(f"{path}, line {number}: no step in it")
        rows.append(row)
    if not rows:
        raise InputError(f"{path}: nothing logged yet")
    return rows
