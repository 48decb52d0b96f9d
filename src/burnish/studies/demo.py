"""The newcomer's first minute: everything once, on models that ship in the package."""

from pathlib import Path
from typing import Any

from burnish.errors import InputError, unknown
from burnish.files import provenance, write_json
from burnish.generators.load import load_generator
from burnish.guide.load import load_guide
from burnish.hub import shipped
from burnish.jobs.local import refine_file, sample_file
from burnish.jobs.scoring import evaluate_file
from burnish.refine.refiner import settings_for
from burnish.report import write_report

__all__ = ["run_demo"]

JUDGE, SECOND_JUDGE = "plain", "wide"
# Metric -> how it is printed.
SHOWN = {"fid": ".2f", "kid": ".4f", "inception_score": ".2f", "precision": ".3f", "recall": ".3f"}


def run_demo(
    out: Path, num_images: int = 1000, device: str = "cpu", data: str = "fashion_mnist"
) -> str:
    """Sample, refine, score and report; returns the table of what was found.

    The seeds, the judges and the reference images had no part in choosing the settings: those were
    chosen on other seeds, by a judge that does not ship, against other real images.

    Args:
        out: Folder for ``base.npz``, ``refined.npz``, ``refined.npz.ledger.parquet``,
            ``result.json`` and ``report.html``; files of an earlier demo are replaced.
        num_images: From seed 0 on; at least 10.
        device: Where to compute.
        data: Whose shipped models.

    Raises:
        InputError: There are no such models or too few images, or the folder cannot be written.
    """
    if data not in list(shipped("generator")):
        raise unknown("demo", data, list(shipped("generator")))
    if num_images < 10:
        raise InputError(f"the demo needs at least 10 images to compare, not {num_images}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be used as a folder: {error.strerror}") from error
    base, refined = out / "base.npz", out / "refined.npz"
    generator = load_generator(data).to(device)
    sampled = sample_file(generator, range(num_images), base)
    guide = load_guide(data).to(device)
    settings = settings_for(guide, None)
    done = refine_file(base, guide, settings, refined)
    scores = {
        judge: {
            name: evaluate_file(path, f"{data}/{judge}", device=device)
            for name, path in (("base", base), ("refined", refined))
        }
        for judge in (JUDGE, SECOND_JUDGE)
    }
    result: dict[str, Any] = {
        "guide": guide.card["name"],
        "generator": generator.card["name"],
        **scores[JUDGE],
        "second_judge": scores[SECOND_JUDGE],
        "seeds": sampled["seeds"],
        "refine": done["settings"],
        "seconds": {"sample": sampled["seconds"], "refine": done["seconds"]},
        **provenance(),
    }
    write_json(out / "result.json", result)
    page = write_report([out], out / "report.html")
    return f"{_table(scores)}\n\nLook at {page}"


def _table(scores: dict[str, dict[str, dict[str, Any]]]) -> str:
    lines = [f"{'':24}{'base':>10}{'refined':>10}{'change':>10}"]
    for sides in scores.values():
        base, refined = sides["base"], sides["refined"]
        lines.append(f"{base['feature_extractor']}, {base['num_images']} images")
        for name, form in SHOWN.items():
            before, after = base[name], refined[name]
            change = f"{after / before - 1:+.0%}" if before else ""
            lines.append(f"  {name:22}{before:>10{form}}{after:>10{form}}{change:>10}")
    return "\n".join(lines)
