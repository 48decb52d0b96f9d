"""Make a Markdown page of what the benchmarks measured.

python benchmarks/page.py --out docs/speed.md
"""

import json
import statistics
from pathlib import Path
from typing import Any

import tyro

OWN = "burnish, as it chooses"


def headline(result: dict[str, Any]) -> str:
    times = result["times_fastest_peer"][OWN]["median"]
    share = result["share_of_floor"]["median"]
    return f"{result['network']}: {times:.2f}x fastest peer, {share:.0%} of floor".replace(
        "%", " %"
    )


def peers_section(results: dict[str, Any]) -> list[str]:
    """Return the lines about burnish and its peers at the same work."""
    work, peak = results["work"], results["peak_flops_per_s"]
    apart = max(max(result["max_difference_smooth"].values()) for result in results["networks"])
    lines = [
        f"## The same work, side by side: {', '.join(r['network'] for r in results['networks'])}",
        "",
        "`benchmarks/refine.py`. Targeted L2 PGD on the cross-entropy, "
        f"{work['num_steps']} steps, networks with random weights; {results['device']}, "
        f"{results['threads']} threads, torch {results['torch']}; medians of {results['rounds']} "
        "rounds in which all contenders take turns. Ratios are taken round by round; in brackets "
        "the least and the greatest. The fastest peer is the fastest float32 one as it comes. The "
        f"floor is {work['num_steps']} forward passes and input gradients of burnish's network "
        "and nothing else, compiled or not, whichever is faster. A large convolution reaches "
        f"{peak['float32'] / 1e9:,.0f} GFLOP/s in float32 and {peak['bfloat16'] / 1e9:,.0f} in "
        "bfloat16.",
        "",
        "Passes are per image. Memory is the peak of a process that does nothing else. The cosine "
        "is between the movements of images here and in the plain loop. In float32 too it is "
        "below 1, because rounding changes the sign of some inputs of ReLUs. With SiLU in place "
        f"of ReLU, the results in float32 differ by {apart:.0e} at most.",
    ]
    for result in results["networks"]:
        lines += ["", f"### {result['network']}", "", *section(result)]
    return lines


