"""Which images lie in whose neighborhood: what precision, recall, density and coverage count.

Around each image lies a *ball* that reaches to its k-th neighbor in its own set.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from burnish.metrics.distances import ROUNDING, Arithmetic, cut, distances
from burnish.metrics.moments import Array
from burnish.metrics.screening import MAX_NEIGHBORS, screened_hits, screened_radii

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Neighborhoods:
    """How many balls hold each image, of N generated and M reference images."""

    around: Integers
    """``[N]``: balls of reference images that hold each generated image."""
    holders: Integers
    """``[M]``: balls of generated images that hold each reference image."""
    visitors: Integers
    """``[M]``: generated images in the ball of each reference image."""
    holder: Integers
    """``[M]``: the one generated image whose ball holds a reference image; -1 if none or more."""
    visitor: Integers
    """``[M]``: the one generated image in the ball of a reference image; -1 if none or more."""

    @property
    def recalled(self) -> NDArray[np.bool_]:
        """``[M]``: whether the ball of a generated image holds each reference image."""
        return self.holders > 0

    @property
    def covered(self) -> NDArray[np.bool_]:
        """``[M]``: whether a generated image lies in the ball of each reference image."""
        return self.visitors > 0


class _Count:
    """Counts pairs as they are found, and keeps the place of each image in the last of them."""

    def __init__(self, num_generated: int, num_reference: int) -> None:
        self._of_generated = np.zeros(num_generated, np.int64)
        self._of_reference = np.zeros(num_reference, np.int64)
        self._sum = np.zeros(num_reference, np.int64)

    def add(self, generated: Integers, reference: Integers) -> None:
        count = len(self._of_reference)
        self._of_generated += np.bincount(generated, minlength=len(self._of_generated))
        self._of_reference += np.bincount(reference, minlength=count)
        self._sum += np.bincount(reference, generated, count).astype(np.int64)

    def result(self) -> tuple[Integers, Integers, Integers]:
        """Return the counts of both sides, and the only partner of each reference image."""
        only = np.where(self._of_reference == 1, self._sum, -1)
        return self._of_generated, self._of_reference, only


def neighborhoods(
    *,
    generated: Array,
    reference: Array,
    num_neighbors: int,
    arithmetic: Arithmetic = "float64",
    closed: bool = True,
) -> Neighborhoods:
    """Return which images lie in whose neighborhood.

    In float64 every pair is decided by its distance in float64; borders closer than 1e-13 of the
    largest squared norm count as ties. Most pairs are so far from the border that float32 products
    with a proven bound of their error decide them (:mod:`burnish.metrics.screening`), in a
    quarter of the time. Beside the features, 0.3 GiB of memory are needed at D = 2048 whatever N
    and M are; features may be mapped from a file.

    Args:
        generated: ``[N, D]``, finite.
        reference: ``[M, D]``, finite.
        num_neighbors: k, below N and M.
        arithmetic: ``float64``; or that of other tools: ``float32`` of torch-fidelity, ``float16``
            of the evaluator of ADM, see :func:`burnish.metrics.distances.distances`.
        closed: Whether the border belongs to a ball, as published; it does not in ``prdc`` and
            dgm-eval.
    """
    center = mean(reference)
    sets = generated, reference
    slack = _rounding(sets, center) * (1 if closed else -1) if arithmetic == "float64" else 0.0
    shape = len(generated), len(reference)
    inside, holding = _Count(*shape), _Count(*shape)
    if arithmetic == "float64" and num_neighbors <= MAX_NEIGHBORS:
        own, theirs = (screened_radii(x, num_neighbors, mean(x)) + slack for x in sets)
        for theirs_hold, *pair in screened_hits(
            generated, reference, center, (own, theirs), closed
        ):
            (inside if theirs_hold else holding).add(*pair)
    else:
        own, theirs = (_radii(x, num_neighbors, arithmetic, center) + slack for x in sets)
        for rows, columns, found in distances(generated, reference, arithmetic, center):
            below = np.less_equal if closed else np.less
            for count, within in (
                (holding, below(found, own[rows, None])),
                (inside, below(found, theirs[columns])),
            ):
                places = np.nonzero(within)
                count.add(places[0] + rows.start, places[1] + columns.start)
    around, visitors, visitor = inside.result()
    _, holders, holder = holding.result()
    return Neighborhoods(around, holders, visitors, holder, visitor)


def mean(x: Array) -> Array:
    """Return the mean row ``[D]`` in float64, read block by block."""
    return sum(x[rows].sum(axis=0, dtype=np.float64) for rows in cut(len(x))) / len(x)  # pyright: ignore


def _rounding(sets: tuple[Array, Array], center: Array) -> float:
    longest = (np.square(x[rows] - center).sum(1).max() for x in sets for rows in cut(len(x)))
    return ROUNDING * float(max(longest))


def _radii(x: Array, num_neighbors: int, arithmetic: Arithmetic, center: Array) -> Array:
    """Return the distance of each row to its k-th neighbor; the row itself is the nearest."""
    nearest = np.full((len(x), num_neighbors + 1), np.inf)
    for rows, _, found in distances(x, x, arithmetic, center):
        candidates = np.concatenate([nearest[rows], found], axis=1)
        nearest[rows] = np.partition(candidates, num_neighbors, axis=1)[:, : num_neighbors + 1]
    return nearest.max(axis=1)
