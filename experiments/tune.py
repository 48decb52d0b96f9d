"""Choose the settings of refinement for a trained guide, on seeds and a judge kept for that alone.

    python experiments/tune.py --run runs/fashion_mnist --data DATA --out results/TUNING.json

The images come from seeds 500000 on; the reference is the experiment's validation rows; the judge
is the one named "tuner". None of the three is ever reported on. The setting with the lowest FID
whose recall is at most 0.02 below the base's wins.
"""

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import tyro

from burnish.files import provenance, write_json
from burnish.generators.load import load_generator
from burnish.guide.load import load_guide
from burnish.metrics import evaluate, make_reference
from burnish.metrics.load import load_extractor
from burnish.refine.refiner import Refiner, settings_for
from burnish.samples import Samples
from burnish.training.experiment import load_experiment
from burnish.training.recipes import load_real

FIRST_SEED = 500_000


def ground(
    run: Path, data: str, judge: str, num_images: int, generator: str = ""
) -> tuple[list[Samples], Callable[[Iterable[Samples]], dict[str, Any]], str]:
    """Return what settings are chosen on: images, their metrics as a function, and the seeds."""
    experiment = load_experiment(Path(__file__).parent / f"{run.name}.yaml")
    _, validation = load_real(experiment, data)
    extractor = load_extractor(str(run / f"judge-{judge}" / "model.safetensors"))
    reference = make_reference(
        [validation.samples()], extractor, source=validation.source, num_images=len(validation)
    )
    makes = load_generator(generator or str(run / "consistency" / "pipeline"))
    base = list(makes.batches(range(FIRST_SEED, FIRST_SEED + num_images)))
    seeds = f"{FIRST_SEED}-{FIRST_SEED + num_images - 1}"
    return base, lambda samples: evaluate(samples, extractor, reference), seeds


def main(
    run: Path,
    out: Path,
    data: str = "",
    num_images: int = 2000,
    eps: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 3.0),
    num_steps: tuple[int, ...] = (15,),
    stop_quantile: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0),
    objective: tuple[str, ...] = ("logit",),
    judge: str = "tuner",
    generator: str = "",
    guide: str = "",
) -> None:
    """Sweep eps, steps, stopping and objective; a stop_quantile of 1 is as good as none.

    The run's consistency model and joint guide are taken where no others are given.
    """
    base, score, seeds = ground(run, data, judge, num_images, generator)
    labels = torch.cat([part.labels for part in base if part.labels is not None])
    climbed = load_guide(guide or str(run / "joint" / "model.safetensors"))
    rows = [{"refine": None, **score(base)}]
    floor = rows[0]["recall"] - 0.02
    for radius, steps, quantile, name in itertools.product(
        eps, num_steps, stop_quantile, objective
    ):
        settings = settings_for(
            climbed, "golan24-pgd", eps=radius, num_steps=steps, stop_quantile=quantile,
            objective=name,
        )  # fmt: skip
        refined = [done.samples for done in Refiner(climbed, settings)(base, labels)]
        row = score(refined)
        chosen = {"eps": radius, "num_steps": steps, "stop_quantile": quantile, "objective": name}
        rows.append({"refine": chosen, **row})
        print(chosen, {k: round(row[k], 4) for k in ("fid", "kid", "precision", "recall")})
    allowed = [row for row in rows if row["recall"] >= floor]
    best = min(allowed, key=lambda row: row["fid"])
    print("base", {k: round(rows[0][k], 4) for k in ("fid", "kid", "precision", "recall")})
    print("best", best["refine"], round(best["fid"], 4))
    write_json(
        out,
        {"seeds": seeds, "chosen": best["refine"], "rows": rows, **provenance()},
    )


if __name__ == "__main__":
    tyro.cli(main)
