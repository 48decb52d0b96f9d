"""Measure shipped models on seeds that nothing was chosen on; mean and spread over seed ranges.

    python experiments/measure.py --out results/fashion_mnist.json --table docs/results.md

Rows: the one-step consistency model as it is, the same with a second network call (the control at
little extra cost), and its one-step images refined by each preset. For each seed range, all rows
begin from the same images. Judges and reference images are the shipped ones.
"""

import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tyro

from burnish.engines.local import refine_file, sample_file
from burnish.engines.scoring import evaluate_file
from burnish.generators import load_generator
from burnish.guide.load import load_guide
from burnish.provenance import provenance, write_json
from burnish.refine.refiner import settings_for
from burnish.seeds import parse_seeds

METRICS = {
    "fid": ".3f",
    "kid": ".5f",
    "inception_score": ".2f",
    "precision": ".3f",
    "recall": ".3f",
}
ROWS: dict[str, dict[str, Any] | None] = {
    "one step, as it is": None,
    "two steps, as it is": None,
    "refined: joint": {"preset": "joint"},
    "refined: golan24-pgd": {"preset": "golan24-pgd"},
    "refined: golan24-sgld": {"preset": "golan24-sgld"},
    "refined: bigroc": {"preset": "bigroc"},
}


def main(
    out: Path,
    table: Path,
    data: str = "fashion_mnist",
    seeds: tuple[str, ...] = ("10000-11999", "12000-13999", "14000-15999"),
    judges: tuple[str, ...] = ("plain", "wide"),
) -> None:
    """Sample, refine and score every row for every range of seeds."""
    guide = load_guide(data)
    results: list[dict[str, Any]] = []
    for span in seeds:
        with TemporaryDirectory() as folder:
            paths = {row: Path(folder) / f"{index}.npz" for index, row in enumerate(ROWS)}
            facts: dict[str, Any] = {}
            for (row, options), path in zip(ROWS.items(), paths.values(), strict=True):
                if options is None:
                    steps = 2 if row.startswith("two") else 1
                    facts[row] = sample_file(load_generator(data, steps), parse_seeds(span), path)
                else:
                    settings = settings_for(guide, **options)
                    base = paths["one step, as it is"]
                    facts[row] = refine_file(base, guide, settings, path, precision="float32")
                for judge in judges:
                    score = evaluate_file(path, f"{data}/{judge}")
                    fact = {key: facts[row].get(key) for key in ("settings", "seconds")}
                    results.append({"row": row, "seeds": span, "judge": judge, **fact, **score})
    write_json(out, {"results": results, **provenance()})
    table.write_text(render(results, out))


def render(results: list[dict[str, Any]], source: Path) -> str:
    """Return the Markdown page of a table of results."""
    first = results[0]
    spans = list(dict.fromkeys(result["seeds"] for result in results))
    lines = [
        "# Results",
        "",
        f"Rendered from `{source.name}` by `experiments/measure.py`. Mean ± standard deviation "
        f"over the seed ranges {', '.join(spans)}; {first['num_images']:,} images each, "
        f"{first['num_neighbors']} neighbours; reference: {first['reference']}, "
        f"{first['num_reference_images']:,} images.",
    ]
    for judge in dict.fromkeys(result["judge"] for result in results):
        chosen = [result for result in results if result["judge"] == judge]
        lines += ["", f"## {chosen[0]['feature_extractor']}", ""]
        lines += [f"`{chosen[0]['feature_extractor_sha256']}`", ""]
        lines += ["| | " + " | ".join(METRICS) + " |", "|---" * (len(METRICS) + 1) + "|"]
        for row in ROWS:
            cells = []
            for metric, form in METRICS.items():
                values = [r[metric] for r in chosen if r["row"] == row]
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                cells.append(f"{statistics.mean(values):{form}} ± {spread:{form}}")
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    tyro.cli(main)
