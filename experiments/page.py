"""Make a Markdown page, and figures of sweeps, of all tables in results/.

python experiments/page.py
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from burnish.files import write_aside
from burnish.report.charts import LIGHT
from burnish.report.rounding import minus

METRICS = {
    "fid": ".3f",
    "kid": ".5f",
    "inception_score": ".2f",
    "precision": ".3f",
    "recall": ".3f",
}
TITLES = {"fid": "FID", "kid": "KID", "inception_score": "Inception Score"}
Sweeps = dict[tuple[str, str], list[tuple[float, str]]]


def main(results: Path = Path("results"), docs: Path = Path("docs")) -> None:
    """Read the tables among the results, and write results.md and images/*.png."""
    tables = []
    for path in sorted(results.glob("*.json")):
        content = json.loads(path.read_text())
        if "rank_correlation" in content:
            tables.append((content["data"], content["place"], path.name, content))
    if not tables:
        raise SystemExit(f"page: there are no tables in {results}")
    lines = [
        "# Results",
        "",
        "Rendered from the tables in `results/` by `experiments/page.py`. Mean ± standard "
        "deviation over ranges of seeds; within a range, the rows of a generator begin from the "
        "same images. *Change* is of the FID, against these images as they are, range by range. "
        "*Steps* are the guide's, per image. FIDs compare within one judge only.",
    ]
    for _, _, name, table in sorted(tables, key=lambda found: found[:3]):
        lines += ["", *section(table, name, docs)]
    with write_aside(docs / "results.md") as aside:
        aside.write_text("\n".join(lines) + "\n")


def section(table: Mapping[str, Any], name: str, docs: Path) -> list[str]:
    """Return the lines of one table; draw its sweeps."""
    first, summary = table["results"][0], table["summary"]
    spans = dict.fromkeys(result["seeds"] for result in table["results"])
    lines = [f"## {table['data']}: {table['title']}", ""]
    lines += [table["note"], ""] if table["note"] else []
    lines += [
        f"Seeds {', '.join(spans)}; {first['num_images']:,} images each, "
        f"{first['num_neighbors']} neighbours; reference: {first['reference']}, "
        f"{first['num_reference_images']:,} images. [{name}](../results/{name}), commit "
        f"{str(table['commit'])[:12]}: `{table['command']}`",
        "",
    ]
    published = any(row["published"] for row in table["rows"].values())
    counted = any("guide_steps" in result for result in table["results"])
    head = [column for judge in summary for column in (f"FID, {judge}", "change")]
    head += ["steps"] * counted + ["published"] * published
    lines += ["| | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    for label, row in table["rows"].items():
        cells = []
        for judge in summary:
            found = summary[judge][label]
            is_base = not (row["guide"] or row["control"])
            cells += [text(found, "fid"), "" if is_base else text(found, "fid_change")]
        steps = f"{found['guide_steps']['mean']:.1f}" if counted and row["settings"] else ""
        cells += [steps] * counted
        cells += [row["published"]] * published
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    lines += ["", *agreement(table["rank_correlation"])]
    if found := sweeps(table):
        path = docs / "images" / f"{table['data']}-{table['table']}.png"
        draw(table, found, path)
        lines += [f"![FID and recall over {', '.join(k for _, k in found)}](images/{path.name})"]
        lines.append("")
    lines += ["<details><summary>All metrics, judge by judge</summary>", ""]
    for judge, rows in summary.items():
        one = next(result for result in table["results"] if result["judge"] == judge)
        lines += [f"{one['feature_extractor']} `{one['feature_extractor_sha256']}`", ""]
        lines.append("| | " + " | ".join(TITLES.get(m, m) for m in METRICS) + " |")
        lines.append("|---" * (len(METRICS) + 1) + "|")
        for label, values in rows.items():
            cells = " | ".join(text(values, metric) for metric in METRICS)
            lines.append(f"| {label} | {cells} |")
        lines.append("")
    return [*lines, "</details>"]


def text(values: Mapping[str, Any], metric: str) -> str:
    """Return mean ± standard deviation."""
    if metric not in values:
        return ""
    mean, std = values[metric]["mean"], values[metric]["std"]
    if metric == "fid_change":
        return minus(f"{100 * mean:+.1f}") + f" ± {100 * std:.1f} %"
    return f"{mean:{METRICS[metric]}} ± {std:{METRICS[metric]}}"


def agreement(pairs: Mapping[str, Any]) -> list[str]:
    """Return the line about the order in which judges put the rows."""
    if not pairs:
        return []
    parts = [
        f"{pair}: " + ", ".join(f"{TITLES.get(m, m)} {v['mean']:.2f}" for m, v in found.items())
        for pair, found in pairs.items()
    ]
    return [minus(f"Spearman's rho of the rows, between judges. {'; '.join(parts)}."), ""]


def sweeps(table: Mapping[str, Any]) -> Sweeps:
    """Return ``(name, setting) -> [(value, row)]`` of the rows in which one number is swept."""
    found: Sweeps = {}
    for label, row in table["rows"].items():
        for key, (value,) in row["sweep"].items():
            if len(row["sweep"]) == 1 and isinstance(value, int | float):
                name = label.removesuffix(f", {key} {value}")
                found.setdefault((name, key), []).append((value, label))
    return {key: sorted(points) for key, points in found.items() if len(points) > 3}


def draw(table: Mapping[str, Any], found: Sweeps, path: Path) -> None:
    """Draw FID, as a share of the base's, and recall over each swept setting."""
    figure = Figure(figsize=(3.6 * len(found), 4.6), dpi=150, layout="constrained")
    grid = figure.subplots(2, len(found), squeeze=False, sharex="col")
    for (above, below), ((name, key), points) in zip(grid.T, found.items(), strict=True):
        places = [value for value, _ in points]
        for (judge, rows), hue in zip(table["summary"].items(), LIGHT.hues, strict=False):
            for axes, metric, shift in ((above, "fid_change", 1), (below, "recall", 0)):
                values = [rows[label][metric] for _, label in points]
                means = [value["mean"] + shift for value in values]
                stds = [value["std"] for value in values]
                axes.errorbar(places, means, stds, color=hue, marker="o", ms=3, label=judge)
        above.axhline(1, color=LIGHT.grey, linewidth=0.8, linestyle=(0, (4, 3)))
        above.set_title(name, fontsize=9)
        above.set(ylabel="FID / FID of the base", xscale="log")
        below.set(xlabel=key, ylabel="recall")
        below.set_xticks(places, [f"{place:g}" for place in places])
        below.minorticks_off()
        for axes in (above, below):
            axes.spines[["top", "right"]].set_visible(False)
    grid[0, 0].legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_aside(path) as aside, aside.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})


if __name__ == "__main__":
    tyro.cli(main)
