"""Galleries of single images before and after: unpicked, best, worst and farthest moved.

The ledger alone decides which images are shown. Every gallery says how its images were picked.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from burnish.report.figures import amplification, difference, jpeg, pairs_grid, png
from burnish.report.pairs import Pairs
from burnish.report.text import minus

NUM_TILES = 12
NUM_UNPICKED = 100
# Images are shown whole up to this size, and reduced to it above.
MAX_SIDE = 512
# Up to this size pictures are exact (PNG); larger ones are JPEG, and half as many.
MAX_EXACT = 128
# The grid of unpicked pairs: thumbnails of that size, and so many raw pixels at most.
GRID_SIDE = 64
GRID_BYTES = 250_000
# Values of images that are held at once, in float32.
MAX_VALUES = 2**24


def galleries(pair: Pairs) -> dict[str, Any]:
    """Choose images of a refinement and encode them, as the template of the page needs them."""
    channels, height, width = pair.before.image_shape
    side, grid_side = max(height, width), min(GRID_SIDE, max(height, width))
    grid_size = min(NUM_UNPICKED, len(pair), GRID_BYTES // (2 * channels * grid_side**2))
    num_tiles = NUM_TILES if side <= MAX_EXACT else NUM_TILES // 2
    picks = _picks(pair, num_tiles)
    places = sorted({place for _, _, picked in picks for place in picked})
    held = max(1, MAX_VALUES // (channels * height * width))
    factor = amplification(*_read(pair, places[:held], MAX_SIDE))
    grid = [_read(pair, [place], GRID_SIDE) for place in range(grid_size)]
    return {
        "factor": factor,  # that differences are amplified by
        # Whole multiples of small images.
        "width": side * (96 // side) if side <= 48 else max(96, min(side, 380)),
        "smooth": side > 96,
        "encoding": _encoding(side),
        "grid": pairs_grid(
            torch.cat([before for before, _ in grid]),
            torch.cat([after for _, after in grid]),
            scale=1,
        ),
        "grid_size": grid_size,
        "shelves": [
            {"title": title, "note": note, "tiles": [_tile(pair, n, factor) for n in picked]}
            for title, note, picked in picks
        ],
    }


def _read(pair: Pairs, places: list[int], max_side: int) -> list[Tensor]:
    """Return images before and after, reduced to a size if they are larger."""
    sides = [one.images for one in pair.read(places)]
    scale = max_side / max(sides[0].shape[2:])
    if scale >= 1:
        return sides
    size = [max(1, round(scale * one)) for one in sides[0].shape[2:]]
    return [interpolate(x, size, mode="bilinear", antialias=True).clamp(0, 1) for x in sides]


def _tile(pair: Pairs, place: int, factor: int) -> dict[str, Any]:
    before, after = (images[0] for images in _read(pair, [place], MAX_SIDE))
    sides = {"before": before, "after": after}
    sides[f"difference x {factor}"] = difference(before, after, factor)
    exact = max(pair.before.image_shape[1:]) <= MAX_EXACT
    encode = png if exact else jpeg
    return {
        "pictures": {name: encode(image) for name, image in sides.items()},
        **_about(pair, place),
    }


def _encoding(side: int) -> str:
    """Say how pictures of a size were changed to be shown."""
    if side <= MAX_EXACT:
        return ""
    size = f"Reduced from {side} to {MAX_SIDE} pixels; " if side > MAX_SIDE else "Whole images; "
    return f"{size}as JPEG, which is not exact."


def _picks(pair: Pairs, num_tiles: int) -> list[tuple[str, str, list[int]]]:
    """Return the title, the note and the rows of each gallery."""
    num = len(pair)
    first = list(range(min(num_tiles, num)))
    picks = [("Unpicked", f"The first {len(first)} of {num:,} images.", first)]
    if pair.ledger is None:
        return picks

    def lowest(values: np.ndarray, limit: int = num_tiles) -> list[int]:
        return np.argsort(values, kind="stable")[: min(num_tiles, limit)].tolist()

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
