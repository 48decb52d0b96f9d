"""What the numbers say: the headline, the table of each judge, the table of many results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from burnish.errors import InputError
from burnish.report.inputs import Source, is_comparison, judges, read_source
from burnish.report.rounding import DASH, FID, METRICS, change_of, count, minus, percent

__all__ = [
    "JudgeTable",
    "Overview",
    "headline",
    "judge_table",
    "overview",
    "results_table",
    "second_opinion",
]


class Row(NamedTuple):
    """One metric: a text per side; change and verdict are empty where there is one side only."""

    heading: str
    values: list[str]
    change: str
    verdict: str


@dataclass(frozen=True)
class JudgeTable:
    """What one judge says."""

    judge: str
    basis: str
    """What was compared with what."""
    sides: list[str]
    rows: list[Row]
    warnings: list[str]


class Overview(NamedTuple):
    """Many results in one table of texts."""

    headings: list[str]
    rows: list[list[str]]


def name_of(value: Any) -> str:
    """Return the name of a guide or generator, given as such or as its card."""
    return str(value.get("name", "unnamed") if isinstance(value, Mapping) else value)


def headline(result: Mapping[str, Any]) -> str:
    """Say in one sentence what refining did to the FID, for better or for worse."""
    first = judges(result)[0]
    name = next(iter(first.values()))["feature_extractor"]
    if not is_comparison(result):
        return f"The FID is {FID.text(result['fid'])}, as seen by {name}."
    base, refined = _fids(first)
    if base is None or refined is None:
        return f"The FIDs of base and refined images, as seen by {name}, are not both known."
    before, after, change = FID.text(base), FID.text(refined), percent(base, refined)
    by = "" if change is None else f", by {abs(change):.1f}%"
    if before == after:
        said = f"Refining leaves the FID at {before}"
    elif refined < base:
        said = f"Refining lowers the FID from {before} to {after}{by}"
    else:
        said = f"Refining makes the FID worse: it rises from {before} to {after}{by}"
    return f"{said}, as seen by {name}."


def second_opinion(result: Mapping[str, Any]) -> str:
    """Say whether the second judge sees the same; nothing if there is none."""
    if not is_comparison(result) or not result.get("second_judge"):
        return ""
    first, second = judges(result)
    fids = *_fids(first), *_fids(second)
    if None in fids:
        return ""
    base, refined, seen, now = fids
    agrees, moved = _direction(base, refined) == _direction(seen, now), percent(seen, now)
    shift = "" if moved is None else f" ({minus(f'{moved:+.1f}')}%)"
    return (
        f"The second judge, {second['base']['feature_extractor']}, "
        f"{'agrees' if agrees else 'does not agree'}: "
        f"from {FID.text(seen)} to {FID.text(now)}{shift}."
    )


def _fids(judge: Mapping[str, Any]) -> tuple[Any, Any]:
    return judge["base"]["fid"], judge["refined"]["fid"]


def _direction(base: float, refined: float) -> int:
    same = FID.text(base) == FID.text(refined)
    return 0 if same else (refined > base) - (refined < base)


def judge_table(judge: Mapping[str, Mapping[str, Any]]) -> JudgeTable:
    """Lay out the evaluations of one judge, a column per side."""
    sides = list(judge.values())
    rows = []
    for metric in METRICS:
        values = [side.get(metric.key) for side in sides]
        if any(value is not None for value in values):
            change, verdict = change_of(metric, *values) if len(values) == 2 else ("", "")
            texts = [metric.text(value) for value in values]
            if metric.key == "inception_score":
                texts = [_with_std(text, side) for text, side in zip(texts, sides, strict=True)]
            rows.append(Row(metric.heading, texts, change, verdict))
    counts = dict.fromkeys(count(side.get("num_images")) for side in sides)
    warnings = [note for side in sides for note in side.get("warnings") or []]
    if len(counts) > 1:
        warnings.append("base and refined differ in their number of images, which moves the FID")
    basis = f"{' and '.join(counts)} images"
    if sides[0].get("num_reference_images") is not None:
        basis += f" against {count(sides[0]['num_reference_images'])} reference images"
    if sides[0].get("num_neighbors") is not None:
        basis += f"; num_neighbors {sides[0]['num_neighbors']}"
    name = sides[0]["feature_extractor"]
    return JudgeTable(name, basis, list(judge), rows, list(dict.fromkeys(warnings)))


def _with_std(text: str, side: Mapping[str, Any]) -> str:
    std = side.get("inception_score_std")
    return text if std is None or text == DASH else f"{text} ± {std:.2f}"


def overview(sources: Sequence[Source]) -> Overview:
    """Lay out results in one table, a row per judge and set of images.

    Columns that no result fills are left out. A refined row carries the change of its FID.

    Raises:
        InputError: None of the sources holds a result.
    """
    fixed = ["Images", "Judge", "Scored", "Neighbours"]
    rows: list[list[str]] = []
    for source in sources:
        for judge in judges(source.result) if source.result else []:
            for side, evaluation in judge.items():
                row = [
                    _images_name(source, side),
                    evaluation["feature_extractor"],
                    count(evaluation.get("num_images")),
                    str(evaluation.get("num_neighbors") or DASH),
                    *(metric.text(evaluation.get(metric.key)) for metric in METRICS),
                ]
                change = percent(*_fids(judge)) if side == "refined" else None
                if change is not None:
                    row[len(fixed)] += minus(f" ({change:+.1f}%)")
                rows.append(row)
    if not rows:
        raise InputError("there is no result in what was given; give a result file or a folder")
    headings = [*fixed, *(metric.heading for metric in METRICS)]
    filled = [i for i in range(len(headings)) if any(row[i] != DASH for row in rows)]
    return Overview([headings[i] for i in filled], [[row[i] for i in filled] for row in rows])


def _images_name(source: Source, side: str) -> str:
    result = source.result
    if side == "generated":
        return str(result.get("generated") or source.name)
    generator = name_of(result.get("generator", source.name))
    return generator if side == "base" else f"{generator}, refined by {name_of(result['guide'])}"


def results_table(results: Sequence[Path]) -> str:
    """Render results as one Markdown table, a row per judge and set of images.

    Args:
        results: Result files or folders with a ``result.json``; runs without results add no row.

    Raises:
        InputError: One of them cannot be read, or none of them holds a result.
    """
    headings, rows = overview([read_source(Path(path)) for path in results])
    texts = sum(heading in ("Images", "Judge") for heading in headings)
    rule = [":--"] * texts + ["--:"] * (len(headings) - texts)
    lines = [headings, rule, *([_plain(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _plain(cell: str) -> str:
    """Keep a cell one cell, and a name a name: no line ends, columns or tags from within."""
    cell = " ".join(cell.split()).replace("&", "&amp;").replace("<", "&lt;")
    return cell.replace("\\", "\\\\").replace("|", "\\|")
