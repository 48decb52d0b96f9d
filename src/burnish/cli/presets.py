"""``burnish presets``."""

import json
from typing import Any

import click

# What the presets without a generator in their name say of themselves; None where a guide decides.
OF_GUIDES: dict[str, tuple[str, str, str]] = {
    "joint": ("steps as golan24-pgd, each image stops at the realness of real ones", "", ""),
    "bigroc": ("arXiv 2108.03702, algorithm 1", "see bigroc/...", ""),
    "golan24-pgd": ("arXiv 2405.16260, the ball is ours", "", ""),
    "golan24-sgld": (
        "arXiv 2405.16260, released script",
        "FID 13.00 -> 9.60 (consistency training), 6.20 -> 4.95 (distillation), as the paper says "
        "of one step; which settings and network gave each number was not found",
        "ImageNet 64x64",
    ),
}


@click.command(short_help="List the presets of refinement and what they reached.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def presets(as_json: bool) -> None:
    """List what --preset names: radius, steps, labels, source, and what was reached with it.

    Radii are in [0, 1] pixel units. What was reached is as published, base -> refined; nothing of
    it is measured here, and FIDs of two protocols do not compare.

    Example: burnish presets
    """
    rows = _rows()
    if as_json:
        return print(json.dumps(rows, indent=2))
    heads = {"preset": "preset", "eps": "eps", "num_steps": "steps", "step_size": "step size",
             "labels": "labels", "image_size": "pixels", "source": "source"}  # fmt: skip
    cells = [heads, *({name: _cell(row[name]) for name in heads} for row in rows)]
    widths = {name: max(len(row[name]) for row in cells) for name in heads}
    for head, row in zip(cells, [None, *rows], strict=True):
        print("  ".join(head[name].ljust(widths[name]) for name in heads).rstrip())
        if row and row["reached"]:
            print(f"    {'; '.join(filter(None, [row['reached'], row['protocol']]))}")


def _rows() -> list[dict[str, Any]]:
    from burnish.refinement.presets import PRESETS
    from burnish.refinement.published import PUBLISHED

    rows = []
    for name, settings in PRESETS.items():
        known = PUBLISHED.get(name)
        source, reached, protocol = OF_GUIDES.get(name, ("", "", ""))
        rows.append({
            "preset": name, "generator": known and known.generator,
            "eps": settings.eps, "num_steps": settings.num_steps,
            "step_size": settings.step_size, "labels": known and known.labels,
            "image_size": known and known.image_size,
            "source": known.source if known else source,
            "reached": known.reached if known else reached,
            "protocol": known.protocol if known else protocol,
        })  # fmt: skip
    return rows


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
