"""Pack the models of a run for others, in the layout of the shipped collections."""

from collections.abc import Sequence
from pathlib import Path

from burnish.checkpoint import load_beside, load_model, save_model
from burnish.errors import InputError
from burnish.files import check_target
from burnish.generators.consistency import ConsistencyModel
from burnish.metrics.features import load_extractor
from burnish.metrics.reference import make_reference
from burnish.storage.formats import open_samples
from burnish.studies.dose.files import read_tuning

GUIDE, GENERATOR = "guide.safetensors", "generator"


def pack(
    run: Path, out: Path, *, tuning: Path | None = None, real: Path | None = None,
    source: str = "", features: Sequence[str] = ("plain", "wide"), force: bool = True,
) -> list[Path]:  # fmt: skip
    """Write the guide of a run and, with real images, its generator and feature extractors.

    Weights are at half precision. References are made with the feature extractors as packed.

    Args:
        run: Folder of a run of ``burnish train``.
        out: Folder to fill.
        tuning: JSON of ``burnish tune``; its choice becomes the default of this guide.
        real: Real images that no network of the run has seen. Without them the guide alone is
            packed.
        source: What results call the real images; by default the name of the file.
        features: Names of the feature extractors.
        force: Whether files of the same names may be replaced.

    Returns:
        The files and folders written.
    """
    _check_targets(out, features if real else (), force, run, *filter(None, (tuning, real)))
    trained = run / "joint" / "model.safetensors"
    network, card = load_model(trained)
    if tuning is not None:
        card["refine"] = read_tuning(tuning)["chosen"]
        if card["refine"] is None:
            raise InputError(f"{tuning} chose no setting; its words say why")
        if "refiner" in card["refine"]:
            raise InputError(f"{tuning} chose a learned refiner; tune without --refiner to pack")
    written = [out / GUIDE]
    save_model(written[0], network, card, half=True, beside=load_beside(trained))
    if real is None:
        return written
    images, written = open_samples(real), [*written, out / GENERATOR]
    ConsistencyModel.load(run / "consistency" / "pipeline").save(written[-1], half=True)
    facts = {"source": source or real.name, "num_images": len(images)}
    for name in features:
        path = out / f"features-{name}.safetensors"
        module, card = load_model(run / path.stem / "model.safetensors")
        save_model(path, module, {"image_shape": list(images.image_shape), **card}, half=True)
        reference = make_reference(images, load_extractor(str(path)), **facts)
        written += [path, out / f"reference-{name}.npz"]
        reference.save(written[-1], features_dtype="float16")
    return written


def _check_targets(out: Path, features: Sequence[str], force: bool, *inputs: Path) -> None:
    names = [GUIDE]
    for name in features:
        if not name or Path(name).name != name:
            raise InputError(f"features: {name!r} must be a plain name of a feature extractor")
        names += [
            f"features-{name}.safetensors",
            f"reference-{name}.npz",
            f"{GENERATOR}/card.json",
        ]
    for name in names:
        check_target(out / name, *inputs, force=force)
