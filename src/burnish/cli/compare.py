"""``burnish compare``."""

import sys
from pathlib import Path

import click

from burnish.cli.options import FORCE, flag

FORMAT = "markdown, latex or csv; without it what the suffix of --out says, else markdown."


@click.command(short_help="Compare results of evaluate, with intervals of the differences.")
@click.argument("results", nargs=-1, required=True, type=Path)
@flag("--format", str, FORMAT, names=["form"], metavar="markdown|latex|csv")
@flag("--out", Path, "Write the table there instead of printing it.")
@FORCE
def compare(results: tuple[Path, ...], form: str | None, out: Path | None, force: bool) -> None:
    """Compare RESULTS, JSON files of burnish evaluate, with the first of them.

    Numbers that were measured in different ways are refused, and what differs is named. Where
    results are of the same images before and after, and their .influence.npz are there,
    differences are paired. What is not significant is marked.

    Example: burnish compare baseline.json refined.json --out table.tex
    """
    from burnish.errors import unknown
    from burnish.files import check_target, write_text
    from burnish.metrics.influence import influence_path
    from burnish.report.comparison import compare as run
    from burnish.report.comparison_text import FORMATS, SUFFIXES, as_text

    form = form or SUFFIXES.get(out.suffix if out else "", "markdown")
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    if out:
        check_target(out, *results, *map(influence_path, results), force=force)
    found = run(results)
    text = as_text(found, form)
    if out:
        write_text(out, text)
        print(out)
    else:
        print(text, end="")
    if form == "csv" or out:
        for note in found.notes:
            print(f"note: {note}", file=sys.stderr)
