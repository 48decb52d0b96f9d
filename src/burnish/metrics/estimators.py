"""Values of distances and the influence of each image on them, in float64.

Each estimator is made for one reference, and is then called with the features of images.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from burnish.errors import InputError
from burnish.metrics.intervals import Estimate
from burnish.metrics.moments import Array, Moments

BLOCK = 1024
Rows = NDArray[np.intp]


class FrechetEstimator:
    r"""The Fréchet distance (FD, FID) to one reference, and the influence of each image.

    With :math:`\mu, S` of the images, :math:`\mu_r, S_r` of the reference and
    :math:`a = x_i - \mu`,

    .. math::
        \psi_i = 2 (\mu - \mu_r)^T a + a^T (I - T) a - \text{mean}, \quad
        T = S_r^{1/2} (S_r^{1/2} S S_r^{1/2})^{-1/2} S_r^{1/2}

    T is the derivative of :math:`2\,\mathrm{tr} (S_r^{1/2} S S_r^{1/2})^{1/2}` with respect to S;
    the inverse is a pseudo-inverse where S is singular (N <= D), since other weights of the same
    images leave its range. For N > D both follow from the eigenvalues of the matrix in brackets,
    ``[D, D]``; otherwise from one singular value decomposition
    :math:`A S_r^{1/2} / \sqrt{N - 1} = U s V^T` of the rows a: the trace is
    :math:`2 \sum_k s_k`, and :math:`a^T T a = (N - 1) \sum_k s_k U_{ik}^2`.

    Args:
        reference: Moments of the features of real images.
    """

    def __init__(self, reference: Moments) -> None:
        values, vectors = np.linalg.eigh((reference.sigma + reference.sigma.T) / 2)
        self._root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
        self._mu, self._trace = reference.mu, float(np.maximum(values, 0).sum())

    def value(self, moments: Moments) -> float:
        """Return the distance of images of which the moments alone are known."""
        values = np.linalg.eigvalsh(self._root @ moments.sigma @ self._root)
        shift, traces = moments.mu - self._mu, self._trace + np.trace(moments.sigma)
        cross = np.sqrt(np.maximum(values, 0)).sum()
        return max(float(shift @ shift + traces - 2 * cross), 0.0)

    def __call__(self, features: Array) -> Estimate:
        """Return the distance of features ``[N, D]`` of at least two images."""
        _check(features, len(self._mu))
        mean, scale = features.mean(0, dtype=np.float64), len(features) - 1
        half = self._root  # replaced where N > D
        shift, blocks = mean - self._mu, range(0, len(features), BLOCK)
        influence, squares = np.empty(len(features)), np.empty(len(features))
        if len(features) <= len(mean):
            rows = np.asarray(features, np.float64) - mean
            u, s, _ = np.linalg.svd(rows @ self._root / np.sqrt(scale), full_matrices=False)
            crossed, cross = scale * ((u * u) @ s), s.sum()
        else:
            scatter = np.zeros_like(self._root)
            for i in blocks:
                rows = np.asarray(features[i : i + BLOCK], np.float64) - mean
                scatter += rows.T @ rows
            values, vectors = np.linalg.eigh(self._root @ (scatter / scale) @ self._root)
            # What is below the precision of the largest is noise of either sign around zero.
            noise = np.finfo(np.float64).eps * len(values) * max(values[-1], 0)
            kept = values > noise
            # Columns v w^(-1/4): the sum of the squares of a row by them is a^T T a.
            half = self._root @ (vectors[:, kept] * values[kept] ** -0.25)
            crossed, cross = np.empty(len(features)), np.sqrt(values[kept]).sum()
        for i in blocks:
            rows = np.asarray(features[i : i + BLOCK], np.float64) - mean
            squares[i : i + BLOCK] = (rows * rows).sum(1)
            influence[i : i + BLOCK] = 2 * rows @ shift
            if len(features) > len(mean):
                crossed[i : i + BLOCK] = np.square(rows @ half).sum(1)
        influence += squares - crossed
        value = shift @ shift + squares.sum() / scale + self._trace - 2 * cross
        return Estimate(max(float(value), 0.0), influence - influence.mean())


class KernelEstimator:
    r"""A kernel distance to one reference over all pairs, and each image's influence.

    The unbiased estimate of :math:`MMD^2`, by default with
    :math:`k(x, y) = (x \cdot y / D + 1)^3`: the KID as in
    :func:`burnish.metrics.formulas.kernel_distance` but without subsets. The influence is twice
    the Hoeffding projection,

    .. math::
        \psi_i = 2 \left(\frac{1}{N - 1} \sum_{j \ne i} k(x_i, x_j)
        - \frac{1}{M} \sum_j k(x_i, y_j)\right) - \text{mean}

    Sources: Bińkowski et al., "Demystifying MMD GANs", 2018, section 4,
    https://arxiv.org/abs/1801.01401; for ``gaussian``, Jayasumana et al., "Rethinking FID: Towards
    a Better Evaluation Metric for Image Generation", 2024, https://arxiv.org/abs/2401.09603. That
    one, the CMMD, takes features of length 1, :math:`k = \exp(-|x - y|^2 / (2 \cdot 10^2))`, the
    biased mean over all pairs (each image with itself, too), and multiplies by 1000.

    Args:
        reference: Features ``[M, D]`` of at least two real images.
        gaussian: The kernel of the CMMD.
    """

    def __init__(self, reference: Array, *, gaussian: bool = False) -> None:
        _check(reference, reference.shape[-1])
        self._gaussian, self._dim = gaussian, reference.shape[1]
        self._reference = self._prepared(reference)
        self._within = float(self._mean_of_others(self._reference).mean())

    def __call__(self, features: Array) -> Estimate:
        """Return the distance of features ``[N, D]`` of at least two images."""
        _check(features, self._dim)
        rows = self._prepared(features)
        others = self._mean_of_others(rows)
        across = self._sums(rows, self._reference) / len(self._reference)
        scale = 1000 if self._gaussian else 1
        influence = 2 * scale * (others - across)
        value = scale * (others.mean() + self._within - 2 * across.mean())
        return Estimate(float(value), influence - influence.mean())

    def _prepared(self, features: Array) -> torch.Tensor:
        rows = torch.from_numpy(np.asarray(features, np.float64))
        return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-300) if self._gaussian else rows

    def _kernel(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if self._gaussian:
            return ((x @ y.T - 1) / 100).exp_()  # |x - y|^2 = 2 - 2 x y
        root = (x @ y.T).div_(self._dim).add_(1)
        return root * root * root

    def _sums(self, x: torch.Tensor, y: torch.Tensor) -> Array:
        """Return the sum of the kernel of each row of x with all rows of y, ``[N]``."""
        sums = torch.zeros(len(x), dtype=torch.float64)
        for i in range(0, len(x), BLOCK):
            for j in range(0, len(y), BLOCK):
                sums[i : i + BLOCK] += self._kernel(x[i : i + BLOCK], y[j : j + BLOCK]).sum(1)
        return sums.numpy()

    def _mean_of_others(self, x: torch.Tensor) -> Array:
        """Return the mean kernel of each row with the others, of the CMMD with all, ``[N]``."""
        sums = torch.zeros(len(x), dtype=torch.float64)
        for i in range(0, len(x), BLOCK):
            for j in range(i, len(x), BLOCK):  # the kernel is symmetric
                kernel = self._kernel(x[i : i + BLOCK], x[j : j + BLOCK])
                sums[i : i + BLOCK] += kernel.sum(1)
                if j > i:
                    sums[j : j + BLOCK] += kernel.sum(0)
        if self._gaussian:
            return sums.numpy() / len(x)
        own = ((x * x).sum(1) / self._dim + 1) ** 3
        return (sums - own).numpy() / (len(x) - 1)


class SlicedEstimator:
    r"""MIND, the squared 2-Wasserstein distance of projections, and each image's influence.

    .. math:: \frac{3 D}{L} \sum_{l = 1}^{L} W_2^2(u_l^T X, u_l^T Y)

    over L random directions :math:`u_l` of length 1. In one dimension the optimal transport joins
    equal quantiles; sets of unequal sizes are joined by quantiles as well, where torch-fidelity
    draws a part of the larger one. For equal sizes it is torch-fidelity's number. No covariance is
    estimated, but the mean still falls as N grows. The influence is the Kantorovich potential
    :math:`\varphi` of each direction, with :math:`\varphi'(x) = 2 (x - T(x))` and T the transport.
    Source: Berthet et al., "MIND: Monge Inception Distance for Generative Models Evaluation",
    2026, https://arxiv.org/abs/2605.06797.

    Args:
        reference: Features ``[M, D]`` of real images.
        num_directions: L.
        seed: Of the directions.
    """

    def __init__(self, reference: Array, *, num_directions: int = 1000, seed: int = 2020) -> None:
        _check(reference, reference.shape[-1])
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(num_directions, reference.shape[1], generator=generator)
        self._directions = (directions / directions.norm(dim=1, keepdim=True)).double()
        self._reference = [np.sort(rows, axis=1) for rows in self._projected(reference)]

    def __call__(self, features: Array) -> Estimate:
        """Return the distance of features ``[N, D]`` of at least two images."""
        _check(features, self._directions.shape[1])
        count, total = len(features), 0.0
        potential = np.zeros(count)
        for x, y in zip(self._projected(features), self._reference, strict=True):
            widths, first, second = _quantiles(count, y.shape[1])
            order = np.argsort(x, axis=1)
            x = np.take_along_axis(x, order, axis=1)
            total += (np.square(x[:, first] - y[:, second]) @ widths).sum()
            # T(x_i) is the mean of what row i is carried to.
            shares = np.add.reduceat(
                y[:, second] * widths, np.searchsorted(first, range(count)), 1
            )
            slope = 2 * (x - count * shares)
            steps = np.diff(x, axis=1) * (slope[:, 1:] + slope[:, :-1]) / 2
            values = np.concatenate([np.zeros((len(x), 1)), np.cumsum(steps, axis=1)], axis=1)
            for row, places in zip(values, order, strict=True):
                potential[places] += row
        scale = 3 * self._directions.shape[1] / len(self._directions)
        potential *= scale
        return Estimate(float(scale * total), potential - potential.mean())

    def _projected(self, features: Array) -> Iterator[Array]:
        rows = torch.from_numpy(np.asarray(features))
        size = max(1, min(100, 2**22 // len(rows)))  # 32 MB of projections
        for part in self._directions.split(size):
            blocks = [part @ block.double().T for block in rows.split(BLOCK)]
            yield torch.cat(blocks, dim=1).numpy()


def _quantiles(count: int, other: int) -> tuple[Array, Rows, Rows]:
    """Return the widths of the joint steps of two quantile functions, and the rows in both."""
    edges = np.union1d(np.arange(1, count + 1) * other, np.arange(1, other + 1) * count)
    widths = np.diff(edges, prepend=0)
    starts = edges - widths
    return widths / (count * other), starts // other, starts // count


def _check(features: Array, dim: int) -> None:
    if features.ndim != 2 or features.shape[1] != dim or len(features) < 2:
        raise InputError(f"features must be [N, {dim}] with N of 2 or more, not {features.shape}")
