r"""The spread of recall and coverage, by halving the images.

Both are shares of real images that are found by *any* generated image. A real image is found by a
few images only, however large N is, so that the effect of one image depends on the others. The
jackknife and the bootstrap are wrong here, even for large N. (For coverage the jackknife is too
large by a factor of :math:`\lambda / (1 - e^{-\lambda})` in variance for :math:`\lambda` images
per neighborhood; a bootstrap leaves out a third of the images.) Instead n images, all or a part,
are cut into halves a and b at random, B times. The halves are independent sets: the difference of
what they find, :math:`d_j = f^a_j - f^b_j` for real image j, has twice the variance of
:math:`f_j` at n / 2. The number of images per ball is that at N: for recall, whose balls shrink as
N grows, with equal k; for coverage, with k neighbors among a random part n / 2 N of the reference,
another one each time. Then the variance
of one :math:`f_j` is that at N, too, and the covariances of two of them reach
:math:`\rho = n / 2 N` as far at N as at n / 2. With m of M real images, and random signs
:math:`\epsilon_j`, which leave the variances of single ones, in sums over the buckets s that the
real images are dealt into,

.. math::
    V = \frac{1}{2 B m^2} \sum_b \Big[\rho \big(\textstyle\sum_j d_j\big)^2
    + \left(\tfrac{m}{M} - \rho\right) \sum_s \big(\sum_{j \in s} \epsilon_j d_j\big)^2\Big]

For one set of images this is the variance at N. For the difference of two sets,
:math:`g_j = f_j^{after} - f_j^{before}`, it is too small: the balls of halves are larger, so that
images that move as far cross fewer of their borders. Most :math:`g_j` are 0, and the variance of
rare events is in proportion to their number. So V is multiplied by how many more real images are
found by one set alone at N than at n / 2, :math:`E g_j^2 / E (g_j^a)^2`, at least by 1. These
means, too, are of squares of signed sums over buckets: all that is kept of a set is linear in its
f, and what is kept of a difference is the difference of what is kept of both.

At most :data:`MOST` real images are taken, for recall as many generated ones, and n so that
:math:`\rho \le m / M`: memory and time are bounded; only coverage goes once through all images.
The halves follow from N and a seed alone: in a difference of two sets of the same images, in one
order, both are halved alike, and what they share cancels. Distances are of float32.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from burnish.metrics.distances import cut
from burnish.metrics.intervals import NUM_BUCKETS, NUM_HALVINGS, NUM_WHOLE
from burnish.metrics.moments import Array

Booleans = NDArray[np.bool_]

BLOCK = 1024
MOST = 5_000
# So many more than 2 k neighbors are kept, of which half are in a half: k of them nearly always.
SPARE = 12
# More pairs would take over 200 MB; recall and coverage then have no interval.
MAX_PAIRS = 2**24


class Features:
    """Features ``[N, D]`` of the reference around 0 in float32; others are moved alike.

    Args:
        reference: Features ``[M, D]`` of real images.
    """

    def __init__(self, reference: Array) -> None:
        self._center = torch.from_numpy(reference.mean(0, dtype=np.float64)).float()
        self.rows = self.moved(reference)

    def moved(self, features: Array) -> torch.Tensor:
        """Return features moved as the reference is, so that little cancels."""
        return torch.from_numpy(np.asarray(features, np.float32)) - self._center


class _Balls:
    """Balls that reach to the k-th neighbor among a part of images ``y``."""

    def __init__(
        self, x: torch.Tensor, y: torch.Tensor, width: int, num_neighbors: int
    ) -> None:  # fmt: skip
        near, ids = (found[:, 1:] for found in nearest_of(x, y, width + 1))
        self.near, self.ids, self._k = near, ids.numpy().T.copy(), num_neighbors

    def needed(self, who: Any, far: Any) -> Any:
        """Return to which neighbor the ball of an image must reach to hold what is so far off."""
        found = np.zeros(len(far), np.int16)
        for radii in self.near.numpy().T:
            found += radii[who] < far
        return found

    def places(self, taken: Booleans) -> Any:
        """Return which neighbor is the k-th of those taken ``[width, N]``, the last for none."""
        count, place = np.zeros((2, taken.shape[1]), np.int16)
        for one in taken:
            count += one
            place += count < self._k
        return np.minimum(place, len(taken) - 1)


class HalvesEstimator:
    """The spread of recall and coverage by k neighbors against one reference."""

    def __init__(self, reference: Features, num_neighbors: int = 3, *, seed: int = 0) -> None:
        self._k, self._seed = num_neighbors, seed
        self._reference, total = reference, len(reference.rows)
        self._real = reference.rows[_spread(total, MOST)]
        self._share = len(self._real) / total
        self._balls: dict[int, _Balls] = {}  # of real images, by number of neighbors

    def __call__(self, features: Array, found: dict[str, Booleans]) -> dict[str, Array]:
        """Return influences by key; none for too few images or too many pairs.

        Args:
            features: Of generated images.
            found: Which real images all generated ones find, by key.
        """
        most = min(len(features), int(2 * len(features) * self._share))
        halves = {
            "recall": self._recall(features, min(most, MOST)),
            "coverage": self._coverage(features, most),
        }
        return {
            key: np.concatenate([some, self._whole(found[key])])
            for key, some in halves.items()
            if some is not None
        }

    def _recall(self, features: Array, count: int) -> Array | None:
        if count < 4 * self._k:
            return None
        x = self._reference.moved(features[_spread(len(features), count)])
        balls = _Balls(x, x, min(2 * self._k + SPARE, count - 1), self._k)
        pairs = self._pairs(lambda rows: x[rows], count, lambda rows, _: balls.near[rows, -1:])
        if pairs is None:
            return None
        who, whom, far = pairs
        needed = balls.needed(who, far)

        def found_by(half: Booleans, _: Any) -> tuple[Any, Any]:
            place = balls.places(half[balls.ids] == half)
            hit = np.flatnonzero(needed <= place[who])
            return whom[hit], half[who[hit]]

        return self._halved(found_by, count, len(features))

    def _coverage(self, features: Array, count: int) -> Array | None:
        part = count / (2 * len(features))
        width = round((self._k + SPARE / 2) / part) if count else 0
        if count < 4 * self._k or width >= len(self._reference.rows):
            return None
        if width not in self._balls:
            self._balls[width] = _Balls(self._real, self._reference.rows, width, self._k)
        balls, places = self._balls[width], _spread(len(features), count)
        pairs = self._pairs(
            lambda rows: self._reference.moved(features[places[rows]]), count,
            lambda _, columns: balls.near[columns, -1],
        )  # fmt: skip
        if pairs is None:
            return None
        member, of, far = pairs
        needed = balls.needed(of, far)

        def found_by(half: Booleans, rng: np.random.Generator) -> tuple[Any, Any]:
            thinned = rng.random(len(self._reference.rows), np.float32) < part
            hit = np.flatnonzero(needed <= balls.places(thinned[balls.ids])[of])
            return of[hit], half[member[hit]]

        return self._halved(found_by, count, len(features))

    def _pairs(
        self, images: Callable[[slice], torch.Tensor], count: int,
        border: Callable[[slice, slice], torch.Tensor],
    ) -> tuple[Any, Any, Any] | None:  # fmt: skip
        """Return which generated and real images lie within a border, and how far apart."""
        pairs: list[tuple[torch.Tensor, ...]] = []
        found = 0
        for rows in cut(count):
            x = images(rows)
            for columns in cut(len(self._real)):
                block = squares_of(x, self._real[columns])
                a, b = torch.nonzero(block <= border(rows, columns), as_tuple=True)
                pairs.append(((a + rows.start).int(), (b + columns.start).int(), block[a, b]))
                found += len(a)
                if found > MAX_PAIRS:
                    return None
        who, whom, far = (torch.cat(parts).numpy() for parts in zip(*pairs, strict=True))
        return who, whom, far

    def _halved(
        self, found_by: Callable[[Booleans, np.random.Generator], tuple[Any, Any]], count: int,
        whole: int,
    ) -> Array:  # fmt: skip
        """Return differences, of which the squares add up to the variance; then what halves find.

        The squares of the latter add up to the mean share that one half finds.
        """
        size = -(-len(self._real) // NUM_BUCKETS) * NUM_BUCKETS
        together = np.empty((NUM_HALVINGS, 1))
        sums = np.empty((2, NUM_HALVINGS, NUM_BUCKETS))
        rng = np.random.default_rng([self._seed, count])
        for n in range(NUM_HALVINGS):
            half = rng.permutation(count) < count // 2
            signs = rng.choice([-1.0, 1.0], size)
            found, by_first = found_by(half, rng)
            each = np.zeros((2, size))
            each.ravel()[found + size * ~by_first] = 1
            together[n] = (each[0] - each[1]).sum()
            sums[:, n] = (each * signs).reshape(2, -1, NUM_BUCKETS).sum(1)
        reach, num_real = count / (2 * whole), len(self._real)
        scale = num_real * np.sqrt(2 * NUM_HALVINGS)
        together *= np.sqrt(reach) / scale
        alone = np.sqrt(max(self._share - reach, 0)) / scale * (sums[0] - sums[1])
        sums /= np.sqrt(2 * NUM_HALVINGS * num_real)
        return np.concatenate([together.ravel(), alone.ravel(), sums.ravel()])

    def _whole(self, found: Booleans) -> Array:
        """Return sums of which the squares add up to the share of real images that are found."""
        signs = np.random.default_rng([self._seed, len(found)]).choice([-1.0, 1.0], len(found))
        places = np.arange(len(found)) % NUM_WHOLE
        return np.bincount(places, signs * found, NUM_WHOLE) / np.sqrt(len(found))


def _spread(count: int, most: int) -> Any:
    """Return at most so many places, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.intp))


def squares_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the squared distances ``[N, M]`` of rows that lie around 0."""
    squares = (x @ y.T).mul_(-2).add_((x * x).sum(1)[:, None]).add_((y * y).sum(1))
    return squares.clamp_min_(0)


def nearest_of(x: torch.Tensor, y: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return squared distances to the nearest rows of y ``[N, count]``, ascending, and which.

    Where x is in y, each row is its own nearest.
    """
    squares, places = [], []
    for i in range(0, len(x), BLOCK):
        rows = x[i : i + BLOCK]
        best, where = torch.empty(len(rows), 0), torch.empty(len(rows), 0, dtype=torch.int64)
        for j in range(0, len(y), 8 * BLOCK):
            block = squares_of(rows, y[j : j + 8 * BLOCK])
            near, place = block.topk(min(count, block.shape[1]), dim=1, largest=False)
            best, where = torch.cat([best, near], 1), torch.cat([where, place + j], 1)
            best, order = best.topk(min(count, best.shape[1]), dim=1, largest=False)
            where = where.gather(1, order)
        squares.append(best)
        places.append(where)
    return torch.cat(squares), torch.cat(places)
