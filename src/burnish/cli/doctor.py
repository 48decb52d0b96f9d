"""``burnish doctor``."""

from pathlib import Path

import click

from burnish.cli.options import DEVICE, flag

REAL = (
    "Real images with labels that no guide was trained on: a name (then its test split) or a path."
)


@click.command(short_help="Examine guides: accuracy, realness, gradients, under attack too.")
@click.argument("guides", nargs=-1, required=True)
@flag("--real", str, REAL, required=True)
@flag("--generated", Path, "Generated images with labels.", required=True)
@flag("--num-images", 1000, "Images to look at, of each kind.")
@flag("--out", Path("guides.json"), "A JSON file with all numbers.")
@DEVICE
def doctor(
    guides: tuple[str, ...], real: str, generated: Path, num_images: int, out: Path, device: str
) -> None:
    """Examine GUIDES as classifiers, as discriminators, and by their gradients.

    Any classifier can stand beside the guides, as what a standard, not robust one would be.

    Example: burnish doctor cifar10 cifar10-robust --real cifar10 --generated samples.npz
    """
    from burnish.files import check_target, write_json
    from burnish.studies.doctor import doctor as run
    from burnish.studies.doctor import table

    check_target(out, generated, Path(real))
    result = run(guides, real, generated, num_images=num_images, device=device)
    write_json(out, result)
    print(table(result))
