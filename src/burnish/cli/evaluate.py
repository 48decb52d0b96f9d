"""``burnish evaluate``."""

import sys
from pathlib import Path
from typing import Any

import click
import yaml

from burnish.cli.options import DRY_RUN, flag, flags, given, job_of
from burnish.jobs.options import EvaluateOptions, JobOptions
from burnish.metrics.metric import METRICS

REFERENCE = (
    "Shipped statistics (fashion_mnist/plain); a file of statistics of burnish or another tool "
    "(.npz with mu and sigma, .pkl of EDM2); or real images: .npz, .parquet, folder, or some of "
    "their rows as PATH[0-9999]."
)
FEATURES = (
    "Feature extractor: a shipped one (fashion_mnist/plain), a file of burnish train features, or "
    "a known network. Without it, the one that made the shipped statistics, else Inception, "
    "resizing as the protocol does: inception-v3-compat, or with :clean, :pytorch-fid or "
    ":antialias behind it. Its weights come with the extra "
    '"inception" or are fetched. With :float16 at the end it takes a third of the time on '
    "processors that multiply float16. Other networks: dinov2-vit-l-14:dgm and :edm2 (FD-DINOv2), "
    "clip-vit-l-14-336:cmmd, siglip-vit-b-16:pillow, mae-vit-l-16:dgm and others, whose weights "
    "are fetched."
)


@click.command(short_help="Compare images with real ones: FID, KID, precision, recall, ...")
@click.argument("generated", type=Path)
@flag("--reference", str, REFERENCE, required=True)
@flag("--features", str, FEATURES)
@flag("--json", Path, "Write the result there, at full precision.", names=["out"])
@flags(EvaluateOptions)
@flags(JobOptions)
@DRY_RUN
def evaluate(
    generated: Path, reference: str, features: str | None, out: Path | None, dry_run: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Compare GENERATED images with real ones.

    GENERATED is an .npz, a .parquet or a folder of images. Distances by different feature
    extractors, or by different protocols, cannot be compared with each other.

    Example: burnish evaluate refined.npz --reference fashion_mnist/plain --json result.json

    As the evaluator of guided diffusion: burnish evaluate samples.npz --protocol adm
    --reference VIRTUAL_imagenet256_labeled.npz
    """
    from burnish.jobs.evaluate import plan_evaluate

    job = job_of(options)
    plan = plan_evaluate(generated, reference, features, out=out, job=job, **given(options))
    if dry_run:
        return print(yaml.safe_dump(plan.describe(), sort_keys=False), end="")
    result = plan.run()
    if not result:
        return
    found = {metric.key: result[metric.key] for metric in METRICS}
    print("  ".join(f"{key} {value:.4g}" for key, value in given(found).items()))
    print(
        f"{result['num_images']} images, {result['feature_extractor']}, "
        f"{result['reference']}, protocol {result['protocol']}"
    )
    for warning in result["warnings"]:
        print(f"note: {warning}", file=sys.stderr)
