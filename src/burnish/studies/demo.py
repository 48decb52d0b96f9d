"""The demo: sample, refine, score and report once, with models that ship in the package."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from burnish.errors import InputError, unknown
from burnish.files import check_target, provenance, read_json, write_json
from burnish.generators.load import load_generator
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.hub import shipped
from burnish.jobs.evaluate import plan_evaluate
from burnish.jobs.refine import plan_refine
from burnish.jobs.sample import plan_sample
from burnish.metrics.metric import METRICS
from burnish.report.comparison import changes_of
from burnish.report.page import write_report


def demo(
    out: Path, data: str = "fashion_mnist", num_images: int = 1000, *, device: str = "auto",
    force: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Sample, refine, score and report.

    The settings were chosen on other seeds, by a feature extractor that does not ship, against
    other real images.

    Args:
        out: Folder for ``generated.npz``, ``refined.npz`` with its ledger, ``result.json`` and
            ``report.html``; what an earlier demo of the same data left is replaced.
        data: Name of shipped models.
        num_images: From seed 0 on; at least 10.
        device: Where to compute.
        force: Whether files of these names may be replaced in a folder of anything else.

    Returns:
        The content of ``result.json``: metrics of the two sides, ``baseline`` and ``refined``, and
        under ``second_features`` the same by another feature extractor. ``note`` is a line on what
        happens if the refined images, which the guide can hardly mend, are refined once more.
    """
    if data not in shipped("generator"):
        raise unknown("demo", data, shipped("generator"))
    if num_images < 10:
        raise InputError(f"the demo needs at least 10 images to compare, not {num_images}")
    _claim(out, data, force)
    sides = {"baseline": out / "generated.npz", "refined": out / "refined.npz"}
    generator, guide = load_generator(data), load_guide(data)
    sampled = plan_sample(generator, range(num_images), sides["baseline"], device=device).run()
    done = plan_refine(sides["baseline"], guide, sides["refined"], device=device).run()
    first, second = (_scores(sides, f"{data}/{one}", device) for one in ("plain", "wide"))
    result: dict[str, Any] = {
        "guide": guide.card["name"],
        "generator": generator.card["name"],
        **first,
        "second_features": second,
        "note": _once_more(sides["refined"], guide, first["refined"], device),
        "seeds": sampled["seeds"],
        "refine": done["settings"],
        "seconds": {"sample": sampled["seconds"], "refine": done["seconds"]},
        **provenance(),
    }
    write_json(out / "result.json", result)
    write_report([out], out / "report.html")
    return result


def _scores(sides: Mapping[str, Path], reference: str, device: str) -> dict[str, Any]:
    """Return the result of each side, and as ``changes`` their paired differences."""
    with TemporaryDirectory() as folder:
        places = {side: Path(folder) / f"{side}.json" for side in sides}
        found: dict[str, Any] = {
            side: plan_evaluate(path, reference, out=places[side], device=device).run()
            for side, path in sides.items()
        }
        return {**found, "changes": changes_of(*places.values())}


def _claim(out: Path, data: str, force: bool) -> None:
    """Say whose the folder is, before anything else is in it; refuse one of something else."""
    mark = out / "demo.json"
    check_target(mark)
    held = "something else than a demo"
    if mark.exists():
        held = f"a demo of {read_json(mark).get('data')}"
    elif not out.is_dir() or all(path.name.startswith(".") for path in out.iterdir()):
        held = ""
    if held and held != f"a demo of {data}" and not force:
        raise InputError(f"{out} holds {held}; give another --out, or --force to replace it")
    for name in ("result.json", "report.html"):
        check_target(out / name)
        (out / name).unlink(missing_ok=True)  # or it would stand beside other images
    write_json(mark, {"data": data})


def _once_more(images: Path, guide: Guide, scores: dict[str, Any], device: str) -> str:
    """Refine images that were refined; say whether burnish warns, and what becomes of the FID."""
    with TemporaryDirectory() as folder:
        again = Path(folder) / "again.npz"
        plan = plan_refine(images, guide, again, device=device)
        plan.run()
        found = plan_evaluate(again, scores["feature_extractor"], device=device).run()
    reason = plan.doubt.partition(":")[0]
    warns = f"burnish warns that {reason}" if reason else "burnish does not warn"
    before, after = (f"{one['fid']:.2f}" for one in (scores, found))
    return (
        f"Refining the refined images once more: {warns}; the FID goes from {before} to {after}."
    )


def table(result: dict[str, Any]) -> str:
    """Return a result of :func:`demo` as text: metrics before and after, and the note."""
    lines = [f"{'':24}{'baseline':>10}{'refined':>10}{'change':>10}"]
    for sides in (result, result["second_features"]):
        baseline, refined = sides["baseline"], sides["refined"]
        lines.append(f"{baseline['feature_extractor']}, {baseline['num_images']} images")
        for metric in METRICS:
            before, after = baseline[metric.key], refined[metric.key]
            if before is None and after is None:
                continue
            change = f"{after / before - 1:+.0%}" if before and after is not None else ""
            cells = f"{metric.text(before):>10}{metric.text(after):>10}{change:>10}"
            lines.append(f"  {metric.heading:22}{cells}")
    return "\n".join([*lines, result["note"]])
