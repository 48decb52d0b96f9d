r"""The spread of recall and coverage, by halving the images.

Both are shares of real images that are found by *any* generated image. A real image is found by a
few images only, however large N is, so that the effect of one image depends on the others. The
jackknife and the bootstrap are wrong here, even for large N. (For coverage the jackknife is too
large by a factor of :math:`\lambda / (1 - e^{-\lambda})` in variance for :math:`\lambda` images
per neighborhood; a bootstrap leaves out a third of the images.) Instead n images, all or a part,
are cut into halves a and b at random, B times. The halves are independent sets: the difference of
what they find, :math:`d_j = f^a_j - f^b_j` for real image j, has twice the variance of
:math:`f_j` at n / 2. The number of images per ball is that at N: for recall, whose balls shrink as
N grows, with equal k; for coverage, with reference balls of 2 k N / n neighbors. Then the variance
of one :math:`f_j` is that at N, too, and the covariances of two of them reach
:math:`\rho = n / 2 N` as far at N as at n / 2. With m of M real images and random signs
:math:`\epsilon_j`, which leave the variances of single ones,

.. math::
    \mathrm{Var}(\theta_N) \approx \frac{1}{2 B m^2} \sum_b \Big[\rho \big(\textstyle\sum_j
    d_j\big)^2 + \left(\tfrac{m}{M} - \rho\right) \big(\sum_j \epsilon_j d_j\big)^2\Big]

At most :data:`MOST` real images are taken, for recall as many generated ones, and n so that
:math:`\rho \le m / M`: memory and time are bounded; only coverage goes once through all images.
The halves follow from N and a seed alone: in a difference of two sets of the same images, in one
order, both are halved alike, and what they share cancels. Distances are computed in float32: an
interval needs no more.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from burnish.metrics.distances import cut
from burnish.metrics.moments import Array

Booleans = NDArray[np.bool_]

BLOCK, NUM_HALVINGS = 1024, 100
MOST = 5_000
# So many neighbors of each image are kept, of which half are in its half: k of them nearly always.
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


class HalvesEstimator:
    """The spread of recall and coverage against one reference.

    Args:
        reference: Of M real images.
        num_neighbors: k.
        seed: Of the halves.
        num_halvings: B.
    """

    def __init__(
        self, reference: Features, num_neighbors: int = 3, *, seed: int = 0,
        num_halvings: int = NUM_HALVINGS,
    ) -> None:  # fmt: skip
        self._num_halvings, self._k, self._seed = num_halvings, num_neighbors, seed
        self._reference, total = reference, len(reference.rows)
        self._real = reference.rows[_spread(total, MOST)]
        self._share = len(self._real) / total
        self._radii: dict[int, torch.Tensor] = {}  # by number of neighbors

    def __call__(self, features: Array) -> dict[str, Array]:
        """Return influences of halves by key; none for too few images or too many pairs."""
        most = min(len(features), int(2 * len(features) * self._share))
        found = {
            "recall": self._recall(features, min(most, MOST)),
            "coverage": self._coverage(features, most),
        }
        return {key: halves for key, halves in found.items() if halves is not None}

    def _recall(self, features: Array, count: int) -> Array | None:
        k = self._k
        if count < 4 * k:
            return None
        x = self._reference.moved(features[_spread(len(features), count)])
        near, ids = (found[:, 1:] for found in nearest_of(x, x, min(2 * k + SPARE, count - 1) + 1))
        pairs = self._pairs(lambda rows: x[rows], count, lambda rows, _: near[rows, -1:])
        if pairs is None:
            return None
        who, whom, far = pairs
        radii, others, everyone = near.numpy(), ids.numpy(), np.arange(count)

        def found_by(half: Booleans) -> tuple[Any, Any]:
            same = half[others] == half[:, None]
            # The place of the k-th neighbor in the same half; the last one where there is none.
            place = np.argmax(np.cumsum(same, axis=1) >= k, axis=1)
            place[same.sum(1) < k] = radii.shape[1] - 1
            hit = far <= radii[everyone, place][who]
            return whom[hit], half[who[hit]]

        return self._halved(found_by, count, len(features))

    def _coverage(self, features: Array, count: int) -> Array | None:
        wide = round(2 * self._k * len(features) / max(count, 1))
        if count < 4 * self._k or wide >= len(self._reference.rows):
            return None
        if wide not in self._radii:
            near = nearest_of(self._real, self._reference.rows, wide + 1)[0]
            self._radii[wide] = near[:, -1]
        radii, places = self._radii[wide], _spread(len(features), count)
        pairs = self._pairs(
            lambda rows: self._reference.moved(features[places[rows]]), count,
            lambda _, columns: radii[columns],
        )  # fmt: skip
        if pairs is None:
            return None
        member, of, _ = pairs
        return self._halved(lambda half: (of, half[member]), count, len(features))

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
        self, found_by: Callable[[Booleans], tuple[Any, Any]], count: int, whole: int
    ) -> Array:
        """Return scaled differences of halves; the mean of their squares is the variance."""
        differences = np.empty((2, self._num_halvings))
        rng = np.random.default_rng([self._seed, count])
        for n in range(self._num_halvings):
            half = rng.permutation(count) < count // 2
            signs = rng.choice([-1.0, 1.0], len(self._real))
            differences[:, n] = _difference(*found_by(half), signs)
        reach = count / (2 * whole)
        return (np.sqrt([[reach], [max(self._share - reach, 0)]]) * differences).ravel()


def _spread(count: int, most: int) -> Any:
    """Return at most so many places, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.intp))


def _difference(found: Any, by_first: Any, signs: Array) -> tuple[float, float]:
    """Return how much more of the real images one half finds than the other; and with signs."""
    more = np.zeros(len(signs))
    more[found[by_first]] = 1
    second = np.zeros(len(signs))
    second[found[~by_first]] = 1
    more -= second
    return float(more.mean()), float((more * signs).mean())


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
