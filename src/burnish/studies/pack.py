"""Pack the models of a run for others, in the layout of the shipped collections."""

import json
from collections.abc import Sequence
from pathlib import Path

from burnish.checkpoint import load_beside, load_model, save_model
from burnish.errors import InputError
from burnish.generators.consistency import ConsistencyModel
from burnish.metrics.features import load_extractor
from burnish.metrics.reference import make_reference
from burnish.storage.formats import open_samples


def pack(
    run: Path, out: Path, *, tuning: Path | None = None, real: Path | None = None,
    source: str = "", features: Sequence[str] = ("plain", "wide"),
) -> list[Path]:  # fmt: skip
    """Write the guide of a run and, with real images, its generator and feature extractors.

    Weights are at half precision. References are made with the feature extractors as packed.

    Args:
        run: Folder of a run of ``burnish train``.
        out: Folder to fill; files of the same names are replaced.
        tuning: JSON of ``burnish tune``; its choice becomes the default of this guide.
        real: Real images that no network of the run has seen. Without them the guide alone is
            packed.
        source: What results call the real images; by default the name of the file.
        features: Names of the feature extractors.

    Returns:
        The files and folders written.
    """
    trained = run / "joint" / "model.safetensors"
    network, card = load_model(trained)
    if tuning is not None:
        if not tuning.is_file():
            raise InputError(f"there is no file {tuning}; run burnish tune first")
        card["refine"] = json.loads(tuning.read_text())["chosen"]
        if card["refine"] is None:
            raise InputError(f"{tuning} chose no setting; its words say why")
    written = [out / "guide.safetensors"]
    save_model(written[0], network, card, half=True, beside=load_beside(trained))
    if real is None:
        return written
    images, written = open_samples(real), [*written, out / "generator"]
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
