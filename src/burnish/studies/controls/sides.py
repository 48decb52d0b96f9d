"""Which images of the sides of a gain are compared: those with the same ids, if there are any."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from burnish.errors import InputError
from burnish.files import card_path, read_json
from burnish.jobs.sides import split_rows
from burnish.studies.controls.explain import MIN_IMAGES
from burnish.studies.dose.drawn import Drawn, Opened, some_places


@dataclass(frozen=True)
class Sides:
    """Images of all sides, as many of each."""

    drawn: dict[str, Drawn]
    left_out: dict[str, int]
    """Paired side -> images of it whose ids another paired side lacks."""


def draw_sides(opened: Mapping[str, Opened], max_images: int, seed: int) -> Sides:
    """Draw images of ``baseline``, ``refined`` and others, the same ids of all that share some.

    A side that shares no id with the baseline is of other images, and drawn by itself.

    Raises:
        InputError: A side shares some ids with the others, but too few; or it has too few images.
    """
    for side in opened.values():
        if len(side.ids) < MIN_IMAGES:
            said = f"{len(side.ids)} images are too few; {MIN_IMAGES} are needed"
            raise InputError(f"{side.source}: {said}")
    common, paired = opened["baseline"].ids, []
    for name, side in opened.items():
        if torch.isin(side.ids, opened["baseline"].ids).any():
            common, paired = common[torch.isin(common, side.ids)], [*paired, name]
    if len(common) < MIN_IMAGES:
        sources = " and ".join(opened[name].source for name in paired)
        raise InputError(
            f"{sources} have {len(common)} ids in common; {MIN_IMAGES} are needed: give images "
            "made of the same ones"
        )
    chosen = common.sort().values[some_places(len(common), max_images, seed, "explain")]
    drawn = {}
    for name, side in opened.items():
        if name in paired:
            ids, order = side.ids.sort()
            drawn[name] = side.take(order[torch.searchsorted(ids, chosen)])
        else:
            drawn[name] = side.take(some_places(len(side.ids), max_images, seed, "explain"))
    count = min(map(len, drawn.values()))  # distances of unequal numbers do not compare
    return Sides(
        {name: side[:count] for name, side in drawn.items()},
        {name: len(opened[name].ids) - len(common) for name in paired},
    )


def check_order(baseline: str, refined: Drawn) -> None:
    """Raise InputError where a card says that the baseline images were made of the refined."""
    card = card_path(Path(split_rows(baseline)[0]))
    if card.is_file() and read_json(card).get("input_sha256") == refined.sha256:
        said = f"{baseline} was refined from {refined.source}; name the images as generated first"
        raise InputError(said)
