"""``burnish tune``."""

from pathlib import Path
from typing import Any

import click

from burnish.cli.options import DEVICE, flag, flags, given
from burnish.studies.tune import TuneOptions


@click.command(short_help="Choose the settings of refinement for these images.")
@click.argument("samples", type=Path)
@flag("--guide", str, "As for burnish refine.", required=True)
@flag("--real", str, "Real images or their statistics, as for evaluate.", required=True)
@flag("--features", str, "Feature extractor, as for burnish evaluate.")
@flag("--out", Path("tuning.json"), "A JSON file with every row and the choice.")
@DEVICE
@flags(TuneOptions)
def tune(
    samples: Path, guide: str, real: str, features: str | None, out: Path, device: str,
    **options: Any,
) -> None:  # fmt: skip
    """Sweep the settings of refinement on SAMPLES and choose by the FID.

    The lowest FID wins whose recall is high enough; if no setting lowers the FID, the choice is to
    leave the images as they are. Report on other images than those, and by another feature
    extractor: the choice flatters what it was made with.

    Example: burnish tune samples.npz --guide cifar10 --real cifar10/plain
    """
    from burnish.files import check_target, write_json
    from burnish.studies.tune import tune as run

    check_target(out, samples, Path(real))
    tried = TuneOptions(**given(options))
    result = run(samples, guide, real, features, tried, device=device)
    write_json(out, result)
    for row in result["rows"]:
        numbers = "  ".join(f"{key} {row[key]:.4g}" for key in ("fid", "precision", "recall"))
        print(f"{numbers}  {row['refine'] or 'as they are'}")
    print(f"{out}: {result['chosen'] or 'leave these images as they are'}")