def section(result: dict[str, Any]) -> list[str]:
    contenders, floor = result["contenders"], result["floors"][result["floor"]]
    own, peak = contenders[OWN], result["share_of_peak"]
    text = (
        f"{result['batch_size']} images at a time, {result['flops_forward'] / 1e9:.2f} GFLOP per "
        f"image and forward pass. `{OWN}` ({own['precision']}, "
        f"{'compiled' if own['compiled'] else 'not compiled'}) is "
        f"{ranged(result['times_fastest_peer'][OWN])} times as fast as the fastest peer, "
        f"{result['fastest_peer']}"
    )
    if "times_autocast" in result:
        text += (
            f", and {ranged(result['times_autocast'])} times as fast as the loop under autocast"
        )
    text += (
        f". It runs at {ranged(result['share_of_floor'])} of the floor, "
        f"{floor['images_per_s']:.1f} images/s, and at {peak['burnish']:.0%} of a large "
        f"convolution's rate; the floor itself is at {peak['floor']:.0%}."
    )
    head = ("", "images/s", "times fastest peer", "forward", "backward", "memory, MiB", "cosine")
    lines = [text, "", "| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for name, row in contenders.items():
        memory = row.get("peak_memory_mib")
        cells = [
            f"{row['images_per_s']:.1f}",
            ranged(result["times_fastest_peer"][name]),
            f"{row['forward_passes']:.1f}",
            f"{row['backward_passes']:.1f}",
            "" if memory is None else f"{memory:,.0f}",
            f"{row['mean_cosine']:.4f}",
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name, row in result["floors"].items():
        times = ranged(result["times_fastest_peer"][name])
        lines.append(f"| {name} | {row['images_per_s']:.1f} | {times} | | | | |")
    return lines


def ranged(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})"


def quality_section(results: dict[str, Any]) -> list[str]:
    """Return the lines about the time to equal quality."""
    found = results["summary"]
    spans = sorted({row["first_seed"] for row in results["rows"]})
    reference = Path(results["reference"]).name
    firsts = ", ".join(f"{first:,}" for first in spans)
    lines = [
        f"### {Path(results['run']).name}",
        "",
        f"{results['num_images']:,} images from each of the seeds {firsts} on; guide "
        f"`{results['guide']}`; features `{found['features']}` against {reference}; "
        f"burnish in {results['precision']}, {results['threads']} threads. NFE are passes "
        "through the guide per image.",
        "",
        "| | seconds | NFE | FID | recall |",
        "|---|---:|---:|---:|---:|",
    ]
    for way, row in found["ways"].items():
        lines.append(
            f"| {way} | {row['seconds']:.1f} | {row['nfe']:.2f} | "
            f"{row['fid']:.3f} ± {row['fid_spread']:.3f} | "
            f"{row['recall']:.3f} ± {row['recall_spread']:.3f} |"
        )
    lines.append("")
    for recipe, match in found["equal_quality"].items():
        lines.append(
            f"- The FID of *{recipe}* is matched by *{match['by']}* in "
            f"1/{match['times_faster']:.1f} of the time."
        )
    cosines: dict[str, list[float]] = {}
    for row in results["rows"]:
        if "cosine" in row:
            cosines.setdefault(row["way"].removeprefix("cosine_to "), []).append(row["cosine"])
    for way, values in cosines.items():
        lines.append(
            f"- Movements of *burnish* and *{way}*: cosine at least {min(values):.4f}, mean over "
            "the images that moved."
        )
    return lines


def training_section(results: dict[str, Any]) -> list[str]:
    """Return the lines about training steps."""
    lines = [
        "## Training the joint model",
        "",
        f"`benchmarks/training.py`: batches of {results['batch_size']} real and as many generated "
        f"images, 2 and {results['generated_steps']} steps of attack; medians of "
        f"{results['rounds']} rounds, {results['threads']} threads.",
        "",
        "| network | | images/s | time, of the frozen copy's |",
        "|---|---|---:|---:|",
    ]
    for row in results["results"]:
        low, high = row["times_slower_range"]
        lines.append(
            f"| {row['network']} | {row['contender']} | {row['images_per_second']:.0f} | "
            f"{row['times_slower']:.2f} ({low:.2f}-{high:.2f}) |"
        )
    return lines


def growth_section(results: dict[str, Any]) -> list[str]:
    """Return the lines about long jobs."""
    rows = results["rows"]
    ratio = rows[-1]["peak_bytes"] / rows[0]["peak_bytes"]
    lines = [
        "## Long jobs",
        "",
        "`benchmarks/growth.py`: `burnish refine` of an `.npz` of 32x32 RGB, a small guide, two "
        f"steps at most, {results['threads']} threads. The longest job's peak memory is "
        f"{ratio:.2f} times the shortest one's.",
        "",
        "![Peak memory and time over the number of images](images/growth.png)",
        "",
        "| images | seconds | images/s | peak memory, MiB |",
        "|---:|---:|---:|---:|",
    ]
    for row in rows:
        rate = row["num_images"] / row["seconds"]
        memory = row["peak_bytes"] / 2**20
        lines.append(
            f"| {row['num_images']:,} | {row['seconds']:.1f} | {rate:,.0f} | {memory:,.0f} |"
        )
    return lines


def evaluate_section(every: list[dict[str, Any]]) -> list[str]:
    """Return the lines about evaluation: what the network takes, and what follows from features.

    Args:
        every: Results of ``benchmarks/evaluate.py``, the first with the metrics, too.
    """
    lines = [
        "## Evaluating",
        "",
        "`benchmarks/evaluate.py`. Inception's features of PNG images of CIFAR-10, each tool by "
        "its own code with the same network, one thread each; seconds of CPU, since other "
        "processes ran beside them. `clean` is the resizing of clean-fid. A tool marked by > was "
        "stopped before its end.",
        "",
        "| images | tool | CPU s | images per CPU s | times burnish | peak memory, MiB |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for result in every:
        count = result["num_images"]
        turns: dict[str, list[dict[str, Any]]] = {}
        for row in result["features"]:
            turns.setdefault(row["tool"], []).append(row)
        for tool, rows in turns.items():
            seconds = statistics.median(row["cpu_seconds"] for row in rows)
            own = "burnish:clean" if tool == "clean-fid" else "burnish"
            ratio = seconds / statistics.median(row["cpu_seconds"] for row in turns[own])
            memory = max(row.get("peak_bytes", 0) for row in rows) / 2**20
            more = "> " if any(row.get("stopped") for row in rows) else ""
            less = "< " if more else ""
            lines.append(
                f"| {count:,} | {tool} | {more}{seconds:,.0f} | {less}{count / seconds:.1f} | "
                + (f"{more}{ratio:.1f}" if not tool.startswith("burnish") else "")
                + f" | {f'{memory:,.0f}' if memory else ''} |"
            )
    lines += [
        "",
        "Metrics of features of 2,048 numbers against 10,000 others, as far as a tool has them; "
        "memory is beside the features. `burnish:intervals` gives standard errors, too.",
        "",
        "| images | metrics | tool | CPU s | memory, MiB |",
        "|---:|---|---|---:|---:|",
    ]
    for row in every[0]["metrics"]:
        lines.append(
            f"| {row['num_images']:,} | {row['what']} | {row['tool']} | "
            f"{row['cpu_seconds']:.1f} | {row['extra_bytes'] / 2**20:,.0f} |"
        )
    return lines


def main(results: Path = Path("results"), out: Path = Path("docs/speed.md")) -> None:
    """Read ``speed-*.json`` and write the page."""
    lines = [
        "# Speed",
        "",
        "Rendered from `results/speed-*.json` by `benchmarks/page.py`. The runs of refinement and "
        "training are of 2026-11-22. Since then a batch on a CPU has 32 images instead of up to "
        "64, every batch is full, and `--precision auto` measures which precision is faster.",
        "",
    ]
    for path in sorted(results.glob("speed-peers-*.json")):
        lines += [*peers_section(read(path)), ""]
    lines += ["## Time to equal quality", "", "`benchmarks/quality.py`.", ""]
    for path in sorted(results.glob("speed-quality-*.json")):
        lines += [*quality_section(read(path)), ""]
    lines += [*training_section(read(results / "speed-training.json")), ""]
    lines += [*growth_section(read(results / "speed-growth.json")), ""]
    every = [read(path) for path in results.glob("speed-evaluate*.json")]
    lines += evaluate_section(sorted(every, key=lambda result: result["num_images"]))
    out.write_text("\n".join(lines) + "\n")


def read(path: Path) -> Any:
    return json.loads(path.read_text())


if __name__ == "__main__":
    tyro.cli(main)
