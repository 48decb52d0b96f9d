r"""The spread of precision, recall, density and coverage, of recall and coverage by halving.

Precision and density are means over the generated images; each image's part is its influence.

Recall and coverage are shares of real images that are found by *any* generated image. A real image
is found by a few images only, however large N is, so that the effect of one image depends on the
others. The jackknife and the bootstrap are wrong here, even for large N. (For coverage the
jackknife is too large by a factor of :math:`\lambda / (1 - e^{-\lambda})` in variance for
:math:`\lambda` images per neighborhood; a bootstrap leaves out a third of the images.) Instead the
images are cut into halves a and b at random, B times. The halves are independent sets of N / 2
images: the difference of what they find, :math:`f^a_j - f^b_j` for real image j, has twice the
variance of :math:`f_j` at N / 2. The number of images per ball is that at N: for recall, whose
balls shrink as N grows, with equal k; for coverage, with reference balls of 2 k neighbors. Then
the variance of one :math:`f_j` is that at N, too, and the covariances of two of them reach half as
far at N as at N / 2. With :math:`d_j = f^a_j - f^b_j`, M real images and random signs
:math:`\epsilon_j`, which leave the variances of single ones,

.. math::
    \mathrm{Var}(\theta_N) \approx \frac{1}{4 B M^2} \sum_b
    \Big[\big(\textstyle\sum_j d_j\big)^2 + \big(\sum_j \epsilon_j d_j\big)^2\Big]

The halves follow from N and a seed alone: in a difference of two sets of the same images, in one
order, both are halved alike, and what they share cancels.
"""

from typing import Any

import numpy as np
import torch

from burnish.metrics.intervals import Estimate
from burnish.metrics.moments import Array

BLOCK, NUM_HALVINGS = 1024, 200
# So many neighbors of each image are kept, of which half are in its half: k of them nearly always.
SPARE = 12
# More would take over 200 MB; recall and coverage then have no interval.
MAX_PAIRS = 2**24


class Neighborhoods:
    """Reference features around 0 in float32, and the nearest others of each image.

    Args:
        reference: Features ``[M, D]`` of real images.
        num_neighbors: How many others to know.
    """

    def __init__(self, reference: Array, num_neighbors: int) -> None:
        self._center = torch.from_numpy(reference.mean(0, dtype=np.float64)).float()
        self.features = self.moved(reference)
        self.squares, self.places = nearest_of(self.features, num_neighbors)

    def moved(self, features: Array) -> torch.Tensor:
        """Return features ``[N, D]`` moved as the reference is, so that little cancels."""
        return torch.from_numpy(np.asarray(features, np.float32)) - self._center


class NeighborEstimator:
    """Precision, recall, density and coverage against one reference, with their influences.

    Distances are computed in float32: an interval needs no more.

    Args:
        reference: At least 2 k neighbors of each of M real images.
        num_neighbors: k.
        seed: Of the halves.
        num_halvings: B.
    """

    def __init__(
        self, reference: Neighborhoods, num_neighbors: int = 3, *, seed: int = 0,
        num_halvings: int = NUM_HALVINGS,
    ) -> None:  # fmt: skip
        self._num_halvings = num_halvings
        self._moved, self._reference = reference.moved, reference.features
        self._k, self._seed = num_neighbors, seed
        self._radii = reference.squares[:, num_neighbors - 1]
        self._wide = reference.squares[:, 2 * num_neighbors - 1]

    def __call__(self, features: Array) -> dict[str, Estimate]:
        """Return the estimates of features ``[N, D]``, N > k, by key."""
        x = self._moved(features)
        count, real = len(x), len(self._reference)
        squares, neighbors = nearest_of(x, min(2 * self._k + SPARE, count - 1))
        around = torch.zeros(count)
        pairs: list[tuple[torch.Tensor, ...]] = []  # real images in the widest ball of a generated
        members: list[tuple[torch.Tensor, ...]] = []  # generated images in that of a real one
        covered = torch.zeros(real, dtype=torch.bool)
        recalled = torch.zeros(real, dtype=torch.bool)
        for i in range(0, count, BLOCK):
            for j in range(0, real, BLOCK):
                block = squares_of(x[i : i + BLOCK], self._reference[j : j + BLOCK])
                within = block <= self._radii[j : j + BLOCK]
                around[i : i + BLOCK] += within.sum(1)
                covered[j : j + BLOCK] |= within.any(0)
                recalled[j : j + BLOCK] |= (
                    block <= squares[i : i + BLOCK, self._k - 1, None]
                ).any(0)
                if sum(len(part[0]) for part in pairs) > MAX_PAIRS:
                    continue
                a, b = torch.nonzero(block <= squares[i : i + BLOCK, -1:], as_tuple=True)
                pairs.append(((a + i).int(), (b + j).int(), block[a, b]))
                a, b = torch.nonzero(block <= self._wide[j : j + BLOCK], as_tuple=True)
                members.append(((a + i).int(), (b + j).int()))
        inside = (around > 0).double().numpy()
        share = around.double().numpy() / self._k
        found = {
            "precision": Estimate(inside.mean(), inside - inside.mean()),
            "density": Estimate(share.mean(), share - share.mean()),
        }
        if count < 4 * self._k or max(sum(len(p[0]) for p in pairs), 1) > MAX_PAIRS:
            return found
        who, whom, far = (torch.cat(parts).numpy() for parts in zip(*pairs, strict=True))
        member, of = (torch.cat(parts).numpy() for parts in zip(*members, strict=True))
        near, ids = squares.numpy(), neighbors.numpy()
        recalls, coverages = (np.empty((2, self._num_halvings)) for _ in range(2))
        rng = np.random.default_rng([self._seed, count])
        for n in range(self._num_halvings):
            half = rng.permutation(count) < count // 2
            signs = rng.choice([-1.0, 1.0], real)
            same = half[ids] == half[:, None]
            # The place of the k-th neighbor in the same half; the last one where there is none.
            place = np.argmax(np.cumsum(same, axis=1) >= self._k, axis=1)
            place[same.sum(1) < self._k] = near.shape[1] - 1
            hit = far <= near[np.arange(count), place][who]
            recalls[:, n] = _difference(whom[hit], half[who[hit]], signs)
            coverages[:, n] = _difference(of, half[member], signs)
        shares = {"recall": (recalled, recalls), "coverage": (covered, coverages)}
        for key, (share, halves) in shares.items():
            value = float(share.double().mean())
            found[key] = Estimate(value, halves.ravel() / np.sqrt(2), halved=True)
        return found


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


def nearest_of(x: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return squared distances to the nearest other rows ``[N, count]``, ascending, and which."""
    squares, places = [], []
    for i in range(0, len(x), BLOCK):
        rows = x[i : i + BLOCK]
        best, where = torch.empty(len(rows), 0), torch.empty(len(rows), 0, dtype=torch.int64)
        for j in range(0, len(x), 8 * BLOCK):
            block = squares_of(rows, x[j : j + 8 * BLOCK])
            own = torch.arange(i, i + len(rows)) - j
            held = (own >= 0) & (own < block.shape[1])
            block[torch.arange(len(rows))[held], own[held]] = torch.inf
            near, place = block.topk(min(count, block.shape[1]), dim=1, largest=False)
            best, where = torch.cat([best, near], 1), torch.cat([where, place + j], 1)
            best, order = best.topk(min(count, best.shape[1]), dim=1, largest=False)
            where = where.gather(1, order)
        squares.append(best)
        places.append(where)
    return torch.cat(squares), torch.cat(places)
