"""``burnish explain``."""

from pathlib import Path
from typing import Any

import click

from burnish.cli.options import DEVICE, FORCE, flag, flags, given
from burnish.studies.controls.explain import ExplainOptions

FEATURES = (
    "Feature extractor, as for evaluate; give two or more, one of which saw no labels or other "
    "images. [default: shipped ones for such images, and Inception if installed]"
)
REAL = "Real images: .npz, .parquet, folder, a data set, or rows of them as PATH[0-9999]."
GUIDE = "Rates the images for the control that drops those of lowest realness; without it, none."
OTHER = "Other images to hold the gain against, as NAME=PATH, such as those of two sampling steps."


@click.command(short_help="Say what part of a gain cheap controls explain.")
@click.argument("baseline")
@click.argument("refined")
@flag("--real", str, REAL, required=True)
@flag("--features", str, FEATURES, multiple=True)
@flag("--guide", str, GUIDE)
@flag("--other", str, OTHER, multiple=True, metavar="NAME=PATH")
@flag("--out", Path("explained.json"), "A JSON file with every number.")
@DEVICE
@flags(ExplainOptions)
@FORCE
def explain(
    baseline: str, refined: str, real: str, features: tuple[str, ...], guide: str | None,
    other: tuple[str, ...], out: Path, device: str, force: bool, **options: Any,
) -> None:  # fmt: skip
    """Say what part of the gain from BASELINE to REFINED images cheap controls explain.

    The refined images may come from any tool. The controls are the baseline images in the class
    frequencies of the refined ones, blurred, sharpened, filtered to the spectrum of the real
    images, and, with a guide, without those of lowest realness. Several feature extractors judge.

    Example: burnish explain samples.npz refined.npz --real real.npz --guide cifar10
    """
    from burnish.errors import InputError
    from burnish.files import check_target, write_json
    from burnish.studies.controls.explain import explain as run
    from burnish.studies.controls.words import table

    parts = [one.partition("=") for one in other]
    others = {name: path for name, _, path in parts}
    if not all(others) or not all(others.values()) or len(others) < len(other):
        raise InputError("--other takes NAME=PATH, each name once")
    inputs = [baseline, refined, real, *others.values(), *filter(None, [guide])]
    check_target(out, *inputs, force=force)
    result = run(
        baseline, refined, real, features, ExplainOptions(**given(options)), guide=guide,
        others=others, device=device,
    )  # fmt: skip
    write_json(out, result)
    print(table(result))
    print(result["words"])
    print(out)
