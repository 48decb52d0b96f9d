"""``burnish doctor``."""

from pathlib import Path

import click

from burnish.cli.options import DEVICE

__all__ = ["doctor"]


@click.command(short_help="Examine guides: accuracy, realness, gradients, under attack too.")
@click.argument("guides", nargs=-1, required=True)
@click.option(
    "--real",
    required=True,
    metavar="NAME",
    help="Real images with labels that no guide was trained on: a name (then its test "
    "split) or a path.",
)
@click.option(
    "--generated", type=Path, required=True, metavar="PATH", help="Generated images with labels."
)
@click.option(
    "--nearest-among",
    default="",
    metavar="NAME",
    help="Real images among which the nearest is sought. [default: those of --real]",
)
@click.option(
    "--num-images",
    type=int,
    default=1000,
    metavar="INT",
    show_default=True,
    help="Images to look at, of each kind.",
)
@click.option(
    "--out",
    type=Path,
    default=Path("guides.json"),
    metavar="PATH",
    show_default=True,
    help="A JSON file with all numbers.",
)
@DEVICE
def doctor(
    guides: tuple[str, ...],
    real: str,
    generated: Path,
    nearest_among: str,
    num_images: int,
    out: Path,
    device: str,
) -> None:
    """Examine GUIDES as classifiers, as discriminators, and by their gradients.

    Any classifier can stand beside the guides, as what a standard, not robust one would be.

    Example: burnish doctor cifar10 cifar10-robust --real cifar10 --generated samples.npz
    """
    from burnish.files import check_target, write_json
    from burnish.jobs.plan import resolve_device
    from burnish.studies.doctor import doctor as run
    from burnish.studies.doctor import table

    check_target(out, generated, Path(real), Path(nearest_among or real))
    result = run(
        guides, real, generated, nearest_among=nearest_among, num_images=num_images,
        device=resolve_device(device),
    )  # fmt: skip
    write_json(out, result)
    print(table(result))
