"""``burnish measure``."""

from pathlib import Path

import click

from burnish.cli.options import DEVICE

__all__ = ["measure"]


@click.command(short_help="Measure a table of generators, guides and settings.")
@click.argument("tables", type=Path)
@click.argument("table")
@click.option(
    "--real",
    type=Path,
    metavar="PATH",
    help="Real images. [default: statistics that ship with the extractors]",
)
@click.option(
    "--runs",
    type=Path,
    default=Path("runs"),
    metavar="FOLDER",
    show_default=True,
    help="Where trained models are; a leading runs/ in the tables stands for it.",
)
@click.option(
    "--cache",
    type=Path,
    default=Path("runs/cache"),
    metavar="FOLDER",
    show_default=True,
    help="For images and scores; nothing is made twice.",
)
@click.option(
    "--out", type=Path, metavar="PATH", help="The JSON. [default: results/DATA-TABLE.json]"
)
@DEVICE
def measure(
    tables: Path,
    table: str,
    real: Path | None,
    runs: Path,
    cache: Path,
    out: Path | None,
    device: str,
) -> None:
    """Measure TABLE of a file of TABLES: each row, each range of seeds, each feature extractor.

    Example: burnish measure experiments/tables/fashion_mnist.yaml presets
    """
    from burnish.files import check_target, write_json
    from burnish.jobs.plan import resolve_device
    from burnish.studies.cache import Cache
    from burnish.studies.measure import measure as run
    from burnish.studies.tables import load_tables

    described = load_tables(tables)
    out = out or Path("results") / f"{described.data}-{table}.json"
    check_target(out, tables, *([real] if real else []))
    place = Cache(cache, runs, described.precision, resolve_device(device))
    command = f"burnish measure {tables} {table}" + (f" --real {real.name}" if real else "")
    write_json(
        out, {"command": command, "config": str(tables), **run(described, table, place, real)}
    )
    print(out)
