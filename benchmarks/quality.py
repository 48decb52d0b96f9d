"""Time to equal quality: seconds that burnish and the published recipes need for the same FID.

    python benchmarks/quality.py --out results/speed-quality-fashion_mnist.json
    python benchmarks/quality.py --run runs/cifar10 --reference cifar10-test.npz \
        --out results/speed-quality-cifar10.json

One guide, the same images, three ranges of seeds, all ways in turn on each:

* burnish as it comes (preset ``joint``, what the device does fastest), also with fewer steps at
  most, so that its path is seen;
* the same in float32, and the same without continuous batching: two things that are to change
  nothing but the time;
* the recipes of Golan et al. 2024 by a plain loop in float32: 7 normalized steps, and 15
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

from burnish.ascent.balls import ball_of
from burnish.ascent.loop import Noise, Slots, ascend
from burnish.ascent.step import Objective, Step
from burnish.files import provenance, write_json
from burnish.generators.load import load_generator
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.hub import shipped
from burnish.metrics.evaluate import evaluate
from burnish.metrics.features import load_extractor
from burnish.metrics.metric import METRICS
from burnish.metrics.reference import Reference, make_reference
from burnish.refinement.presets import settings_for
from burnish.refinement.refiner import Refiner
from burnish.refinement.settings import RefineSettings
from burnish.refinement.speed import BATCH_SIZE, choose_precision
from burnish.samples import Samples
from burnish.storage.formats import open_samples

FAST, EXACT, FIXED = "burnish", "burnish, float32", "burnish, fixed batches"
PGD, SGLD = "plain loop, golan24-pgd", "plain loop, golan24-sgld"
Way = Callable[[list[Samples]], tuple[list[Tensor], float]]
"""batches -> (the refined images, NFE of the guide per image)"""


def main(
    out: Path | None = None,
    run: str = "fashion_mnist",
    reference: str = "",
    features: tuple[str, ...] = ("plain", "wide"),
    seeds: tuple[int, ...] = (10_000, 12_000, 14_000),
    num_images: int = 2_000,
) -> None:
    """Refine, time and score every way on every range.

    Args:
        out: Where the results go, as JSON.
        run: Name of shipped models, or the folder of a run of ``burnish train``.
        reference: Real images to score against; the shipped statistics if empty.
        features: Feature extractors that ship or that the run trained.
        seeds: First of each range.
        num_images: Of each range.
    """
    folder = Path(run)
    trained = folder.is_dir()
    guide = load_guide(str(folder / "joint" / "model.safetensors") if trained else run)
    generator = load_generator(str(folder / "consistency" / "pipeline") if trained else run, 1)
    scorers = {}
    for key in features:
        path = folder / f"features-{key}" / "model.safetensors"
        name = str(path) if trained else f"{run}/{key}"
        extractor = load_extractor(name)
        if reference:
            file = open_samples(Path(reference))
            real = make_reference(file, extractor, source=reference, num_images=len(file))
        else:
            real = Reference.load(shipped("reference")[name], extractor=extractor)
        scorers[key] = extractor, real
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
            images, nfe = refine(base)
            seconds = time.perf_counter() - began
            ends[way] = torch.cat(images)
            refined = [b.with_images(i) for b, i in zip(base, images, strict=True)]
            row = {"way": way, "first_seed": first, "seconds": seconds, "nfe": nfe}
            for key, (extractor, real) in scorers.items():
                if key != features[0] and "step" in way:
                    continue  # one feature extractor is enough for the path
                found = evaluate(refined, real, extractor)
                row[key] = {metric.key: found[metric.key] for metric in METRICS}
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
        "features": {key: extractor.sha256 for key, (extractor, _) in scorers.items()},
        "reference": next(iter(scorers.values()))[1].source,
        "num_images": num_images,
        "precision": choose_precision(guide, generator.image_shape, BATCH_SIZE["cpu"]),
        "threads": torch.get_num_threads(),
        "settings": dataclasses.asdict(settings_for(guide, "joint")),
        "summary": summary(rows, features[0]),
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
    precision = choose_precision(guide, image_shape, BATCH_SIZE["cpu"])

    def ours(settings: RefineSettings, precision: str = precision) -> Way:
        refiner = Refiner(guide, settings, precision=precision)

        def refine(batches: list[Samples]) -> tuple[list[Tensor], float]:
            labels = torch.cat([labels_of(batch) for batch in batches])
            done = list(refiner(batches, labels))
            nfe = sum(
                int(part.ledger.num_steps.sum()) + part.ledger.stopped.count("real enough")
                for part in done
            )
            return [part.samples.images for part in done], nfe / len(labels)

        return refine

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
        FIXED: looped(guide.frozen(precision), settings),
        PGD: looped(plain, settings_for(guide, "golan24-pgd")),
        SGLD: looped(plain, settings_for(guide, "golan24-sgld")),
        **shorter,
    }


def looped(guide: Guide, settings: RefineSettings) -> Way:
    """Refine batch by batch, each as long as its last image climbs; count the NFE."""
    ball, pgd = ball_of(settings.norm, settings.eps), settings.update == "pgd"
    clamp = pgd or settings.clamp_each
    step = Step(ball, settings.step_size or 0, pgd, settings.noise_std, clamp)
    noise: Noise | None = None if pgd else lambda ids, _, shape: torch.randn(len(ids), *shape)
    threshold = guide.realness_quantile(settings.stop_quantile)

    def run(batches: list[Samples]) -> tuple[list[Tensor], float]:
        nfe, ends, assess = 0, [], guide.objective(settings.objective)

        def counted(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal nfe
            nfe += len(images)
            return assess(images, labels)

        objective: Objective = counted
        for batch in batches:
            slots, rows = Slots(batch.images, len(batch)), range(len(batch))
            slots.enter(rows, batch.images, labels_of(batch), rows)
            for _ in ascend(
                objective, slots, step, settings.num_steps, threshold=threshold, noise=noise
            ):
                pass
            ends.append(slots.images)
        return ends, nfe / sum(map(len, batches))

    return run


def unchanged(batches: list[Samples]) -> tuple[list[Tensor], float]:
    return [batch.images for batch in batches], 0.0


def labels_of(batch: Samples) -> Tensor:
    assert batch.labels is not None
    return batch.labels


def summary(rows: list[dict[str, Any]], features: str) -> dict[str, Any]:
    """Return mean and spread of each way, and what equal quality costs each way."""
    ways = list(dict.fromkeys(row["way"] for row in rows if "seconds" in row))
    table = {}
    for way in ways:
        mine = [row for row in rows if row["way"] == way]
        table[way] = {
            "seconds": statistics.mean(row["seconds"] for row in mine),
            "nfe": statistics.mean(row["nfe"] for row in mine),
        }
        for metric in ("fid", "recall"):
            values = [row[features][metric] for row in mine]
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
        f"{way:28} {row['seconds']:7.1f} s  {row['nfe']:5.2f} nfe  "
        f"fid {row['fid']:.3f} +- {row['fid_spread']:.3f}  recall {row['recall']:.3f}"
        for way, row in table.items()
    ]
    lines += [
        f"{k}: matched by {v['by']}, {v['times_faster']:.1f}x faster" for k, v in equal.items()
    ]
    return {"features": features, "ways": table, "equal_quality": equal, "lines": lines}


if __name__ == "__main__":
    tyro.cli(main)
