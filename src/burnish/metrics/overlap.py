r"""Images that two sets share, found by a few projections of their features.

Exact copies have equal features up to rounding, which depends on the place in a batch, the machine
and the type in a file. So features are projected on :data:`NUM_DIRECTIONS` random directions, and
two images are one if all projections agree within :data:`SLACK` times the root mean square of the
features. Of different images some 1 pair in :math:`10^{20}` does, if features vary along as many
directions; with D of 2 or 3, images that nearly agree are taken for one. Time and memory are in
proportion to the numbers of images, not to their product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from burnish.metrics.moments import ROWS, Array

NUM_DIRECTIONS = 8
# Relative to features: kernels in float32 are off by 1e-6; float16 in a file by 3e-4.
SLACK, SLACK_OF_HALF = 1e-4, 2e-3
# Images next to each other by the first projection that are looked at, on either side.
REACH = 16
BLOCK = 4096


class Marks(NamedTuple):
    """What N images are recognized by."""

    places: Array
    """``[N, NUM_DIRECTIONS]``."""
    slack: Array
    """``[N]``: how far the places of copies may be apart."""


def marks_of(features: Array) -> Marks:
    """Return the marks of features ``[N, D]``."""
    dim = features.shape[1]
    directions = np.random.default_rng(dim).standard_normal((dim, NUM_DIRECTIONS)) / dim**0.5
    places, slack = np.empty((len(features), NUM_DIRECTIONS)), np.empty(len(features))
    with np.errstate(over="ignore"):  # what does not fit is none of float16
        half = all(
            np.array_equal(x.astype(np.float16), x)
            for x in (features[i : i + ROWS] for i in range(0, len(features), ROWS))
        )
    for i in range(0, len(features), ROWS):
        rows = np.asarray(features[i : i + ROWS], np.float64)
        places[i : i + ROWS] = rows @ directions
        slack[i : i + ROWS] = np.sqrt(np.square(rows).mean(1))
    return Marks(places, slack * (SLACK_OF_HALF if half else SLACK))


def joined_marks(parts: Sequence[Marks]) -> Marks:
    """Return the marks of all parts, one after the other."""
    return Marks(*(np.concatenate(rows) for rows in zip(*parts, strict=True)))


def shared(some: Marks, others: Marks) -> NDArray[np.bool_]:
    """Return which of some images ``[N]`` are among the others."""
    if not len(others.slack):
        return np.zeros(len(some.slack), bool)
    order = np.argsort(others.places[:, 0], kind="stable")
    places, slack = others.places[order], others.slack[order]
    found, window = np.zeros(len(some.slack), bool), np.arange(-REACH, REACH)
    for i in range(0, len(found), BLOCK):
        own, near = some.places[i : i + BLOCK], some.slack[i : i + BLOCK, None]
        middle = np.searchsorted(places[:, 0], own[:, 0])
        which = (middle[:, None] + window).clip(0, len(places) - 1)
        apart = np.abs(places[which] - own[:, None]).max(2)
        found[i : i + BLOCK] = (apart <= np.maximum(near, slack[which])).any(1)
    return found


def num_repeats(some: Marks) -> int:
    """Return how many images repeat one that stands before them by the first projection."""
    order = np.argsort(some.places[:, 0], kind="stable")
    places, slack = some.places[order], some.slack[order]
    found = np.zeros(len(order), bool)
    for step in range(1, min(REACH, len(order) - 1) + 1):
        apart = np.abs(places[step:] - places[:-step]).max(1)
        found[step:] |= apart <= np.maximum(slack[step:], slack[:-step])
    return int(found.sum())
