"""A comparison as Markdown, LaTeX or CSV."""

import csv
import io
from collections.abc import Sequence

from burnish.metrics.intervals import Change
from burnish.metrics.metric import DASH, Metric, rounded
from burnish.report.comparison import Comparison
from burnish.report.text import cell, minus

FORMATS = ("markdown", "latex", "csv")
SUFFIXES = {".md": "markdown", ".tex": "latex", ".csv": "csv"}
DAGGER = "\N{DAGGER}"
LEGEND = (
    f"Differences are to {{}}, with 95 % intervals over new sets of as many images; {DAGGER}: not "
    "significant, the interval holds 0; *: no interval is known."
)
LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    DAGGER: r"$^\dagger$", "\N{MINUS SIGN}": "$-$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "∞": r"$_\infty$", DASH: "--", **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip


def as_text(found: Comparison, form: str) -> str:
    """Return a comparison in one of :data:`FORMATS`."""
    if form == "csv":
        return _csv(found)
    values = [["", *(one.heading for one in found.metrics)]]
    changes = [["", *(one.title for one in found.metrics)]]
    for place, (name, result) in enumerate(zip(found.names, found.results, strict=True)):
        row, marks = [name], [name]
        for one in found.metrics:
            text = minus(one.text(result.values[one.key]))
            if place:
                change = found.changes[place - 1][one.key]
                text += _mark(change)
                marks.append(_change(one, change, result.values[one.key]))
            row.append(text)
        values.append(row)
        if place:
            changes.append(marks)
    draw = _markdown if form == "markdown" else _latex
    legend = LEGEND.format(found.names[0])
    return draw([values, changes], [f"{found.basis}.", legend, *found.notes])


def _mark(change: Change | None) -> str:
    if change is None:
        return "*"
    return "" if change.is_significant else DAGGER


def _change(one: Metric, change: Change | None, value: float) -> str:
    if change is None:
        return DASH
    places = one.decimals(value)
    numbers = change.difference, change.low, change.high
    difference, low, high = (rounded(number, places, "+") for number in numbers)
    return minus(f"{difference} [{low}, {high}]") + _mark(change)


def _markdown(tables: Sequence[list[list[str]]], notes: Sequence[str]) -> str:
    parts = []
    for head, *rows in tables:
        lines = [head, ["---"] * len(head), *rows]
        cells = ([text if row[0] == "---" else cell(text) for text in row] for row in lines)
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in cells))
    return "\n\n".join([*parts, *map(cell, notes)]) + "\n"


def _latex(tables: Sequence[list[list[str]]], notes: Sequence[str]) -> str:
    parts = []
    for head, *rows in tables:
        lines = [" & ".join(map(_escaped, row)) + r" \\" for row in (head, *rows)]
        body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        columns = "l" + "r" * (len(head) - 1)
        parts.append("\n".join([f"\\begin{{tabular}}{{{columns}}}", *body, r"\end{tabular}"]))
    said = [f"% {' '.join(note.split())}" for note in notes]
    return "\n\n".join(["\n".join(["% needs the package booktabs", *said]), *parts]) + "\n"


def _escaped(text: str) -> str:
    escaped = "".join(LATEX.get(sign, sign) for sign in " ".join(text.split()))
    # The end of the line before would take these for an option of its own.
    return "{}" + escaped if escaped[:1] in ("[", "*") else escaped


def _csv(found: Comparison) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = "value std_error low high difference difference_low difference_high significant"
    writer.writerow(["result", "metric", *names.split(), "fingerprint"])
    mark = found.basis.rpartition(" ")[2]
    for place, (name, result) in enumerate(zip(found.names, found.results, strict=True)):
        # A spreadsheet would take a name that begins like this for a formula.
        name = f"'{name}" if name[:1] in "=+-@" else name
        for one in found.metrics:
            interval = result.intervals.get(one.key, {})
            bounds = [interval.get(key, "") for key in ("std_error", "low", "high")]
            change = found.changes[place - 1][one.key] if place else None
            rest: list[object] = [""] * 4
            if change is not None:
                rest = [change.difference, change.low, change.high, int(change.is_significant)]
            writer.writerow([name, one.key, result.values[one.key], *bounds, *rest, mark])
    return file.getvalue()
