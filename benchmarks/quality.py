"""Time to equal quality: seconds that burnish and the published recipes need for the same FID.

    python benchmarks/quality.py --out results/speed-quality-fashion_mnist.json
    python benchmarks/quality.py --run runs/cifar10 --reference ../shared/data/cifar10/test... \
        --out results/speed-quality-cifar10.json

One guide, the same images, three ranges of seeds, all ways in turn on each:

* burnish as it comes (preset ``joint``, what the device does fastest), also with fewer steps at
  most, so that its way down is seen;
* the same in float32, and the same without continuous batching: two things that are to change
  nothing but the time;
* the recipes of Golan et al. 2024 by a plain loop in float32: 7 normalised steps, and 15
  raw-gradient steps of 0.002 with noise.

Seconds are of the ascent alone, without reading, writing and scoring.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor
from torch.nn.functional import cosine_similarity
from tqdm import tqdm

from burnish.ascent.loop import Ball, L2Ball, Objective, Unbounded, last, pgd, sgld
from burnish.files import provenance, write_json
from burnish.generators.load import load_generator
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.jobs.scoring import load_reference
from burnish.metrics import evaluate
from burnish.metrics.load import load_extractor
from burnish.refine.refiner import Refiner, RefineSettings, realness_quantile, settings_for
from burnish.refine.speed import batch_size_for, precision_for
from burnish.samples import Samples

METRICS = ("fid", "kid", "inception_score", "precision", "recall")
FAST, EXACT, FIXED = "burnish", "burnish, float32", "burnish, fixed batches"
PGD, SGLD = "plain loop, golan24-pgd", "plain loop, golan24-sgld"
Way = Callable[[list[Samples]], tuple[list[Tensor], float]]
"""batches -> (the images refined, looks at the guide per image)"""


def main(
    out: Path | None = None,
    run: str = "fashion_mnist",
    reference: str = "",
    judges: tuple[str, ...] = ("plain", "wide"),
    seeds: tuple[int, ...] = (10_000, 12_000, 14_000),
    num_images: int = 2_000,
) -> None:
    """Refine, time and score every way on every range.

    Args:
        out: Where the results go, as JSON.
        run: Name of shipped models, or the folder of a run of ``burnish train``.
        reference: Real images to score against; the shipped statistics if empty.
        judges: Of the shipped models or of the run.
        seeds: First of each range.
        num_images: Of each range.
    """
    folder = Path(run)
    trained = folder.is_dir()
    guide = load_guide(str(folder / "joint" / "model.safetensors") if trained else run)
    generator = load_generator(str(folder / "consistency" / "pipeline") if trained else run, 1)
    scorers = {}
    for judge in judges:
        name = (
            str(folder / f"judge-{judge}" / "model.safetensors") if trained else f"{run}/{judge}"
        )
        extractor = load_extractor(name)
        scorers[judge] = extractor, load_reference(reference or name, extractor)
    ways = ways_of(guide, generator.image_shape)
    rows = []
    for first in seeds:
        base = list(generator.batches(range(first, first + num_images), None, 64))
        ends: dict[str, Tensor] = {}
        for way, refine in tqdm(
            {"no refinement": unchanged, **ways}.items(), f"from seed {first}"
        ):
            refine(base[:1])  # kernels are chosen and memory is taken on the first call
            began = time.perf_counter()
            images, looks = refine(base)
            seconds = time.perf_counter() - began
            ends[way] = torch.cat(images)
            refined = [b.with_images(i) for b, i in zip(base, images, strict=True)]
            row = {"way": way, "first_seed": first, "seconds": seconds, "looks_per_image": looks}
            for judge, (extractor, real) in scorers.items():
                if judge != judges[0] and "step" in way:
                    continue  # of the way down, one judge's view will do
                found = evaluate(refined, extractor, real)
                row[judge] = {metric: found[metric] for metric in METRICS}
            rows.append(row)
        start = torch.cat([part.images for part in base])
        for way in (EXACT, FIXED):
            moved, others = ((ends[name] - start).flatten(1) for name in (FAST, way))
            both = (moved.norm(dim=1) > 0) & (others.norm(dim=1) > 0)
            cosine = cosine_similarity(moved[both], others[both])
            name = f"cosine_to {way}"
            rows.append({"way": name, "first_seed": first, "cosine": cosine.mean().item()})
            print(f"{name}: {cosine.mean():.4f}")
    results = {
        "run": run,
        "guide": guide.card["name"],
        "guide_sha256": guide.card["sha256"],
        "judges": {judge: extractor.sha256 for judge, (extractor, _) in scorers.items()},
        "reference": next(iter(scorers.values()))[1].source,
        "num_images": num_images,
        "precision": precision_for(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "settings": dataclasses.asdict(settings_for(guide, "joint")),
        "summary": summary(rows, judges[0]),
        "rows": rows,
        **provenance(),
    }
    if out:
        write_json(out, results)
    for line in results["summary"]["lines"]:
        print(line)


def ways_of(guide: Guide, image_shape: tuple[int, int, int]) -> dict[str, Way]:
    """Return every way of refining with a guide."""
    settings = settings_for(guide, "joint")
    frozen = guide.frozen(precision_for(torch.device("cpu")))
    size = batch_size_for(frozen.network, image_shape)
    threshold = realness_quantile(guide, settings.stop_quantile)
    ball = L2Ball(settings.eps or 0)

    def ours(settings: RefineSettings, precision: str = "auto") -> Way:
        refiner = Refiner(guide, settings, precision, size, compile="never")

        def refine(batches: list[Samples]) -> tuple[list[Tensor], float]:
            labels = torch.cat([labels_of(batch) for batch in batches])
            done = list(refiner(batches, labels))
            looks = sum(
                int(part.ledger.num_steps.sum()) + part.ledger.stopped.count("real enough")
                for part in done
            )
            return [part.samples.images for part in done], looks / len(labels)

        return refine

    def fixed(objective: Objective, images: Tensor) -> Tensor:
        stop = None if threshold is None else lambda values: values >= threshold
        size, steps = settings.step_size or 0, settings.num_steps
        return last(pgd(objective, images, ball, size, steps, stop=stop), images)

    def published_pgd(objective: Objective, images: Tensor) -> Tensor:
        recipe = settings_for(guide, "golan24-pgd")
        ball: Ball = L2Ball(recipe.eps or 0)
        steps = pgd(objective, images, ball, recipe.step_size or 0, recipe.num_steps)
        return last(steps, images)

    def published_sgld(objective: Objective, images: Tensor) -> Tensor:
        recipe = settings_for(guide, "golan24-sgld")
        steps = sgld(
            objective, images, Unbounded(), recipe.step_size or 0, recipe.num_steps,
            noise_std=recipe.noise_std, noise=lambda: torch.randn(images.shape),
            clamp_each=recipe.clamp_each,
        )  # fmt: skip
        return last(steps, images)

    shorter = {
        f"{FAST}, {steps} step{'s' * (steps > 1)}": ours(
            dataclasses.replace(settings, num_steps=steps)
        )
        for steps in (1, 2, 3, 4, 5, 7)
        if steps < settings.num_steps
    }
    plain = guide.eval().requires_grad_(False)
    return {
        FAST: ours(settings),
        EXACT: ours(settings, "float32"),
        FIXED: looped(frozen, fixed),
        PGD: looped(plain, published_pgd),
        SGLD: looped(plain, published_sgld),
        **shorter,
    }


def looped(guide: Guide, refine: Callable[[Objective, Tensor], Tensor]) -> Way:
    """Refine batch by batch, counting how many images the guide looks at."""

    def run(batches: list[Samples]) -> tuple[list[Tensor], float]:
        looks, ends, assess = 0, [], guide.objective("logit")
        for batch in batches:
            labels = labels_of(batch)

            def objective(images: Tensor, labels: Tensor = labels) -> Tensor:
                nonlocal looks
                looks += len(images)
                return assess(images, labels)[0]

            ends.append(refine(objective, batch.images))
        return ends, looks / sum(map(len, batches))

    return run


def unchanged(batches: list[Samples]) -> tuple[list[Tensor], float]:
    return [batch.images for batch in batches], 0.0


def labels_of(batch: Samples) -> Tensor:
    assert batch.labels is not None
    return batch.labels


def summary(rows: list[dict[str, Any]], judge: str) -> dict[str, Any]:
    """Return mean and spread of each way, and what equal quality costs each way."""
    ways = list(dict.fromkeys(row["way"] for row in rows if "seconds" in row))
    table = {}
    for way in ways:
        mine = [row for row in rows if row["way"] == way]
        table[way] = {
            "seconds": statistics.mean(row["seconds"] for row in mine),
            "looks_per_image": statistics.mean(row["looks_per_image"] for row in mine),
        }
        for metric in ("fid", "recall"):
            values = [row[judge][metric] for row in mine]
            table[way][metric] = statistics.mean(values)
            table[way][f"{metric}_spread"] = statistics.stdev(values) if len(values) > 1 else 0.0
    equal = {}
    for recipe in (PGD, SGLD):
        reached = [w for w in ways if w.startswith(FAST) and w not in (EXACT, FIXED)]
        reached = [w for w in reached if table[w]["fid"] <= table[recipe]["fid"]]
        if reached:
            way = min(reached, key=lambda w: table[w]["seconds"])
            times = table[recipe]["seconds"] / table[way]["seconds"]
            equal[recipe] = {"by": way, "times_faster": times}
    lines = [
        f"{way:28} {row['seconds']:7.1f} s  {row['looks_per_image']:5.2f} looks  "
        f"fid {row['fid']:.3f} +- {row['fid_spread']:.3f}  recall {row['recall']:.3f}"
        for way, row in table.items()
    ]
    lines += [
        f"{k}: matched by {v['by']}, {v['times_faster']:.1f}x faster" for k, v in equal.items()
    ]
    return {"judge": judge, "ways": table, "equal_quality": equal, "lines": lines}


if __name__ == "__main__":
    tyro.cli(main)
