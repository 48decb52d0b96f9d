"""``burnish pack``."""

from pathlib import Path

import click

from burnish.cli.options import FORCE, flag

REAL = (
    "Real images that no network of the run has seen, for the reference statistics. Without them "
    "the guide alone is packed."
)


@click.command(short_help="Pack the models of a run for others, at half precision.")
@click.argument("run", type=Path)
@flag("--out", Path, "Folder to fill.", required=True)
@flag("--tuning", Path, "JSON of burnish tune; its choice becomes the default of the guide.")
@flag("--real", Path, REAL)
@flag("--source", "", "What results call the real images; without it, the name of the file.")
@flag("--features", "plain,wide", "Feature extractors to pack.", metavar="NAME,...")
@FORCE
def pack(
    run: Path, out: Path, tuning: Path | None, real: Path | None, source: str, features: str,
    force: bool,
) -> None:  # fmt: skip
    """Pack the guide, and with --real also the generator and feature extractors, of a RUN.

    Example: burnish pack runs/cifar10 --out mine --tuning tuning.json --real test.npz
    """
    from burnish.studies.pack import pack as write

    names = [name for name in features.split(",") if name]
    for path in write(
        run, out, tuning=tuning, real=real, source=source, features=names, force=force
    ):
        print(path)
