"""Galleries of single images before and after: unpicked, best, worst and farthest moved.

The ledger alone decides which images are shown. Every gallery says how its images were picked.
"""

from typing import Any

import numpy as np
from torch.nn.functional import interpolate

from burnish.report.figures import amplification, difference, pairs_grid, png
from burnish.report.pairs import Pairs
from burnish.report.text import minus

NUM_TILES = 12
NUM_UNPICKED = 100
MAX_SIDE = 64
# Raw pixels in the grid of unpicked pairs, so that large images leave the page small.
GRID_BYTES = 250_000


def galleries(pair: Pairs) -> dict[str, Any]:
    """Choose images of a refinement and encode them, as the template of the page needs them."""
    channels, height, width = pair.before.image_shape
    side, shown = max(height, width), min(MAX_SIDE, max(height, width))
    grid_size = min(NUM_UNPICKED, len(pair), GRID_BYTES // (2 * channels * shown**2))
    picks = _picks(pair)
    places = sorted({*range(grid_size), *(place for _, _, picked in picks for place in picked)})
    before, after = (side.images for side in pair.read(places))
    if side > MAX_SIDE:
        before, after = (
            interpolate(x, scale_factor=shown / side, mode="bilinear", antialias=True).clamp(0, 1)
            for x in (before, after)
        )
    factor = amplification(before, after)
    sides = {"generated": before, "refined": after}
    sides[f"difference x {factor}"] = difference(before, after, factor)
    tiles: dict[int, dict[str, Any]] = {}
    for row, place in enumerate(places):
        pictures = {name: png(images[row]) for name, images in sides.items()}
        tiles[place] = {"pictures": pictures, **_about(pair, place)}
    return {
        "factor": factor,  # that differences are amplified by
        "width": side * (96 // side) if side <= 48 else 96,  # whole multiples of small images
        "shrunk": f"Shown at {shown} pixels of {side}." if side > MAX_SIDE else "",
        "grid": pairs_grid(before[:grid_size], after[:grid_size], scale=1),
        "grid_size": grid_size,
        "shelves": [
            {"title": title, "note": note, "tiles": [tiles[place] for place in picked]}
            for title, note, picked in picks
        ],
    }


def _picks(pair: Pairs) -> list[tuple[str, str, list[int]]]:
    """Return the title, the note and the rows of each gallery."""
    num = len(pair)
    first = list(range(min(NUM_TILES, num)))
    picks = [("Unpicked", f"The first {len(first)} of {num:,} images.", first)]
    if pair.ledger is None:
        return picks

    def lowest(values: np.ndarray, limit: int = NUM_TILES) -> list[int]:
        return np.argsort(values, kind="stable")[: min(NUM_TILES, limit)].tolist()

    gain = pair.ledger["realness_after"] - pair.ledger["realness_before"]
    picks.append(("Largest gains", "Images whose realness rose most.", lowest(-gain)))
    if num_worse := int((gain < 0).sum()):
        note = f"{num_worse:,} of {num:,} images lost realness; these lost most."
        picks.append(("Made worse", note, lowest(gain, num_worse)))
    else:
        note = "No image lost realness; these gained least."
        picks.append(("Smallest gains", note, lowest(gain)))
    note = "Images that refinement changed most, in L2."
    return [*picks, ("Moved farthest", note, lowest(-pair.ledger["l2_moved"]))]


def _about(pair: Pairs, place: int) -> dict[str, Any]:
    id_, notes = int(pair.ids[place]), ""
    caption = f"id {id_}"
    if pair.ledger is not None:
        row = {name: column[place] for name, column in pair.ledger.items()}
        steps = int(row["num_steps"])
        caption += f" · label {row['label']} · {steps} step{'' if steps == 1 else 's'}"
        was, now = (minus(f"{row[f'realness_{when}']:.2f}") for when in ("before", "after"))
        notes = f"realness {was} → {now} · L2 moved {row['l2_moved']:.2f}"
    elif pair.labels is not None:
        caption += f" · label {int(pair.labels[place])}"
    return {"id": id_, "caption": caption, "notes": notes}
