"""How often the 95 % intervals of metrics hold the truth, by drawing from real features.

Population: features of the 50,000 training images of CIFAR-10, and of the same images slightly
softened (0.9 image + 0.1 blurred by 0.6 pixels). With ``--soften 0.6`` both are softened that much
more, so that they lie as far from real images as those of a generator do. Reference: features of
test images. Each draw takes ``--count`` images without replacement, before and after. What an
interval should hold is the mean over all draws: of the metric, and of its paired difference. It is
not the value of infinitely
many images. All draws are kept beside the result: the same command goes on where it was stopped.

python benchmarks/coverage.py ../shared/data/cifar10 --features cifar10/plain cifar10/views \\
    --count 1000 --reference 2000 --draws 1000 --out results/coverage.json
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from burnish.checkpoint import load_model
from burnish.files import provenance, write_aside, write_json
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
    parser.add_argument("--soften", type=float, default=0.0, help="share that is blurred before")
    parser.add_argument("--directions", type=int, default=100, help="of MIND; elsewhere 1,000")
    parser.add_argument("--metrics", nargs="+", default=KEYS)
    parser.add_argument("--cache", type=Path, default=Path("coverage-features.npz"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if not given.cache.exists():
        np.savez(given.cache, **population(given.data, given.features, given.soften))
    found = np.load(given.cache)
    facts = {
        "command": " ".join(["python", *sys.argv]), "seed": given.seed,
        "num_images": given.count, "mind_directions": given.directions,
        "num_reference_images": given.reference, "soften": given.soften,
        "truth": "the mean over all draws, at this number of images, against this reference",
        **provenance(),
    }  # fmt: skip
    kept = given.out.with_suffix(".draws.npz")
    draws = dict(np.load(kept)) if kept.exists() else {}
    many = {name: Draws(name, found, given) for name in given.features}
    for n in bar(range(given.draws), "draws"):
        for name, one in many.items():
            for key, row in one.draw(n).items() if n >= known(draws, name) else ():
                rows = draws.get(f"{name} {key}", np.empty((0, len(row))))
                draws[f"{name} {key}"] = np.vstack([rows, row])
        if n % 25 == 24 or n == given.draws - 1:
            results: dict[str, Any] = {name: {"draws": known(draws, name)} for name in many}
            for place, rows in draws.items():
                name, key = place.split()
                results[name][key] = covered(rows)
            with write_aside(kept) as aside, aside.open("wb") as file:
                np.savez(file, **draws)
            write_json(given.out, {**facts, "results": results})


def known(draws: dict[str, Any], name: str) -> int:
    """Return how many draws there are of an extractor."""
    return max((len(rows) for place, rows in draws.items() if place.split()[0] == name), default=0)


def population(data: Path, names: list[str], soften: float) -> dict[str, Any]:
    """Return features by ``NAME before``, ``NAME after`` and ``NAME real``, and ``labels``."""

    def blend(images: Any, share: float) -> Any:
        return (1 - share) * images + share * blur(images, 0.6)

    extractors = [load_extractor(name) for name in names]
    found: dict[str, list[Any]] = {}
    for part, files in (("train", sorted(data.glob("train-*"))), ("test", data.glob("test-*"))):
        batches = [batch for file in files for batch in open_samples(file, 500)]
        for batch in bar(batches, part):
            images = batch.images
            if part == "train":
                found.setdefault("labels", []).append(batch.labels)
            sides = {"real": images}
            if part == "train":
                sides = {"before": blend(images, soften), "after": blend(images, soften + 0.1)}
            for extractor in extractors:
                for side, shown in sides.items():
                    rows = extractor(to_uint8(shown)).features.numpy().astype(np.float16)
                    found.setdefault(f"{extractor.name} {side}", []).append(rows)
    return {key: np.concatenate(rows) for key, rows in found.items()}


class Draws:
    """Draws by one extractor, against one reference."""

    def __init__(self, name: str, found: Any, given: argparse.Namespace) -> None:
        sides = ("before", "after", "real")
        self._before, self._after, real = (found[f"{name} {side}"] for side in sides)
        self._labels, self._given = found["labels"], given
        rng, total = np.random.default_rng(given.seed), MomentSum()
        real = real[rng.choice(len(real), given.reference, replace=False)].astype(np.float32)
        total.add(real)
        self._module, self._card = load_model(find("features", name))
        self._estimator = Estimator(total.moments(), real, keys={*given.metrics} - {"mind"})
        self._sliced = None
        if "mind" in given.metrics:
            self._sliced = SlicedEstimator(real, num_directions=given.directions)

    def draw(self, number: int) -> dict[str, Any]:
        """Return by metric the value after, its interval, the change and its interval."""
        rng = np.random.default_rng([self._given.seed, number])
        chosen = np.sort(rng.choice(len(self._before), self._given.count, replace=False))
        before, after = (
            self._estimates(rows[chosen], self._labels[chosen])
            for rows in (self._before, self._after)
        )
        return {
            key: (*one.interval().values(), *vars(paired_change(before[key], one)).values())
            for key, one in after.items()
        }

    def _estimates(self, rows: Any, labels: Any) -> dict[str, Any]:
        features = rows.astype(np.float32)
        found = self._estimator(features, classes(self._module, self._card, features), labels)
        return found | ({"mind": self._sliced(features)} if self._sliced else {})


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
