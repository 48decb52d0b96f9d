"""``burnish tune``."""

from pathlib import Path
from typing import Any

import click

from burnish.cli.options import DEVICE, FORCE, flag, flags, given
from burnish.studies.dose.tune import TuneOptions

FEATURES = (
    "Feature extractor, as for evaluate; give two or more, one of which saw no labels or other "
    "images. [default: shipped ones for such images, and Inception if installed]"
)
REAL = "Real images: .npz, .parquet, folder, a data set, or rows of them as PATH[0-9999]."
OUT = (
    "A JSON file with every number. Beside it: the curve as .png and, if there are settings to "
    "recommend, .settings.yaml for burnish refine --settings."
)


@click.command(short_help="Find the dose: the settings that help these images, or that none does.")
@click.argument("samples", type=Path)
@flag("--guide", str, "As for burnish refine.", required=True)
@flag("--real", str, REAL, required=True)
@flag("--features", str, FEATURES, multiple=True)
@flag("--out", Path("tuning.json"), OUT)
@DEVICE
@flags(TuneOptions)
@FORCE
def tune(
    samples: Path, guide: str, real: str, features: tuple[str, ...], out: Path, device: str,
    force: bool, **options: Any,
) -> None:  # fmt: skip
    """Find the settings of refinement that help SAMPLES, or say that none does.

    Half of the images are refined by every setting and compared with real ones by several feature
    extractors. A setting is recommended if no extractor finds harm and those that never saw the
    guide's kind of images (Inception) are sure of the gain. The choice is then confirmed on the
    other half. It ends in one of three: use these settings; leave these images as they are; the
    extractors disagree. Report on other images than these.

    SAMPLES may be some rows of a file, as PATH[0-1999].

    Example: burnish tune samples.npz --guide cifar10 --real real.npz
    """
    from burnish.studies.dose.conclusion import settings_in_words
    from burnish.studies.dose.files import check_files, write_tuning
    from burnish.studies.dose.tune import tune as run

    check_files(out, samples, guide, real, force=force)
    result = run(samples, guide, real, features, TuneOptions(**given(options)), device=device)
    written = write_tuning(out, result)
    for row in result["rows"]:
        named = settings_in_words(row["settings"] or {})
        found = "  ".join(f"{name} {scores['fid']:.4g}" for name, scores in row["scores"].items())
        print(f"FD {found}  {named or 'as they are'}")
    print(result["words"])
    print(*written)
