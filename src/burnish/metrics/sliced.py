"""MIND: the Wasserstein distance of projections, and the influence of each image on it."""

from collections.abc import Iterator

import numpy as np
import torch

from burnish.metrics.estimators import BLOCK, Rows, check
from burnish.metrics.intervals import Estimate
from burnish.metrics.moments import Array

# Ways to halve the images for the second-order part, see SlicedEstimator.
NUM_HALVINGS, NUM_HALVED = 24, 250  # the latter are directions
NUM_TOGETHER = 50  # directions; 20 MB of projections at N = 50,000


class SlicedEstimator:
    r"""MIND, the squared 2-Wasserstein distance of projections, and each image's influence.

    .. math:: \frac{3 D}{L} \sum_{l = 1}^{L} W_2^2(u_l^T X, u_l^T Y)

    over L random directions :math:`u_l` of length 1. In one dimension the optimal transport joins
    equal quantiles; sets of unequal sizes are joined by quantiles as well, where torch-fidelity
    draws a part of the larger one. For equal sizes it is torch-fidelity's number. No covariance is
    estimated, but the mean still falls as N grows. The influence is the Kantorovich potential
    :math:`\varphi` of each direction, with :math:`\varphi'(x) = 2 (x - T(x))` and T the transport.
    If the images are halved at random, the sum of the MINDs of both halves varies by four times
    the variance of the second-order part: in it what single images add cancels. The curvature is
    the second difference of MIND where images weigh more or less by their influence.
    Source: Berthet et al., "MIND: Monge Inception Distance for Generative Models Evaluation",
    2026, https://arxiv.org/abs/2605.06797.

    Args:
        reference: Features ``[M, D]`` of real images.
        num_directions: L.
        seed: Of the directions.
    """

    def __init__(self, reference: Array, *, num_directions: int = 1000, seed: int = 2020) -> None:
        check(reference, reference.shape[-1])
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(num_directions, reference.shape[1], generator=generator)
        self._directions = (directions / directions.norm(dim=1, keepdim=True)).double()
        self._scale = 3 * reference.shape[1]
        self._reference = [np.sort(rows, axis=1) for rows in self._projected(reference)]

    def __call__(self, features: Array) -> Estimate:
        """Return the distance of features ``[N, D]`` of at least two images."""
        check(features, self._directions.shape[1])
        count, total, done = len(features), 0.0, 0
        rng, sums = np.random.default_rng(0), np.zeros(NUM_HALVINGS)
        halvings = [rng.permutation(count) for _ in range(NUM_HALVINGS)]
        potential = np.zeros(count)
        for x, y in zip(self._projected(features), self._reference, strict=True):
            widths, first, second = _quantiles(count, y.shape[1])
            order = np.argsort(x, axis=1)
            x = np.take_along_axis(x, order, axis=1)
            total += (np.square(x[:, first] - y[:, second]) @ widths).sum()
            target = _targets(count, y)
            if done < NUM_HALVED:
                sums += [_of_halves(x, target, places[order]) for places in halvings]
                done += len(x)
            slope = 2 * (x - target)
            steps = np.diff(x, axis=1) * (slope[:, 1:] + slope[:, :-1]) / 2
            values = np.concatenate([np.zeros((len(x), 1)), np.cumsum(steps, axis=1)], axis=1)
            for row, places in zip(values, order, strict=True):
                potential[places] += row
        scale = self._scale / len(self._directions)
        potential = scale * (potential - potential.mean())
        variance = float(np.var(self._scale / done * sums, ddof=1) / 4)
        curvature = self._curvature(features, potential)
        return Estimate(float(scale * total), potential, False, variance, curvature)

    def _curvature(self, features: Array, influence: Array) -> float:
        """Return the curvature, from the first directions alone: it is a mean over directions."""
        size = np.abs(influence).max()
        if not size:
            return 0.0
        count, spread = len(features), influence.std()
        step = min(1.96 / np.sqrt(count), 0.9 * spread / size)
        x = next(self._projected(features))
        order, target = np.argsort(x, axis=1), _targets(count, self._reference[0])
        x = np.take_along_axis(x, order, axis=1)
        levels = (np.arange(count) + 0.5) / count

        def value(move: float) -> float:
            weights = 1 + move * influence[order] / spread
            edges = np.cumsum(weights, axis=1) / count
            places = np.stack([np.searchsorted(one, levels) for one in edges])
            moved = np.take_along_axis(x, places.clip(max=count - 1), axis=1)
            return self._scale * float(np.square(moved - target).mean())

        return (value(step) + value(-step) - 2 * value(0)) / (2 * count * step**2)

    def _projected(self, features: Array) -> Iterator[Array]:
        rows = torch.from_numpy(np.asarray(features))
        for part in self._directions.split(NUM_TOGETHER):
            blocks = [part @ block.double().T for block in rows.split(BLOCK)]
            yield torch.cat(blocks, dim=1).numpy()


def _targets(count: int, y: Array) -> Array:
    """Return what each of ``count`` sorted images is carried to on average, ``[L, N]``."""
    widths, first, second = _quantiles(count, y.shape[1])
    return count * np.add.reduceat(y[:, second] * widths, np.searchsorted(first, range(count)), 1)


def _of_halves(x: Array, target: Array, places: Rows) -> float:
    """Return the sum of both halves' distances, up to what all halvings have in common."""
    half = x.shape[1] // 2
    target = target[:, : 2 * half].reshape(len(x), half, 2).mean(2)
    parts = (places < half), (places >= half) & (places < 2 * half)
    return sum(
        float(np.square(x[one].reshape(target.shape) - target).mean(1).sum()) for one in parts
    )


def _quantiles(count: int, other: int) -> tuple[Array, Rows, Rows]:
    """Return the widths of the joint steps of two quantile functions, and the rows in both."""
    edges = np.union1d(np.arange(1, count + 1) * other, np.arange(1, other + 1) * count)
    widths = np.diff(edges, prepend=0)
    starts = edges - widths
    return widths / (count * other), starts // other, starts // count
