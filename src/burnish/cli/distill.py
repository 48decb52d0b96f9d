"""``burnish distill``."""

import sys
from pathlib import Path
from typing import Any

import click
import yaml

from burnish.cli.options import DEVICE, DRY_RUN, flag, flags, given
from burnish.jobs.options import read_settings, split
from burnish.refinement.settings import RefineSettings
from burnish.studies.distill_options import DistillOptions

GUIDE = "Whose steps are imitated; a shipped guide, or a .safetensors file."
OUT = "The refiner, a .safetensors. [default: refiner.safetensors beside the guide's file]"
SETTINGS = "Settings that burnish tune found, a .settings.yaml; other flags override it."


@click.command(short_help="Teach a network to refine in one pass as a guide does in many.")
@click.argument("samples")
@flag("--guide", str, GUIDE, required=True)
@flag("--out", Path, OUT)
@flag("--settings", Path, SETTINGS)
@flags(DistillOptions)
@flags(RefineSettings, note="by preset and guide, see --dry-run")
@DEVICE
@DRY_RUN
def distill(
    samples: str, guide: str, out: Path | None, settings: Path | None, device: str,
    dry_run: bool, **options: Any,
) -> None:  # fmt: skip
    """Teach a small network to make from SAMPLES what the guide makes of them.

    The guide refines SAMPLES, some thousands of images, once. A convolutional network learns from
    the pairs, and then refines other images of the same generator in one pass. A tenth of the
    images is held out, and says what share of the guide's change the network explains. Give the
    same command again to go on where it was stopped.

    SAMPLES may be some rows of a file, as PATH[0-7999].

    Example: burnish distill samples.npz --guide mine/guide.safetensors
    """
    from burnish.studies.distill import POOR, plan_distill

    found = read_settings(settings) if settings else {}
    found.pop("refiner", None)  # it is the steps of the guide that are imitated
    how, overrides = split(DistillOptions, {**found, **given(options)}, RefineSettings)
    plan = plan_distill(samples, guide, out, options=how, device=device, **overrides)
    if dry_run:
        return print(yaml.safe_dump(plan.describe(), sort_keys=False), end="")
    minutes = plan.seconds / 60
    print(
        f"refine {plan.num_images} images by the guide, and train {how.training_steps} steps: "
        f"about {minutes:.1f} minutes, less what is done already",
        file=sys.stderr,
    )
    card = plan.run()
    share, seconds = card["explained"], card["seconds"]
    print(
        f"{plan.out}: explains {share:.0%} of the guide's change on {card['num_held_out']} images "
        f"held out; {seconds['learned']:.2f} s per 1,000 images, the guide "
        f"{seconds['guide']:.2f} s"
    )
    if share < POOR:
        print(
            "That is too little: the network does not do what the guide does. Refine by the "
            "guide, or distill from more images, or with more --training-steps or --width."
        )
    else:
        named = "learned" if out is None else plan.out
        print(
            f"Next: burnish refine OTHERS --guide {guide} --refiner {named}; whether the images "
            "get better is what burnish tune --refiner or burnish evaluate say"
        )
