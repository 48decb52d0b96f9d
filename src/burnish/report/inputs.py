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
from burnish.metrics.metric import METRICS
from burnish.report.checks import EVALUATION, check_facts, check_fields
from burnish.report.pairs import Pairs, find_pairs, read_pairs
from burnish.storage.parts import find_parts

SIDES = ("baseline", "refined")


class Scores(NamedTuple):
    """Evaluations by one extractor: ``generated`` alone, or ``baseline`` and ``refined``."""

    features: str
    sides: dict[str, dict[str, Any]]

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


def read_sources(paths: Sequence[Path]) -> list[Source]:
    """Read results, refined samples with a card, folders of a demo or run, and pairs of files.

    Files of images that have no card of a refinement are taken two by two, before and after.
    """
    sources, left = [], list(paths)
    while left:
        path = left.pop(0)
        find_parts(path)  # raises where there is nothing
        if path.suffix == ".json":
            # The folder of a demo says more than "result".
            name = path.resolve().parent.name if path.stem == "result" else path.stem
            sources.append(Source(name, *_read_result(path)))
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
        *(_read_result(result) if result.is_file() else ([], {})),
        pair,
        pair.card if pair else {},
        _read_log(log) if log.is_file() else [],
        read_json(config) if config.is_file() else {},
    )


def _read_result(path: Path) -> tuple[list[Scores], dict[str, Any]]:
    """Return the scores, and the rest of the result."""
    result = read_json(path)
    if "baseline" in result:
        shown = {*SIDES, "second_features"}
        second = result.get("second_features")
        pairs = [result, second] if isinstance(second, dict) else [result]
        evaluations = [{side: pair.get(side) for side in SIDES} for pair in pairs]
    else:
        shown = {key for metric in METRICS for key in (metric.key, metric.std_key)}
        evaluations = [{"generated": result}]
    facts = {key: value for key, value in result.items() if key not in shown}
    return [_scores(sides, path) for sides in evaluations], facts


def _scores(sides: dict[str, Any], path: Path) -> Scores:
    for side, found in sides.items():
        if not (isinstance(found, dict) and "fid" in found and "feature_extractor" in found):
            raise InputError(
                f"{path}: no result of burnish ({side}); an evaluation has feature_extractor and "
                "fid, a comparison has such a baseline and refined"
            )
        check_fields(found, EVALUATION, f"{path}: {side}")
    names = [str(found["feature_extractor"] or "unnamed features") for found in sides.values()]
    if len(set(names)) > 1:
        raise InputError(
            f"{path}: baseline and refined were scored by {' and '.join(names)}; these numbers "
            "cannot be compared"
        )
    return Scores(names[0], sides)


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
