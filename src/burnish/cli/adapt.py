"""``burnish adapt``."""

import sys
from pathlib import Path
from typing import Any

import click
import yaml

from burnish.cli.options import DEVICE, DRY_RUN, flag, flags, given
from burnish.studies.adapt_options import AdaptOptions

REAL = (
    "Real images with labels: an .npz, .parquet or folder, some of their rows as PATH[0-9999], or "
    "a name (cifar10). As many as there are; they should be compressed and resized as the samples."
)
START = (
    "Guide to start from: a shipped one, a .safetensors file, or timm/NAME. The nearer its images "
    "are to these, the better."
)
FEATURES = "Feature extractor to find the dose with, as for burnish tune; may be given repeatedly."


@click.command(short_help="Train a guide for the images of your generator.")
@click.argument("samples")
@flag("--real", str, REAL, required=True)
@flag("--guide", str, START, required=True)
@flag("--out", Path("adapted"), "Folder; OUT/guide.safetensors is what refine takes.")
@flag("--features", str, FEATURES, multiple=True)
@flags(AdaptOptions)
@DEVICE
@DRY_RUN
def adapt(
    samples: str, real: str, guide: str, out: Path, features: tuple[str, ...], device: str,
    dry_run: bool, **options: Any,
) -> None:  # fmt: skip
    """Train a guide for the generator of SAMPLES, and find the dose that helps them.

    A guide improves images of generators that it has seen. This takes one that has not, shows it
    most of SAMPLES beside REAL images, and then tries settings on the rest: either the guide gets
    those that helped as its default, or you are told to leave the images as they are. Give the
    same command again to go on where it was stopped.

    Refine other images of this generator than those that were given here, and compare them with
    other real images: what a guide was trained on flatters it.

    Example: burnish adapt samples.npz --real real.npz --guide cifar10-all --out mine
    """
    from burnish.studies.adapt import plan_adapt

    plan = plan_adapt(
        samples, real, guide, out, features=features, options=AdaptOptions(**given(options)),
        device=device,
    )  # fmt: skip
    if dry_run:
        return print(yaml.safe_dump(plan.describe(), sort_keys=False), end="")
    for warning in plan.warnings:
        print(f"note: {warning}", file=sys.stderr)
    print(
        f"{plan.num_steps} steps at most, about {plan.seconds / 60:.1f} minutes, unless they "
        "are made already; then the dose, which says itself how long it takes",
        file=sys.stderr,
    )
    found = plan.run()
    print(found.get("words", "no dose was looked for; give --eps to refine"))
    print(out / "guide.safetensors")
