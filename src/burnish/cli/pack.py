"""``burnish pack``."""

from pathlib import Path

import click

__all__ = ["pack"]


@click.command(short_help="Pack the models of a run for others, at half precision.")
@click.argument("run", type=Path)
@click.option("--out", type=Path, required=True, metavar="FOLDER", help="Folder to fill.")
@click.option(
    "--tuning",
    type=Path,
    metavar="PATH",
    help="JSON of burnish tune; its choice becomes the default of the guide.",
)
@click.option(
    "--real",
    type=Path,
    metavar="PATH",
    help="Real images that no network of the run has seen, for the reference "
    "statistics. Without them the guide alone is packed.",
)
@click.option(
    "--source",
    default="",
    metavar="TEXT",
    help="What results call the real images. [default: the name of the file]",
)
@click.option(
    "--features",
    default="plain,wide",
    metavar="NAME,...",
    show_default=True,
    help="Feature extractors to pack.",
)
def pack(
    run: Path, out: Path, tuning: Path | None, real: Path | None, source: str, features: str
) -> None:
    """Pack the guide, and with --real also the generator and feature extractors, of a RUN.

    Example: burnish pack runs/cifar10 --out mine --tuning tuning.json --real test.npz
    """
    from burnish.studies.pack import pack as write

    names = [name for name in features.split(",") if name]
    for path in write(run, out, tuning=tuning, real=real, source=source, features=names):
        print(path)
