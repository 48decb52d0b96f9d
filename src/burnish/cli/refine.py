"""``burnish refine``."""

import sys
from pathlib import Path
from typing import Any

import click
import yaml

from burnish.cli.options import DRY_RUN, flag, flags, given, job_of
from burnish.jobs.options import JobOptions, RefineOptions, read_settings
from burnish.refinement.settings import RefineSettings

OUT = (
    "An .npz, .parquet, .tar, .zip or .npy, or without suffix a folder of PNG. Beside it: "
    "OUT.ledger.parquet, one row per image, and OUT.card.json, the settings."
)
SETTINGS = "Settings that burnish tune found, a .settings.yaml; other flags override it."


@click.command(short_help="Move images up the gradient of a guide.")
@click.argument("samples", type=Path)
@flag("--guide", str, "What is climbed, see above.", required=True)
@flag("--out", Path("refined.npz"), OUT)
@flag("--settings", Path, SETTINGS)
@flags(RefineOptions)
@flags(RefineSettings, note="by preset and guide, see --dry-run")
@flags(JobOptions)
@DRY_RUN
def refine(
    samples: Path, guide: str, out: Path, settings: Path | None, dry_run: bool, **options: Any
) -> None:
    """Move SAMPLES a few careful steps up the gradient of a guide.

    SAMPLES is an .npz (arr_0, arr_1), .parquet, .tar (WebDataset), .zip (EDM), .npy or .pt; a
    folder of images, flat or with one sub-folder per class, whose numbers are the labels; a
    pattern of files, such as 'part-*.npz'; or any of these as s3://... where fsspec reaches it.

    The guide is a shipped one (fashion_mnist, cifar10, cifar10-all, cifar10-damage,
    cifar10-robust), a .safetensors file of burnish train joint, a hub id, any classifier as
    timm/NAME or torchvision/NAME, or a CLIP as clip/NAME with --prompts or --captions. A joint
    guide knows the faults that it was shown. Name several, with commas between them, and the one
    that tells the images best from real ones is taken; what it gives, burnish tune measures.

    A killed job goes on where it was when the same command is given again. What is finished is
    kept in OUT.job until the output is whole.

    Example: burnish refine samples.npz --guide fashion_mnist --out refined.npz

    Example: burnish refine samples.npz --guide cifar10-all,cifar10-damage
    """
    from burnish.files import check_target
    from burnish.jobs.refine import plan_refine
    from burnish.refinement.choice import words

    if settings:
        check_target(out, settings)
    found = read_settings(settings) if settings else {}
    job = job_of(options)
    plan = plan_refine(samples, guide, out, job=job, **{**found, **given(options)})
    if dry_run:
        return print(yaml.safe_dump(plan.describe(), sort_keys=False), end="")
    if plan.choice:
        print(f"note: {words(plan.guide, plan.choice, plan.num_images)}", file=sys.stderr)
    if plan.doubt:
        print(f"note: {plan.doubt}", file=sys.stderr)
    card = plan.run()
    if not card:
        return
    harm = f"{card['num_worse']} got worse by the guide"
    if plan.settings.keep_better:
        harm = f"{card['num_kept']} kept as they were"
    print(
        f"{out}: {card['num_images']} images, {card['mean_num_steps']:.1f} steps each, "
        f"{card['share_real_enough']:.0%} stopped as real enough, {harm}, {card['seconds']:.0f} s"
    )
