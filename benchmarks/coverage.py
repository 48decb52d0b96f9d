"""How often the 95 % intervals of metrics hold the truth, by drawing from real features.

Population: features of the 50,000 training images of CIFAR-10, and of the same images slightly
softened (0.9 image + 0.1 blurred by 0.6 pixels). Reference: features of test images. Each draw
takes ``--count`` images without replacement, before and after. What an interval should hold is the
mean over all draws: of the metric, and of its paired difference. It is not the value of infinitely
many images.

python benchmarks/coverage.py ../shared/data/cifar10 --features cifar10/plain cifar10/views \\
    --count 1000 --reference 2000 --draws 1000 --out results/coverage.json
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from burnish.checkpoint import load_model
from burnish.files import provenance, write_json
from burnish.hub import find
from burnish.metrics.estimates import KEYS, Estimator
from burnish.metrics.features import load_extractor
from burnish.metrics.intervals import paired_change
from burnish.metrics.moments import MomentSum
from burnish.metrics.sliced import SlicedEstimator
from burnish.progress import bar
from burnish.samples import to_uint8
from burnish.storage.formats import open_samples
from burnish.studies.baselines import blur


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--features", nargs="+", required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--reference", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directions", type=int, default=100, help="of MIND; elsewhere 1,000")
    parser.add_argument("--metrics", nargs="+", default=KEYS)
    parser.add_argument("--cache", type=Path, default=Path("coverage-features.npz"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if not given.cache.exists():
        np.savez(given.cache, **population(given.data, given.features))
    found = np.load(given.cache)
    facts = {
        "command": " ".join(["python", *sys.argv]), "seed": given.seed,
        "num_images": given.count, "mind_directions": given.directions,
        "num_reference_images": given.reference,
        "truth": "the mean over all draws, at this number of images, against this reference",
        **provenance(),
    }  # fmt: skip
    results: dict[str, Any] = {}
    for name in given.features:
        rows = {side: found[f"{name} {side}"] for side in ("before", "after", "real")}
        for so_far in simulate(rows, found["labels"], name, given):
            results[name] = so_far
            write_json(given.out, {**facts, "results": results})


def population(data: Path, names: list[str]) -> dict[str, Any]:
    """Return features by ``NAME before``, ``NAME after`` and ``NAME real``, and ``labels``."""
    extractors = [load_extractor(name) for name in names]
    found: dict[str, list[Any]] = {}
    for part, files in (("train", sorted(data.glob("train-*"))), ("test", data.glob("test-*"))):
        batches = [batch for file in files for batch in open_samples(file, 500)]
        for batch in bar(batches, part):
            images = batch.images
            if part == "train":
                found.setdefault("labels", []).append(batch.labels)
            soft = 0.9 * images + 0.1 * blur(images, 0.6)
            sides = {"before": images, "after": soft} if part == "train" else {"real": images}
            for extractor in extractors:
                for side, shown in sides.items():
                    rows = extractor(to_uint8(shown)).features.numpy().astype(np.float16)
                    found.setdefault(f"{extractor.name} {side}", []).append(rows)
    return {key: np.concatenate(rows) for key, rows in found.items()}


def simulate(
    rows: dict[str, Any], labels: Any, name: str, given: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Yield after every 50 draws, by metric, how often intervals hold the means over draws."""
    rng = np.random.default_rng(given.seed)
    module, card = load_model(find("features", name))
    real = rows["real"][rng.choice(len(rows["real"]), given.reference, replace=False)]
    real, total = real.astype(np.float32), MomentSum()
    total.add(real)
    estimator, draws = Estimator(total.moments(), real, keys={*given.metrics} - {"mind"}), []
    sliced = None
    if "mind" in given.metrics:
        sliced = SlicedEstimator(real, num_directions=given.directions)
    for _ in bar(range(given.draws), name):
        chosen = np.sort(rng.choice(len(rows["before"]), given.count, replace=False))
        sides = []
        for side in ("before", "after"):
            features = rows[side][chosen].astype(np.float32)
            found = estimator(features, classes(module, card, features), labels[chosen])
            sides.append(found | ({"mind": sliced(features)} if sliced else {}))
        draws.append({
            key: (*after.interval().values(), *vars(paired_change(sides[0][key], after)).values())
            for key, after in sides[1].items()
        })  # fmt: skip
        if len(draws) % 50 == 0 or len(draws) == given.draws:
            found = {key: covered(np.array([draw[key] for draw in draws])) for key in draws[0]}
            yield {"draws": len(draws), **found}


def classes(module: Any, card: dict[str, Any], features: Any) -> Any:
    """Return probabilities ``[N, K]``; None where the network does not classify."""
    import torch

    if not card.get("classifies", True):
        return None
    with torch.inference_mode():
        return module.forward_head(torch.from_numpy(features)).softmax(1).numpy()


def covered(draws: Any) -> dict[str, float]:
    """Return how often intervals hold the mean: value, error, low, high; change and the same."""
    found = {}
    for name, part in (("", draws[:, :4]), ("change_", draws[:, 4:])):
        value, error, low, high = part.T
        mean = value.mean()
        found |= {
            f"{name}mean": mean, f"{name}std": value.std(ddof=1),
            f"{name}mean_std_error": error.mean(),
            f"{name}coverage": float(((low <= mean) & (mean <= high)).mean()),
            f"{name}below": float((high < mean).mean()),
        }  # fmt: skip
    return found


if __name__ == "__main__":
    main()
