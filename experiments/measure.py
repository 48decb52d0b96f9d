"""Measure one table of a YAML file: sample, refine and score every row on every range of seeds.

    python experiments/measure.py experiments/tables/cifar10.yaml consistency --reference TEST.npz

Images and scores are kept in a work folder, shared by all tables; the same command given again
goes on where it was stopped, and computes only what has changed.
"""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from burnish.errors import InputError
from burnish.files import write_json
from burnish.studies import Workshop, load_tables, measure


def main(
    tables: Annotated[Path, tyro.conf.Positional],
    table: Annotated[str, tyro.conf.Positional],
    reference: Path | None = None,
    runs: Path = Path("runs"),
    work: Path | None = None,
    out: Path | None = None,
    device: str = "cpu",
) -> None:
    """Write the JSON of a table.

    Args:
        tables: The YAML file.
        table: The name of a table in it.
        reference: Real images; without it, the statistics that ship with the judges.
        runs: What a leading runs/ in the YAML stands for.
        work: Folder for images and scores; RUNS/tables by default.
        out: results/<data>-<table>.json by default.
        device: Where to compute.
    """
    described = load_tables(tables)
    workshop = Workshop(work or runs / "tables", runs, described.precision, device)
    found = measure(described, table, workshop, reference)
    command = f"python experiments/measure.py {tables} {table}"
    if reference:
        command += f" --reference {reference.name}"
    out = out or Path("results") / f"{described.data}-{table}.json"
    write_json(out, {"command": command, "config": str(tables), **found})
    for judge, rows in found["summary"].items():
        for row, values in rows.items():
            print(f"{judge:8} FID {values['fid']['mean']:8.3f}  {row}")
    print(f"{out}; render it by experiments/page.py")


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except InputError as error:
        print(f"measure: {error}", file=sys.stderr)
        sys.exit(2)
