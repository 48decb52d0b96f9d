"""``burnish tune``."""

from pathlib import Path
from typing import Any

import click

from burnish.cli.options import DEVICE, flags, given
from burnish.studies.tune import TuneOptions

__all__ = ["tune"]


@click.command(short_help="Choose the settings of refinement for these images.")
@click.argument("samples", type=Path)
@click.option("--guide", required=True, metavar="NAME", help="As for burnish refine.")
@click.option("--real", required=True, metavar="NAME",
              help="Real images or their statistics, as for burnish evaluate.")  # fmt: skip
@click.option("--features", metavar="NAME", help="Feature extractor, as for burnish evaluate.")
@click.option("--out", type=Path, default=Path("tuning.json"), metavar="PATH", show_default=True,
              help="A JSON file with every row and the choice.")  # fmt: skip
@DEVICE
@flags(TuneOptions)
def tune(
    samples: Path,
    guide: str,
    real: str,
    features: str | None,
    out: Path,
    device: str,
    **options: Any,
) -> None:
    """Sweep the settings of refinement on SAMPLES and choose by the FID.

    The lowest FID wins whose recall is high enough; if no setting lowers the FID, the choice is to
    leave the images as they are. Report on other images than those, and by another feature
    extractor: the choice flatters what it was made with.

    Example: burnish tune samples.npz --guide cifar10 --real cifar10/plain
    """
    from burnish.files import check_target, write_json
    from burnish.jobs.plan import resolve_device
    from burnish.studies.tune import tune as run

    check_target(out, samples, Path(real))
    result = run(
        samples, guide, real, features, given(TuneOptions, options),
        device=resolve_device(device),
    )  # fmt: skip
    write_json(out, result)
    for row in result["rows"]:
        numbers = "  ".join(f"{key} {row[key]:.4g}" for key in ("fid", "precision", "recall"))
        print(f"{numbers}  {row['refine'] or 'as they are'}")
    chosen = result["chosen"]
    print(f"{out}: {chosen}" if chosen else f"{out}: leave these images as they are")
