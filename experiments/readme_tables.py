"""The tables of the README: the shipped models as they ship, by small networks and by Inception.

Images of seeds 10000-12999 of the shipped generators, in one step as they are, refined, and in two
steps, against the first 5,000 test images. Differences are to one step as it is, image by image,
with 95 % intervals. Needs the extra ``inception``; takes about 40 minutes of one core.

python experiments/readme_tables.py ../shared/data --work tables --out results/readme.json
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from burnish.files import provenance, write_json
from burnish.jobs.refine import plan_refine
from burnish.jobs.sample import plan_sample
from burnish.metrics.estimates import Estimator
from burnish.metrics.extraction import extract, joined
from burnish.metrics.features import load_extractor
from burnish.metrics.intervals import paired_change
from burnish.metrics.moments import moments_of
from burnish.progress import bar
from burnish.storage.formats import open_samples

SEEDS, COUNT, NUM_REAL = "10000-12999", 3000, 5000
KEYS = ("fid", "kid", "mind", "precision", "recall")
REFINED: dict[str, dict[str, Any]] = {
    "bigroc": {"guide": "cifar10-robust", "preset": "bigroc", "eps": 0.5, "num_steps": 10},
    "joint": {},
}
TABLES = {
    "cifar10": (("one", "bigroc", "joint", "two"), ("plain", "wide", "views")),
    "fashion_mnist": (("one", "joint", "two"), ("plain", "wide")),
}


def main() -> None:
    """Make, score and write all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="cifar10/ and fashion_mnist/, each with test-*")
    parser.add_argument("--work", type=Path, default=Path("tables"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.work.mkdir(exist_ok=True)
    results = {}
    for data, (rows, small) in TABLES.items():
        files = {name: images(data, name, given.work) for name in rows}
        files["real"] = next((given.data / data).glob("test-*"))
        results[data] = {
            name: scores(files, name, given.work / f"{data}-{{}}-{name.replace('/', '-')}.npy")
            for name in (*(f"{data}/{one}" for one in small), "inception-v3-compat")
        }
    facts = {"seeds": SEEDS, "num_images": COUNT, "reference": f"test[0-{NUM_REAL - 1}]"}
    command = f"python experiments/readme_tables.py DATA --out {given.out}"
    write_json(given.out, {"command": command, **facts, **provenance(), "results": results})


def images(data: str, name: str, work: Path) -> Path:
    """Return the file of a row's images, made now if it is not there."""
    out = work / f"{data}-{name}.npz"
    if out.exists():
        return out
    if name in REFINED:
        options = {"guide": data, **REFINED[name]}
        plan_refine(images(data, "one", work), options.pop("guide"), out, **options).run()
    else:
        plan_sample(data, SEEDS, out, num_steps=2 if name == "two" else 1).run()
    return out


def features(path: Path, count: int, extractor: Any, kept: Path) -> Any:
    """Return features ``[count, D]`` in the order of the ids, kept in a file."""
    if not kept.exists():
        batches = bar(open_samples(path, 100).rows(0, count), kept.stem, -(-count // 100))
        np.save(kept, joined(list(extract(batches, extractor)), by_id=True).features)
    return np.load(kept)


def scores(files: dict[str, Path], name: str, kept: Path) -> dict[str, Any]:
    """Return value, interval and change of each metric, by row."""
    extractor = load_extractor(name)
    place = {row: Path(str(kept).format(row)) for row in files}
    real = features(files["real"], NUM_REAL, extractor, place["real"])
    estimator = Estimator(moments_of(real), real, keys=KEYS)
    found = {
        row: estimator(features(path, COUNT, extractor, place[row]))
        for row, path in files.items()
        if row != "real"
    }
    return {
        row: {
            key: {
                "value": one.value,
                **one.interval(),
                "change": None if row == "one" else vars(paired_change(found["one"][key], one)),
            }
            for key, one in estimates.items()
        }
        for row, estimates in found.items()
    }


if __name__ == "__main__":
    main()
