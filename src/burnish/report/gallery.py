"""Galleries of single images before and after: unpicked, best, worst and farthest moved.

The ledger alone decides which images are shown. Every gallery says how its images were picked.
"""

import base64
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor
from torch.nn.functional import interpolate

from burnish.report.figures import amplification, difference, pairs_grid, png
from burnish.report.inputs import Pair
from burnish.report.rounding import minus

__all__ = ["Galleries", "Gallery", "Tile", "data_uri", "galleries"]

NUM_TILES = 12
NUM_UNPICKED = 100
MAX_SIDE = 64
# Raw pixels in the grid of unpicked pairs, so that large images leave the page small.
GRID_BYTES = 250_000


class Tile(NamedTuple):
    """One image before and after."""

    id: int
    pictures: dict[str, str]
    """Data URIs by caption."""
    caption: str
    notes: str


class Gallery(NamedTuple):
    """Tiles, and how they were picked."""

    title: str
    note: str
    tiles: list[Tile]


@dataclass(frozen=True)
class Galleries:
    """All galleries of a refinement."""

    factor: int
    """How many times differences are amplified."""
    width: int
    """Pixels to show an image at, a whole multiple of its own width if that is small."""
    shrunk: str
    """Says so if images are shown smaller than they are."""
    grid: str
    grid_size: int
    shelves: list[Gallery]


def data_uri(content: bytes) -> str:
    """Return a PNG as a URI that holds it."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def galleries(pair: Pair) -> Galleries:
    """Choose images and encode them."""
    channels, height, width = pair.generated.image_shape
    side, shown = max(height, width), min(MAX_SIDE, max(height, width))
    grid_size = min(NUM_UNPICKED, len(pair.generated), GRID_BYTES // (2 * channels * shown**2))
    shelves = _picks(pair)
    places = sorted({*range(grid_size), *(place for _, _, picked in shelves for place in picked)})
    before, after = (file.read(places).images for file in (pair.generated, pair.refined))
    if side > MAX_SIDE:
        before, after = (_shrink(images, MAX_SIDE / side) for images in (before, after))
    factor = amplification(before, after)
    tiles = {
        place: _tile(pair, place, before[row], after[row], factor)
        for row, place in enumerate(places)
    }
    return Galleries(
        factor=factor,
        width=side * (96 // side) if side <= 48 else 96,
        shrunk=f"Shown at {shown} pixels of {side}." if side > MAX_SIDE else "",
        grid=data_uri(pairs_grid(before[:grid_size], after[:grid_size], 10, scale=1)),
        grid_size=grid_size,
        shelves=[Gallery(t, n, [tiles[place] for place in picked]) for t, n, picked in shelves],
    )


def _picks(pair: Pair) -> list[tuple[str, str, list[int]]]:
    """Return the title, the note and the rows of each gallery."""
    num = len(pair.generated)
    first = list(range(min(NUM_TILES, num)))
    picks = [("Unpicked", f"The first {len(first)} of {num:,} images.", first)]
    if pair.ledger is None:
        return picks
    gain = pair.ledger["realness_after"] - pair.ledger["realness_before"]
    ascending, num_worse = np.argsort(gain, kind="stable"), int((gain < 0).sum())
    best = np.argsort(-gain, kind="stable")[:NUM_TILES].tolist()
    picks.append(("Largest gains", "Images whose realness rose most.", best))
    if num_worse:
        note = f"{num_worse:,} of {num:,} images lost realness; these lost most."
        picks.append(("Made worse", note, ascending[: min(NUM_TILES, num_worse)].tolist()))
    else:
        note = "No image lost realness; these gained least."
        picks.append(("Smallest gains", note, ascending[:NUM_TILES].tolist()))
    farthest = np.argsort(-pair.ledger["l2_moved"], kind="stable")[:NUM_TILES].tolist()
    picks.append(("Moved farthest", "Images that refinement changed most, in L2.", farthest))
    return picks


def _tile(pair: Pair, place: int, before: Tensor, after: Tensor, factor: int) -> Tile:
    id_, notes = int(pair.generated.ids[place]), ""
    caption = f"id {id_}"
    if pair.ledger is not None:
        row = {name: column[place] for name, column in pair.ledger.items()}
        steps = int(row["num_steps"])
        caption += f" · label {row['label']} · {steps} step{'' if steps == 1 else 's'}"
        was, now = (minus(f"{row[f'realness_{when}']:.2f}") for when in ("before", "after"))
        notes = f"realness {was} → {now} · L2 moved {row['l2_moved']:.2f}"
    elif pair.generated.labels is not None:
        caption += f" · label {int(pair.generated.labels[place])}"
    changed = difference(before, after, factor)
    names = ("generated", "refined", f"difference x {factor}")
    pictures = (data_uri(png(image)) for image in (before, after, changed))
    return Tile(id_, dict(zip(names, pictures, strict=True)), caption, notes)


def _shrink(images: Tensor, factor: float) -> Tensor:
    shrunk = interpolate(images, scale_factor=factor, mode="bilinear", antialias=True)
    return shrunk.clamp(0, 1)
