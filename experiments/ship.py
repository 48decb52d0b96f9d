"""Pack a finished run for shipping: half-precision weights, cards, reference statistics.

    python experiments/ship.py --run runs/fashion_mnist --test IMAGES --tuning results/TUNING.json

The references are made with the judges as shipped, from real images that no network has seen.
"""

import json
from pathlib import Path

import tyro

from burnish.checkpoint import load_model, save_model
from burnish.generators.consistency import ConsistencyModel
from burnish.hub import SHIPPED
from burnish.metrics import make_reference
from burnish.metrics.load import load_extractor
from burnish.storage import open_samples


def main(
    run: Path,
    tuning: Path,
    test: Path | None = None,
    source: str = "fashion_mnist test",
    judges: tuple[str, ...] = ("plain", "wide"),
) -> None:
    """Write the models and references of a run into the package; without test, the guide alone."""
    target = SHIPPED / run.name
    target.mkdir(parents=True, exist_ok=True)
    network, card = load_model(run / "joint" / "model.safetensors")
    card["refine"] = json.loads(tuning.read_text())["chosen"]
    save_model(target / "guide.safetensors", network, card, half=True)
    if test is None:
        return
    ConsistencyModel.load(run / "consistency" / "pipeline").save(target / "generator", half=True)
    images = open_samples(test)
    for name in judges:
        path = target / f"judge-{name}.safetensors"
        judge, card = load_model(run / f"judge-{name}" / "model.safetensors")
        save_model(path, judge, {"image_shape": list(images.image_shape), **card}, half=True)
        reference = make_reference(
            images, load_extractor(str(path)), source=source, num_images=len(images)
        )
        reference.save(target / f"reference-{name}.npz", features_dtype="float16")
    total = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{target}: {total / 1e6:.1f} MB")


if __name__ == "__main__":
    tyro.cli(main)
