"""Galleries of single images, before and after: unpicked, best, worst and farthest moved.

Which images are shown is decided by the ledger alone. Every gallery says how it was picked, and
the first is not picked at all.
"""

import base64
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor
from torch.nn.functional import interpolate

from burnish.report.figures import amplification, difference, pairs_grid, png
from burnish.report.inputs import Source
from burnish.report.rounding import minus

__all__ = ["Card", "Galleries", "Gallery", "data_uri", "galleries"]

NUM_CARDS = 12
NUM_UNPICKED = 100
MAX_SIDE = 64
# Of raw pixels in the grid of unpicked pairs, so that large images leave the page small.
GRID_BYTES = 250_000


@dataclass(frozen=True)
class Card:
    """One image before and after."""

    id: int
    base: str
    refined: str
    difference: str
    caption: str
    notes: str


class Gallery(NamedTuple):
    """Cards, and how they were picked."""

    title: str
    note: str
    cards: list[Card]


@dataclass(frozen=True)
class Galleries:
    """All galleries of a refinement."""

    factor: int
    """How much differences are amplified, the same for all."""
    tile: int
    """Width to show an image at, a whole multiple of its own where that is small."""
    shrunk: str
    """Says so if images are shown smaller than they are."""
    grid: str
    grid_size: int
    shelves: list[Gallery]


def data_uri(content: bytes) -> str:
    """Return a PNG as a URI that holds it."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def galleries(source: Source) -> Galleries | None:
    """Choose images and encode them; None if the source holds no pairs."""
    if source.base is None or source.refined is None:
        return None
    channels, height, width = source.base.image_shape
    side, shown = max(height, width), min(MAX_SIDE, max(height, width))
    grid_size = min(NUM_UNPICKED, len(source.base), GRID_BYTES // (2 * channels * shown**2))
    shelves = _picks(source)
    places = sorted({*range(grid_size), *(place for _, _, picked in shelves for place in picked)})
    base, refined = source.base.read(places).images, source.refined.read(places).images
    if side > MAX_SIDE:
        base, refined = (_shrink(images, MAX_SIDE / side) for images in (base, refined))
    factor = amplification(base, refined)
    cards = {
        place: _card(source, place, base[row], refined[row], factor)
        for row, place in enumerate(places)
    }
    return Galleries(
        factor=factor,
        tile=side * (96 // side) if side <= 48 else 96,
        shrunk=f"Shown at {shown} pixels of {side}." if side > MAX_SIDE else "",
        grid=data_uri(pairs_grid(base[:grid_size], refined[:grid_size], 10, scale=1)),
        grid_size=grid_size,
        shelves=[Gallery(t, n, [cards[place] for place in picked]) for t, n, picked in shelves],
    )


def _picks(source: Source) -> list[tuple[str, str, list[int]]]:
    """Return title, note and places in the files of each gallery."""
    assert source.base is not None
    num = len(source.base)
    first = list(range(min(NUM_CARDS, num)))
    picks = [("Unpicked", f"The first {len(first)} of {num:,} images, whatever they are.", first)]
    if source.ledger is None:
        return picks
    rows = _rows_of(source)
    gain = (source.ledger["realness_after"] - source.ledger["realness_before"])[rows]
    moved = source.ledger["l2_moved"][rows]
    ascending, num_worse = np.argsort(gain, kind="stable"), int((gain < 0).sum())
    best = np.argsort(-gain, kind="stable")[:NUM_CARDS].tolist()
    picks.append(("Largest gains", "Those whose realness rose most.", best))
    if num_worse:
        note = f"{num_worse:,} of {num:,} images lost realness; these lost most."
        picks.append(("Made worse", note, ascending[: min(NUM_CARDS, num_worse)].tolist()))
    else:
        note = "No image lost realness; these gained least."
        picks.append(("Smallest gains", note, ascending[:NUM_CARDS].tolist()))
    farthest = np.argsort(-moved, kind="stable")[:NUM_CARDS].tolist()
    picks.append(("Moved farthest", "Those that refining changed most, in L2.", farthest))
    return picks


def _rows_of(source: Source) -> np.ndarray:
    """Return the row in the ledger of each place in the image files."""
    assert source.base is not None and source.ledger is not None
    row_of = {id_: row for row, id_ in enumerate(source.ledger["id"].tolist())}
    return np.array([row_of[id_] for id_ in source.base.ids.tolist()])


def _card(source: Source, place: int, base: Tensor, refined: Tensor, factor: int) -> Card:
    assert source.base is not None
    id_ = int(source.base.ids[place])
    caption, notes = f"id {id_}", ""
    if source.ledger is not None:
        row = int(np.flatnonzero(source.ledger["id"] == id_)[0])
        entry = {name: column[row] for name, column in source.ledger.items()}
        steps = int(entry["num_steps"])
        caption += f" · label {entry['label']} · {steps} step{'' if steps == 1 else 's'}"
        before, after = (minus(f"{entry[f'realness_{when}']:.2f}") for when in ("before", "after"))
        notes = f"realness {before} → {after} · L2 moved {entry['l2_moved']:.2f}"
    elif source.base.labels is not None:
        caption += f" · label {int(source.base.labels[place])}"
    changed = difference(base, refined, factor)
    pictures = [data_uri(png(image)) for image in (base, refined, changed)]
    return Card(id_, pictures[0], pictures[1], pictures[2], caption, notes)


def _shrink(images: Tensor, factor: float) -> Tensor:
    shrunk = interpolate(images, scale_factor=factor, mode="bilinear", antialias=True)
    return shrunk.clamp(0, 1)
