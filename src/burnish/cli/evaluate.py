"""``burnish evaluate``."""

import sys
from pathlib import Path
from typing import Any

import click
import yaml

from burnish.cli.options import flags
from burnish.jobs.options import EvaluateOptions
from burnish.metrics.metric import METRICS

__all__ = ["evaluate"]


@click.command(short_help="Compare images with real ones: FID, KID, precision, recall, ...")
@click.argument("generated", type=Path)
@click.option(
    "--reference",
    required=True,
    metavar="NAME",
    help="Shipped statistics (fashion_mnist/plain), an .npz with mu and sigma, or real "
    "images: .npz, .parquet, folder, or some of their rows as PATH[0-9999].",
)
@click.option(
    "--features",
    metavar="NAME",
    help="Feature extractor: a shipped one (fashion_mnist/plain), a file of burnish "
    "train features, or one of torch-fidelity's. Without it, the one that made the "
    "shipped statistics, else inception-v3-compat, whose weights come with the extra "
    '"inception" or are fetched; inception-v3-compat:float16 takes a third of the time '
    "on processors that multiply float16.",
)
@click.option(
    "--json", "out", type=Path, metavar="PATH", help="Write the result there, at full precision."
)
@flags(EvaluateOptions)
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
def evaluate(
    generated: Path,
    reference: str,
    features: str | None,
    out: Path | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Compare GENERATED images with real ones.

    GENERATED is an .npz, a .parquet or a folder of images. Distances by different feature
    extractors cannot be compared with each other.

    Example: burnish evaluate refined.npz --reference fashion_mnist/plain --json result.json
    """
    from burnish.jobs.evaluate import plan_evaluate

    chosen = {name: value for name, value in options.items() if value is not None}
    plan = plan_evaluate(generated, reference, features, out=out, **chosen)
    if dry_run:
        return print(yaml.safe_dump(plan.describe(), sort_keys=False), end="")
    result = plan.run()
    found = {
        metric.key: result[metric.key] for metric in METRICS if result[metric.key] is not None
    }
    print("  ".join(f"{key} {value:.4g}" for key, value in found.items()))
    print(f"{result['num_images']} images, {result['feature_extractor']}, {result['reference']}")
    for warning in result["warnings"]:
        print(f"note: {warning}", file=sys.stderr)
