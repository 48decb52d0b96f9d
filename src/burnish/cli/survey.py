"""``burnish survey make``, ``serve`` and ``report``."""

from pathlib import Path
from typing import Any

import click

from burnish.cli.options import FORCE, flag, flags, given
from burnish.survey.options import SurveyOptions

URL = "Where raters come to, if a proxy is in front, e.g. https://survey.example.org."
JOIN = "Give a place to whoever opens the bare address; otherwise each rater needs a link."


class _InOrder(click.Group):
    """Commands in the order in which they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_InOrder, short_help="Ask people which images they prefer: blind pairs, votes, intervals."
)
def survey() -> None:
    """Ask people which images they prefer, without their knowing which is which.

    \b
    Example:
      burnish survey make baseline=samples.npz refined=refined.npz --out study
      burnish survey serve study
      burnish survey report study --out survey.html
    """  # noqa: D301 - click reads \b as "keep these lines"


@survey.command(short_help="Make a frozen study of blind pairs.")
@click.argument("systems", nargs=-1, required=True, metavar="NAME=FILE...")
@click.option("--out", type=Path, required=True, metavar="PATH", help="A new folder.")
@flags(SurveyOptions)
def make(systems: tuple[str, ...], out: Path, **options: Any) -> None:
    """Make a frozen study: who sees which pairs in which order, and whose votes will count.

    Each SYSTEM is NAME=FILE, the baseline first: an .npz, a .parquet or a folder of images. Images
    are paired by name where all files name them, or else by id.
    """
    from burnish.errors import InputError
    from burnish.survey.make import make_study

    sources: dict[str, Path] = {}
    for text in systems:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise InputError(f"{text!r}: write NAME=FILE, e.g. refined=refined.npz")
        if name in sources:
            raise InputError(f"two systems are called {name!r}; give each its own name")
        sources[name] = Path(path)
    study = make_study(sources, out, SurveyOptions(**given(options)))
    trials = study.raters[0].trials
    print(f"{out}: {len(study.raters)} raters, {len(trials)} trials each")
    print(f"sha256 {study.values()['sha256']}")


@survey.command(short_help="Serve a study to its raters.")
@click.argument("study", type=Path)
@flag("--host", "127.0.0.1", "Address to listen on; 0.0.0.0 for all networks of this machine.")
@flag("--port", 8000, "Port to listen on.")
@flag("--url", "", URL)
@click.option("--join", is_flag=True, help=JOIN)
def serve(study: Path, host: str, port: int, url: str, join: bool) -> None:
    """Serve STUDY to its raters until interrupted, and print their links.

    A rater who comes back goes on where the last vote was. Answers are appended to
    STUDY/answers.jsonl; start the same command again to go on.
    """
    from burnish.survey.serve import open_survey

    opened, server = open_survey(study, host, port, url, join)
    base = url.rstrip("/") or server.url.rstrip("/")
    votes, voters = opened.count()
    print(f"{base}/" if join else "one link for each rater:")
    for rater in () if join else opened.study.raters:
        print(f"{base}/r/{rater.token}")
    print(f"{votes} votes by {voters} raters so far; stop with Ctrl-C", flush=True)
    try:
        server.serve()
    finally:
        opened.close()


@survey.command(short_help="Say what the votes say, and how sure.")
@click.argument("study", type=Path)
@flag("--out", Path("survey.html"), "The page, .html.")
@click.option("--csv", type=Path, metavar="PATH", help="All votes as a table, too.")
@click.option("--json", type=Path, metavar="PATH", help="All numbers, too.")
@FORCE
def report(study: Path, out: Path, csv: Path | None, json: Path | None, force: bool) -> None:
    """Report which system people preferred in STUDY, with an interval over raters."""
    from burnish.survey.report import write_report

    result = write_report(study, out, csv, json, force=force)
    print(f"{result['words']} {result['verdict']}.")
    print(*(path for path in (out, csv, json) if path))
