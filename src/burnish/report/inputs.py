"""Everything a report reads: results, cards, ledgers and logs, checked before anything is drawn.

A result is one evaluation, or a comparison: evaluations ``baseline`` and ``refined``, and under
``second_features`` the same two by another feature extractor.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import numpy as np

from burnish.errors import InputError
from burnish.files import card_path, ledger_path
from burnish.metrics.metric import METRICS
from burnish.storage.formats import open_samples
from burnish.storage.sample_file import SampleFile

SIDES = ("baseline", "refined")
LEDGER_COLUMNS = (
    "id", "label", "realness_before", "realness_after", "l2_moved", "num_steps", "stopped",
)  # fmt: skip


class Scores(NamedTuple):
    """Evaluations by one extractor: ``generated`` alone, or ``baseline`` and ``refined``."""

    features: str
    sides: dict[str, dict[str, Any]]

    @property
    def fids(self) -> tuple[float | None, float | None]:
        """FID of the baseline and of the refined images; None where there is none."""
        baseline, refined = (self.sides.get(side, {}).get("fid") for side in SIDES)
        return baseline, refined


class Pair(NamedTuple):
    """Images before and after refinement, and the columns of the ledger, in the same order."""

    generated: SampleFile
    refined: SampleFile
    ledger: dict[str, np.ndarray] | None


@dataclass(frozen=True)
class Source:
    """One thing to report on; parts that are missing are empty or None.

    ``facts`` are the result without its evaluations, ``card`` is that of the refined images.
    """

    name: str
    scores: list[Scores] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    pair: Pair | None = None
    card: dict[str, Any] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)


def read_source(path: Path) -> Source:
    """Read a result, refined samples with a card, or the folder of a demo or of a training run."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    if card_path(path).is_file():
        card = read_json(card_path(path))
        if not isinstance(card.get("input"), str):
            raise InputError(f"{card_path(path)}: no card of a refinement; it names no input")
        named = Path(card["input"])
        generated = named if named.exists() else path.parent / named.name
        if not generated.exists():
            lost = f"made from {named}, which is not there"
            raise InputError(f"{path}: {lost}; put it beside {path.name}")
        return Source(path.name, pair=_read_pair(generated, path), card=card)
    if path.is_file():
        if path.suffix != ".json":
            raise InputError(f"{path}: no result, and no card of a refinement beside it")
        # The folder of a demo says more than "result".
        name = path.resolve().parent.name if path.stem == "result" else path.stem
        return Source(name, *_read_result(path))
    result, log, config = (path / name for name in ("result.json", "log.jsonl", "config.json"))
    if not (result.is_file() or log.is_file()):
        raise InputError(
            f"{path}: neither result.json nor log.jsonl in it; give a result, refined samples, or "
            "the folder of a demo or a training run"
        )
    generated, refined = path / "generated.npz", path / "refined.npz"
    has_card = refined.is_file() and card_path(refined).is_file()
    return Source(
        path.resolve().name,
        *(_read_result(result) if result.is_file() else ([], {})),
        _read_pair(generated, refined) if generated.is_file() and refined.is_file() else None,
        read_json(card_path(refined)) if has_card else {},
        _read_log(log) if log.is_file() else [],
        read_json(config) if config.is_file() else {},
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; InputError if the file cannot be read or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not readable as JSON ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: a JSON object is needed, this is a {type(content).__name__}")
    return content


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
        for key in (metric.key for metric in METRICS):
            if type(value := found.get(key)) not in (int, float, NoneType):
                raise InputError(f"{path}: {key} ({side}) must be a number or null, not {value!r}")
    names = [str(found["feature_extractor"] or "unnamed features") for found in sides.values()]
    if len(set(names)) > 1:
        raise InputError(
            f"{path}: baseline and refined were scored by {' and '.join(names)}; these numbers "
            "cannot be compared"
        )
    return Scores(names[0], sides)


def _read_pair(generated_path: Path, refined_path: Path) -> Pair:
    generated, refined = open_samples(generated_path), open_samples(refined_path)
    ids = generated.ids.tolist()
    if ids != refined.ids.tolist() or generated.image_shape != refined.image_shape:
        raise InputError(f"{refined_path}: not of the same ids and shape as {generated_path}")
    path = ledger_path(refined_path)
    return Pair(generated, refined, _read_ledger(path, ids) if path.is_file() else None)


def _read_ledger(path: Path, ids: list[int]) -> dict[str, np.ndarray]:
    """Return columns with rows in the order of ``ids``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: no readable parquet ({str(error).splitlines()[0]})") from error
    if missing := [name for name in LEDGER_COLUMNS if name not in table.column_names]:
        raise InputError(f"{path}: no ledger of a refinement; it lacks {', '.join(missing)}")
    row_of = {id_: row for row, id_ in enumerate(table["id"].to_pylist())}
    if row_of.keys() != set(ids) or table.num_rows != len(ids):
        raise InputError(f"{path}: its ids are not those of the images")
    rows = [row_of[id_] for id_ in ids]
    return {name: np.array(table[name].to_pylist())[rows] for name in LEDGER_COLUMNS}


def _read_log(path: Path) -> list[dict[str, Any]]:
    rows, lines = [], path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break  # a run that is still training or was killed may leave half a line
            raise InputError(f"{path}, line {number}: not JSON") from error
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise InputError(f"{path}, line {number}: no step in it")
        rows.append(row)
    if not rows:
        raise InputError(f"{path}: nothing logged yet")
    return rows
