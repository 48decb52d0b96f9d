"""The results of ``refine.py`` as a Markdown page."""

from typing import Any

OWN = "burnish, as it chooses"


def headline(result: dict[str, Any]) -> str:
    times = result["times_fastest_peer"][OWN]["median"]
    share = result["share_of_floor"]["median"]
    return f"{result['network']}: {times:.2f}x fastest peer, {share:.0%} of floor".replace(
        "%", " %"
    )


def page_of(results: dict[str, Any]) -> str:
    """Return the Markdown page of results."""
    work, peak = results["work"], results["peak_flops_per_s"]
    apart = max(max(result["max_difference_smooth"].values()) for result in results["networks"])
    lines = [
        "# Speed",
        "",
        "Rendered by `benchmarks/refine.py`. Targeted L2 PGD on the cross-entropy, "
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
        "is between the movements of images here and in the plain loop; in float32 too it is "
        "below 1, for rounding sends a few ReLUs to the other side of 0. With these smoothed, "
        f"float32 contenders end within {apart:.0e} of one another.",
    ]
    for result in results["networks"]:
        lines += ["", f"## {result['network']}", "", *section(result)]
    return "\n".join(lines) + "\n"


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
