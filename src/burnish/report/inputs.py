"""What a report is made of, read and checked before anything is drawn.

A result is one evaluation, or a comparison of two: ``base`` and ``refined``, scored alike.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from burnish.errors import InputError
from burnish.storage import SampleFile, open_samples

__all__ = ["METRIC_NAMES", "Source", "is_comparison", "judges", "read_source"]

METRIC_NAMES = ("fid", "kid", "inception_score", "precision", "recall", "density", "coverage")
LEDGER_COLUMNS = (
    "id", "label", "realness_before", "realness_after", "l2_moved", "num_steps", "stopped",
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One thing to report on; parts that a folder does not have are empty or None."""

    name: str
    """Of the file or folder, to tell it from the others."""
    result: dict[str, Any] = field(default_factory=dict)
    base: SampleFile | None = None
    refined: SampleFile | None = None
    ledger: dict[str, np.ndarray] | None = None
    """Columns, in the order of the file."""
    sidecar: dict[str, Any] = field(default_factory=dict)
    """What was written beside the refined images: guide, settings, threshold."""
    log: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)


def read_source(path: Path) -> Source:
    """Read a result file, a folder with a result, or the folder of a training run.

    Raises:
        InputError: It is none of them, or a part of it is broken.
    """
    if path.is_file():
        # Every demo folder calls its own result.json; the folder's name says more.
        name = path.resolve().parent.name if path.stem == "result" else path.stem
        return Source(name, _read_result(path))
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    result, log = path / "result.json", path / "log.jsonl"
    if not (result.is_file() or log.is_file()):
        raise InputError(
            f"{path}: neither result.json nor log.jsonl in it; give a result, or the folder of a "
            "demo or a training run"
        )
    base, refined = _read_pairs(path)
    return Source(
        path.resolve().name,
        _read_result(result) if result.is_file() else {},
        base,
        refined,
        _read_ledger(path / "refined.npz.ledger.parquet", base),
        _read_optional(path / "refined.npz.card.json"),
        _read_log(log) if log.is_file() else [],
        _read_optional(path / "config.json"),
    )


def is_comparison(result: Mapping[str, Any]) -> bool:
    """Tell a comparison from a single evaluation."""
    return "base" in result


def judges(result: Mapping[str, Any]) -> list[dict[str, dict[str, Any]]]:
    """Return, for each judge, its evaluations by what was scored, in the order to show them."""
    if not is_comparison(result):
        return [{"generated": dict(result)}]
    both = [result, result["second_judge"]] if result.get("second_judge") else [result]
    return [{side: judge[side] for side in ("base", "refined")} for judge in both]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not readable as JSON ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: a JSON object is needed, this is a {type(content).__name__}")
    return content


def _read_optional(path: Path) -> dict[str, Any]:
    return _read_json(path) if path.is_file() else {}


def _read_result(path: Path) -> dict[str, Any]:
    result = _read_json(path)
    pairs = [("", result)]
    if is_comparison(result):
        pairs = [(f"{side} of ", result.get(side)) for side in ("base", "refined")]
        if second := result.get("second_judge"):
            if not isinstance(second, dict):
                raise InputError(f"{path}: its second judge is not a pair of evaluations")
            pairs += [(f"{side} of second_judge of ", second.get(side)) for side in second]
            if not {"base", "refined"} <= second.keys():
                raise InputError(f"{path}: its second judge lacks base or refined")
    for where, evaluation in pairs:
        if not (
            isinstance(evaluation, dict)
            and isinstance(evaluation.get("feature_extractor"), str)
            and "fid" in evaluation
        ):
            raise InputError(
                f"{where}{path}: no result of burnish; an evaluation has feature_extractor and "
                "fid, a comparison has such a base and refined"
            )
        for name in METRIC_NAMES:
            value = evaluation.get(name)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float)
            ):
                raise InputError(f"{where}{path}: {name} must be a number or null, not {value!r}")
    for judge in judges(result):
        extractors = {evaluation["feature_extractor"] for evaluation in judge.values()}
        if len(extractors) > 1:
            raise InputError(
                f"{path}: base and refined were scored by {' and '.join(sorted(extractors))}; "
                "their numbers cannot be compared"
            )
    return result


def _read_pairs(folder: Path) -> tuple[SampleFile | None, SampleFile | None]:
    paths = folder / "base.npz", folder / "refined.npz"
    if not all(path.is_file() for path in paths):
        return None, None
    base, refined = map(open_samples, paths)
    if base.ids.tolist() != refined.ids.tolist() or base.image_shape != refined.image_shape:
        raise InputError(f"{folder}: base.npz and refined.npz are not of the same ids and shape")
    return base, refined


def _read_ledger(path: Path, base: SampleFile | None) -> dict[str, np.ndarray] | None:
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: no readable parquet ({str(error).splitlines()[0]})") from error
    if missing := [name for name in LEDGER_COLUMNS if name not in table.column_names]:
        raise InputError(f"{path}: no ledger of a refinement; it lacks {', '.join(missing)}")
    ledger = {name: np.array(table[name].to_pylist()) for name in LEDGER_COLUMNS}
    if base is not None and sorted(ledger["id"].tolist()) != sorted(base.ids.tolist()):
        raise InputError(f"{path}: its ids are not those of base.npz beside it")
    return ledger


def _read_log(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break  # a run that is going on, or was killed, may leave half a line
            raise InputError(f"{path}, line {number}: not JSON") from error
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise InputError(f"{path}, line {number}: no step in it")
        rows.append(row)
    if not rows:
        raise InputError(f"{path}: nothing logged yet")
    return rows
