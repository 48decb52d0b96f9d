"""``burnish measure``."""

from pathlib import Path

import click

from burnish.cli.options import DEVICE, FORCE, flag


@click.command(short_help="Measure a table of generators, guides and settings.")
@click.argument("tables", type=Path)
@click.argument("table")
@flag("--real", Path, "Real images; without them, statistics that ship with the extractors.")
@flag("--runs", Path("runs"), "Folder of trained models; runs/ in the tables stands for it.")
@flag("--cache", Path("runs/cache"), "Folder for images and scores; nothing is made twice.")
@flag("--out", Path, "The JSON; without it, results/DATA-TABLE.json.")
@DEVICE
@FORCE
def measure(
    tables: Path, table: str, real: Path | None, runs: Path, cache: Path, out: Path | None,
    device: str, force: bool,
) -> None:  # fmt: skip
    """Measure TABLE of a file of TABLES: each row, each range of seeds, each feature extractor.

    Example: burnish measure experiments/tables/fashion_mnist.yaml presets
    """
    from burnish.files import check_target, write_json
    from burnish.studies.cache import Cache
    from burnish.studies.measure import measure as run
    from burnish.studies.tables import load_tables

    described = load_tables(tables)
    out = out or Path("results") / f"{described.data}-{table}.json"
    check_target(out, tables, *filter(None, [real]), force=force)
    result = run(described, table, Cache(cache, runs, described.precision, device), real)
    command = f"burnish measure {tables} {table}" + (f" --real {real.name}" if real else "")
    write_json(out, {"command": command, "config": str(tables), **result})
    print(out)
