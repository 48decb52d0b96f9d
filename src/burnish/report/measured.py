"""Tables of measurements, read from JSON: what is shown of them alone, and of the right type."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish.errors import InputError
from burnish.files import read_json
from burnish.metrics.metric import METRICS
from burnish.schema import read


@dataclass(frozen=True)
class Value:
    """Mean and standard deviation over ranges of seeds."""

    mean: float
    std: float


@dataclass(frozen=True)
class RowFacts:
    """What a row is."""

    open = True
    generator: str
    num_steps: int = 1
    guide: str = ""
    baseline: dict[str, Any] | None = None
    sweep: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    published: str = ""
    settings: dict[str, Any] | None = None


@dataclass(frozen=True)
class OneResult:
    """One row, one range of seeds, one feature extractor."""

    open = True
    row: str
    seeds: str
    features: str
    feature_extractor: str
    num_images: int
    num_reference_images: int
    reference: str
    feature_extractor_sha256: str | None = None
    num_neighbors: int | None = None
    nfe: float | None = None


@dataclass(frozen=True)
class Measured:
    """A table of measurements, as :func:`burnish.studies.measure.measure` returns it."""

    open = True
    data: str
    table: str
    place: int
    title: str
    rows: dict[str, Any]
    summary: dict[str, dict[str, dict[str, Value]]]
    rank_correlation: dict[str, dict[str, Value]]
    results: tuple[Any, ...]
    note: str = ""
    command: str = ""
    commit: str | None = None


def read_tables(folder: Path) -> list[dict[str, Any]]:
    """Return the tables of a folder in their order, each with the name of its ``file``.

    JSON files without ``rank_correlation`` are something else and left out.

    Raises:
        InputError: There is none, or something in one has another type or is missing.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; name the folder of the JSON files")
    found = {path: read_json(path) for path in sorted(folder.glob("*.json"))}
    tables = [_table(path, values) for path, values in found.items() if _is_table(values)]
    if not tables:
        raise InputError(f"{folder} holds no tables of measurements")
    return sorted(tables, key=lambda table: (table["data"], table["place"], table["file"]))


def _is_table(values: dict[str, Any]) -> bool:
    return "rank_correlation" in values


def _table(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    where = str(path)
    table = _read(Measured, values, where)
    for key in ("data", "table"):  # a figure is named after them
        if not table[key] or Path(table[key]).name != table[key]:
            raise InputError(f"{where}: {key} must be a plain name, not {table[key]!r}")
    rows = {name: _read(RowFacts, row, f"{where}: {name}") for name, row in table["rows"].items()}
    for name, row in rows.items():
        if any(len(values) != 1 for values in row["sweep"].values()):
            raise InputError(f"{where}: {name}: sweep must have one value for each setting")
    results = [_read(OneResult, one, f"{where}: results") for one in table["results"]]
    features = {one["features"] for one in results}
    known = {metric.key for metric in METRICS}
    for name, summary in table["summary"].items():
        if name not in features or summary.keys() != rows.keys():
            raise InputError(f"{where}: summary: {name} has not the rows of the table")
    if not table["summary"] or not rows:
        raise InputError(f"{where}: nothing was measured")
    for pair, found in table["rank_correlation"].items():
        if not found.keys() <= known:
            raise InputError(f"{where}: rank_correlation: {pair}: unknown metrics")
    return {**table, "rows": rows, "results": results, "file": path.name}


def _read(kind: type, values: Any, where: str) -> dict[str, Any]:
    return dataclasses.asdict(read(kind, values, where))
