"""``burnish doctor``."""

from pathlib import Path

import click

from burnish.cli.options import DEVICE, FORCE, flag

REAL = (
    "Real images with labels that no guide was trained on: a name (then its test split) or a path."
)


@click.command(short_help="Examine guides: what they are, whether they help your images.")
@click.argument("guides", nargs=-1, required=True)
@flag("--samples", str, "Generated images with labels.")
@flag("--real", str, REAL)
@flag("--num-images", 1000, "Images to look at, of each kind.")
@flag("--out", Path("guides.json"), "A JSON file with all numbers.")
@DEVICE
@FORCE
def doctor(
    guides: tuple[str, ...], real: str | None, samples: str | None, num_images: int, out: Path,
    device: str, force: bool,
) -> None:  # fmt: skip
    """Examine GUIDES as classifiers, as discriminators, and by their gradients.

    Says of each guide whether it can help these images, and what to do if not. Some rows of a file
    are meant by PATH[0-999]. Any classifier can stand beside the guides, as what a standard, not
    robust one would be.

    Example: burnish doctor cifar10 cifar10-robust --samples samples.npz --real cifar10
    """
    from burnish.files import check_target, write_json
    from burnish.studies.checkup.diagnosis import table
    from burnish.studies.checkup.doctor import doctor as run

    check_target(out, *guides, *filter(None, (samples, real)), force=force)
    result = run(guides, samples=samples, real=real, num_images=num_images, device=device)
    write_json(out, result)
    print(table(result))
