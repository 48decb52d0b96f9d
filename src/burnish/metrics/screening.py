r"""Neighbors in float64 at the price of float32.

For rows a and b, centered and scaled into the unit ball, the float32 product of
:math:`[-2a, |a|^2, 1]` and :math:`[b, 1, |b|^2]` is their squared distance, with an error of at
most :math:`C (|a|^2 + |b|^2)`, :math:`C = (2 D + 16) u`, :math:`u = 2^{-24}`, in whatever order
the terms are summed. (The bound of an inner product, and the rounding of the inputs: Higham,
"Accuracy and Stability of Numerical Algorithms", 2002, section 3.1.) With the norms shrunk by
1 - C, the same product is a lower bound. A pair whose lower bound is beyond a border is outside.
Of the few others, those whose upper bound is beyond it, too, are decided by the sum of their
squared differences in float64.

Where too many pairs of a block are undecided, as among near copies of one image, products in
float64 decide the block.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from burnish.metrics.distances import BLOCK, ROUNDING, cut, squares
from burnish.metrics.moments import Array

Integers = NDArray[np.int64]

MAX_NEIGHBORS = 32  # above it, screening saves little
ROWS = 4 * BLOCK
# A larger share of undecided pairs costs as much as the product in float64.
MAX_UNDECIDED = 1 / 64
POOL = 2**20  # pairs that wait for their distance


class _Side:
    """The rows of one side as factors; ``scale`` is a power of two and rounds nothing."""

    def __init__(self, x: Array, center: Array, scale: float) -> None:
        self.x, self.center, self.scale = x, center, scale
        self.norms = np.concatenate(
            [np.square(self.centered(rows)).sum(1) for rows in cut(len(x))]
        )
        self.error = (2 * x.shape[1] + 16) * 2.0**-24 * 1.01

    def centered(self, rows: slice) -> Array:
        found = self.x[rows].astype(np.float64)
        found -= self.center
        found *= self.scale
        return found

    def factor(self, rows: slice, left: bool) -> Array:
        """Return ``[-2a, |a|^2, 1]`` or ``[b, 1, |b|^2]``, with norms shrunk, in float32."""
        size = rows.stop - rows.start
        found = np.ones((size, len(self.center) + 2), np.float32)
        for part in cut(rows.stop, first=rows.start):
            place = slice(part.start - rows.start, part.stop - rows.start)
            found[place, :-2] = self.centered(part) * (-2 if left else 1)
        found[:, -2 if left else -1] = (1 - self.error) * self.norms[rows]
        return found


def _sides(*sets: Array, center: Array) -> list[_Side]:
    longest = max(
        float(np.square(x[rows] - center).sum(1).max()) for x in sets for rows in cut(len(x))
    )
    scale = 2.0 ** -np.ceil(np.log2(longest) / 2) if longest else 1.0
    return [_Side(x, center, scale) for x in sets]


def _exact(a: _Side, b: _Side, rows: Integers, columns: Integers) -> Array:
    """Return the squared distances of pairs, as sums of squared differences in float64."""
    found = np.empty(len(rows))
    for part in cut(len(rows), BLOCK // 2):
        shift = np.subtract(a.x[rows[part]], b.x[columns[part]], dtype=np.float64)
        shift *= a.scale
        found[part] = np.einsum("nd,nd->n", shift, shift)
    return found


def screened_radii(x: Array, num_neighbors: int, center: Array) -> Array:
    """Return the squared distance of each row to its k-th other row, ``[N]`` float64."""
    (side,) = _sides(x, center=center)
    nearest = _Nearest(side, num_neighbors)
    for rows in cut(len(x), ROWS):
        left = side.factor(rows, left=True)
        for columns in cut(len(x), first=rows.start):
            low = left @ side.factor(columns, left=False).T
            if columns.start < rows.stop:  # within the rows, both of each pair are met
                own = np.arange(columns.start, columns.stop)
                low[own - rows.start, own - columns.start] = np.inf
                nearest.offer(low, rows, columns)
            else:
                nearest.offer(low, rows, columns)
                nearest.offer(low.T, columns, rows)
    nearest.settle()
    return nearest.exact[:, -1] / side.scale**2


class _Nearest:
    """The k smallest distances of each row, from lower bounds that come in blocks."""

    def __init__(self, side: _Side, num_neighbors: int) -> None:
        self._side, self._k = side, num_neighbors
        count = len(side.x)
        self.exact = np.full((count, num_neighbors), np.inf)
        self._high = self.exact.copy()  # the k smallest upper bounds
        self._limit = np.full(count, np.inf)  # the distance to the k-th is no larger
        self._pool: list[tuple[Integers, Integers]] = []
        self._waiting = 0

    def offer(self, low: Array, rows: slice, columns: slice) -> None:
        side, limit = self._side, self._limit[rows]
        if np.isinf(limit).any() and low.shape[1] > self._k:
            width = 2 * side.error * (side.norms[rows] + side.norms[columns].max())
            limit = np.minimum(limit, np.partition(low, self._k - 1, 1)[:, self._k - 1] + width)
        i, j = np.nonzero(low <= _up(limit)[:, None])
        if len(i) > 2 * self._k * len(low) + MAX_UNDECIDED * low.size:
            i, j, bounds = self._crowded(low, rows, columns)
            high = bounds + 2 * ROUNDING
        else:
            bounds = low[i, j].astype(np.float64)
            high = bounds + 2 * side.error * (side.norms[rows][i] + side.norms[columns][j])
        i, j = i + rows.start, j + columns.start
        _keep_smallest(self._high, i, high)
        self._limit[rows] = np.minimum(limit, self._high[rows, -1])
        needed = bounds <= self._limit[i]
        self._pool.append((i[needed], j[needed]))
        self._waiting += int(needed.sum())
        if self._waiting > POOL:
            self.settle()

    def _crowded(
        self, low: Array, rows: slice, columns: slice
    ) -> tuple[Integers, Integers, Array]:
        """Return the k nearest in the block, and lower bounds, by products in float64."""
        found = squares(self._side.centered(rows), self._side.centered(columns))
        found[np.isinf(low)] = np.inf
        k = min(self._k, found.shape[1])
        j = np.argpartition(found, k - 1, axis=1)[:, :k].ravel()
        i = np.repeat(np.arange(len(found)), k)
        bounds = found[i, j] - ROUNDING
        some = np.isfinite(bounds) & (bounds <= self._limit[rows][i])
        return i[some], j[some], bounds[some]

    def settle(self) -> None:
        """Compute the distances of all pairs that wait."""
        rows, columns = (np.concatenate(parts) for parts in zip(*self._pool, strict=True))
        _keep_smallest(self.exact, rows, _exact(self._side, self._side, rows, columns))
        self._high, self._pool, self._waiting = self.exact.copy(), [], 0
        self._pool = [(rows[:0], columns[:0])]
        # Nothing is nearer than a copy: rows with k of them look no further.
        known = np.where(self.exact[:, -1] > 0, self.exact[:, -1], -1.0)
        self._limit = np.minimum(self._limit, known)


def _keep_smallest(kept: Array, rows: Integers, values: Array) -> None:
    """Merge values of rows into the k smallest of each row, which are in ascending order."""
    order = np.lexsort((values, rows))
    rows, values = rows[order], values[order]
    places, starts, counts = np.unique(rows, return_index=True, return_counts=True)
    ranks = np.arange(len(rows)) - np.repeat(starts, counts)
    group = np.repeat(np.arange(len(places)), counts)
    few = ranks < kept.shape[1]
    new = np.full((len(places), kept.shape[1]), np.inf)
    new[group[few], ranks[few]] = values[few]
    merged = np.concatenate([kept[places], new], axis=1)
    kept[places] = np.sort(merged, axis=1)[:, : kept.shape[1]]


def screened_hits(
    generated: Array, reference: Array, center: Array, radii: tuple[Array, Array], closed: bool
) -> Iterator[tuple[bool, Integers, Integers]]:
    """Yield pairs of generated and reference images of which one lies in the ball of the other.

    ``radii`` are the squared ones of generated and of reference images; the first of each triple
    is whether the ball is that of the reference image.
    """
    a, b = _sides(generated, reference, center=center)
    own, theirs = (values * a.scale**2 for values in radii)
    for rows in cut(len(generated), ROWS):
        left = a.factor(rows, left=True)
        for columns in cut(len(reference)):
            low = left @ b.factor(columns, left=False).T
            borders = {False: own[rows][:, None], True: theirs[columns][None]}
            found = _decide(low, a, b, rows, columns, borders, closed)
            for which, (i, j) in found.items():
                yield which, i + rows.start, j + columns.start


def _decide(
    low: Array, a: _Side, b: _Side, rows: slice, columns: slice, borders: dict[bool, Array],
    closed: bool,
) -> dict[bool, tuple[Integers, Integers]]:  # fmt: skip
    below = np.less_equal if closed else np.less
    found: dict[bool, tuple[Integers, Integers]] = {}
    for which, border in borders.items():
        i, j = np.nonzero(low <= _up(border))
        edge = border[i * (not which), j * which]
        width = 2 * a.error * (a.norms[rows][i] + b.norms[columns][j])
        inside = below(low[i, j] + width, edge)
        (unsure,) = np.nonzero(~inside)
        if len(unsure) > MAX_UNDECIDED * low.size:
            exact = squares(a.centered(rows), b.centered(columns))
            decided = {which: below(exact, one) for which, one in borders.items()}
            return {which: (w.nonzero()[0], w.nonzero()[1]) for which, w in decided.items()}
        exact = _exact(a, b, i[unsure] + rows.start, j[unsure] + columns.start)
        inside[unsure] = below(exact, edge[unsure])
        found[which] = i[inside], j[inside]
    return found


def _up(values: Array) -> Array:
    """Return float32 numbers that are no smaller; comparing them copies no block to float64."""
    return np.nextafter(values.astype(np.float32), np.float32(np.inf))
