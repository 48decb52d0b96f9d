"""A distilled refiner beside its guide, on images that neither has seen.

    burnish adapt CIFAKE/generated...[0-11999] --real CIFAKE/real...[0-9999] --guide cifar10-all \
        --seed 21 --num-tuning 0 --out OUT
    burnish distill CIFAKE/generated...[0-7999] --guide GUIDE --eps 1.5 --num-steps 5 \
        --stop-quantile 1.0 --precondition spectrum --match-spectrum
    python experiments/distilled_refiner.py CIFAKE GUIDE REFINER OUT results/cifake-distilled.json

CIFAKE is a folder with ``generated-00000-of-00001.parquet`` and ``real-00000-of-00001.parquet``.
Generated rows 19000-19999 are refined, and compared with real rows 15000-19999 (by Inception
15000-17499). OUT keeps the features, so that a stopped run goes on; without GUIDE (``-``) only
those of the given images are made.
"""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from burnish.checkpoint import load_model
from burnish.files import path_sha256, provenance, write_json
from burnish.guide.load import load_guide
from burnish.metrics.features import INCEPTION, load_extractor
from burnish.metrics.moments import Array
from burnish.refinement.learned import LearnedRefiner, load_learned, make_refiner
from burnish.refinement.presets import settings_for
from burnish.refinement.refiner import Refiner
from burnish.samples import Samples, to_uint8
from burnish.schema import plain
from burnish.storage.datasets import Dataset, load_dataset
from burnish.studies.dose.scorer import Scorer, look

PRECISION, REPEATS = "bfloat16", 3
# By far the slowest comes last: what there is, is written after each.
EXTRACTORS = ("cifar10/plain", "cifar10/wide", "cifar10/views", INCEPTION)
REAL, GENERATED = "15000-19999", "19000-19999"
# It scores fewer, and not all that is compared.
REAL_BY_INCEPTION, BY_INCEPTION = "15000-17499", ("guide, 5 steps", "guide, 1 step", "learned")


def real_rows(extractor: str) -> str:
    """Return the rows of real images that an extractor compares with."""
    return REAL_BY_INCEPTION if extractor == INCEPTION else REAL


def batches(data: Dataset, size: int = 100) -> Iterator[Samples]:
    """Yield images in order."""
    return (data.samples(slice(first, first + size)) for first in range(0, len(data), size))


def refined(refiner: Refiner, data: Dataset) -> Tensor:
    """Return refined images, uint8."""
    return torch.cat(
        [to_uint8(part.samples.images) for part in refiner(batches(data), data.labels)]
    )


def one_pass(refiner: LearnedRefiner, data: Dataset) -> Tensor:
    """Return what the learned refiner makes, without a ledger by the guide; uint8."""
    parts = (refiner.passed(refiner.start(part.images)) for part in batches(data))
    return to_uint8(torch.cat(list(parts)))


def timed(means: dict[str, Callable[[], Tensor]]) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return what functions make, and their least CPU seconds, called in turns."""
    made, best = {}, dict.fromkeys(means, float("inf"))
    for _ in range(REPEATS):
        for name, make in means.items():
            began = time.process_time()
            made[name] = make()
            best[name] = min(best[name], time.process_time() - began)
    return made, best


def features(folder: Path, what: str, name: str, images: Tensor) -> Array:
    """Return the features of images by an extractor; they are kept in a file."""
    kept = folder / f"{what}-{name}.npy".replace("/", "-").replace(" ", "-")
    if not kept.exists():
        (found,) = look(images.split(100), [load_extractor(name)]).features.values()
        np.save(kept, found)
    return np.load(kept)


def main(cifake: str, guide_path: str, refiner_path: str, out: str, results: str) -> None:
    """Refine, time and score; write the results after each extractor."""
    generated, real = (f"{cifake}/{side}-00000-of-00001.parquet" for side in ("generated", "real"))
    folder, drawn = Path(out), load_dataset(generated, GENERATED)
    folder.mkdir(parents=True, exist_ok=True)
    if guide_path == "-":
        for name in EXTRACTORS:
            features(folder, "given", name, drawn.images_uint8)
            features(folder, "real", name, load_dataset(real, real_rows(name)).images_uint8)
        return
    guide = load_guide(guide_path)
    learned = load_learned(refiner_path, guide, None, 3)
    card = load_model(Path(refiner_path))[1]
    five = learned.settings
    one = settings_for(guide, "golan24-pgd", **{**plain(five), "num_steps": 1, "step_size": None})
    climbing, single = (make_refiner(guide, each, precision=PRECISION) for each in (five, one))
    passing = LearnedRefiner(guide, learned, five, precision=PRECISION)
    images, seconds = timed({
        "guide, 5 steps": lambda: refined(climbing, drawn),
        "learned": lambda: refined(passing, drawn),
        "learned, without ledger": lambda: one_pass(passing, drawn),
        "guide, 1 step": lambda: refined(single, drawn),
        "filter alone": lambda: to_uint8(passing.start(drawn.samples().images)),
    })  # fmt: skip
    same = torch.equal(images["learned"], images.pop("learned, without ledger"))
    facts: dict[str, Any] = {
        "commands": [line.strip() for line in str(__doc__).split("\n\n")[1].splitlines()],
        "guide_sha256": path_sha256(Path(guide_path)), "refiner_sha256": learned.sha256,
        "settings": plain(five), "one_step": plain(one), "precision": PRECISION,
        "explained": card["explained"], "distilled_from": card["num_images"],
        "held_out": card["num_held_out"], "training": card["training"],
        "num_parameters": sum(each.numel() for each in learned.network.parameters()),
        "generated": f"rows {GENERATED}",
        "real": {name: f"rows {real_rows(name)}" for name in EXTRACTORS},
        "seconds": f"CPU seconds of one thread, {len(drawn)} images, least of {REPEATS} in turns",
        "seconds_per_1000": seconds, "same_without_ledger": same,
    }  # fmt: skip
    rows: dict[str, dict[str, Any]] = {name: {} for name in ("as they are", *images)}
    for name in EXTRACTORS:
        reference = load_dataset(real, real_rows(name)).images_uint8
        scorer = Scorer(features(folder, "real", name, reference))
        before = scorer(features(folder, "given", name, drawn.images_uint8))
        rows["as they are"][name] = before.values
        scored = BY_INCEPTION if name == INCEPTION else images
        scores = {what: scorer(features(folder, what, name, images[what])) for what in scored}
        for what, score in scores.items():
            rows[what][name] = score.since(before)
        # Beside the guide itself, of the same images.
        beside = scores["learned"].since(scores["guide, 5 steps"])
        changes = ("fid_change", "kid_change")
        rows["learned"][name]["from_guide"] = {key: beside[key] for key in changes}
        write_json(Path(results), {**facts, "rows": rows, **provenance()})


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
