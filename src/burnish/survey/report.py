"""The report of a study: a page, the votes as a table, all numbers as JSON."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from burnish.errors import InputError
from burnish.files import check_target, write_json, write_text
from burnish.survey.analysis import analyze
from burnish.survey.answers import Answer, read_answers
from burnish.survey.study import Study, load_study

COLUMNS = (
    "rater", "trial", "kind", "item", "class", "left", "right", "choice", "chosen", "spoiled",
    "seconds", "time", "excluded",
)  # fmt: skip


def write_report(
    study: Path,
    out: Path,
    table: Path | None = None,
    numbers: Path | None = None,
    force: bool = True,
) -> dict[str, Any]:
    """Write the report of a study and return all numbers.

    Answers are only read; the study may be served meanwhile.

    Args:
        study: The folder of the study.
        out: The page, ``.html``.
        table: All answers as ``.csv``, one a row, with the systems named; None for no such file.
        numbers: What :func:`~burnish.survey.analysis.analyze` returns, as ``.json``.
        force: Whether existing files may be replaced.

    Raises:
        InputError: There is no study, its answers are not of it, or a file cannot be written.
    """
    opened = load_study(study)
    for path, suffix in ((out, ".html"), (table, ".csv"), (numbers, ".json")):
        if path is not None:
            check_target(path, opened.answers, opened.folder / "study.json", force=force)
            if path.suffix != suffix:
                raise InputError(f"{path}: the suffix must be {suffix}")
    answers, _ = read_answers(opened)
    result = analyze(opened, answers)
    write_text(out, _page(result))
    if table:
        write_text(table, _table(opened, answers, result))
    if numbers:
        write_json(numbers, result)
    return result


def _table(study: Study, answers: Sequence[Answer], result: dict[str, Any]) -> str:
    excluded = {row["rater"]: row["excluded"] for row in result["raters"]}
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for answer in answers:
        if answer.choice == "join":
            continue
        trial = study.raters[answer.rater].trials[answer.trial]
        chosen = "" if answer.choice == "tie" else getattr(trial, answer.choice)
        rows.writerow((
            answer.rater, answer.trial, trial.kind, trial.item,
            "" if trial.label is None else trial.label, trial.left, trial.right, answer.choice,
            chosen, trial.spoiled, answer.seconds, answer.time, excluded[answer.rater],
        ))  # fmt: skip
    return text.getvalue()


def _page(result: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("burnish.survey", ""), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"percent": _percent, "span": _span}
    return environment.get_template("report.html.j2").render(result)


def _percent(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{100 * value:.1f} %"


def _span(row: Any) -> str:
    """Return an interval as text: of a row, of two bounds, or of None."""
    if row is None or (isinstance(row, dict) and row["low"] is None):
        return "\N{EN DASH}"
    low, high = (row["low"], row["high"]) if isinstance(row, dict) else row
    return f"{100 * low:.1f} to {100 * high:.1f} %"
