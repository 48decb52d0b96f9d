r"""Values of distances and the influence of each image on them, in float64.

Each estimator is made for one reference, and is then called with the features of images. Where
two images x and x' act together, by :math:`\psi_2(x, x')`, they know what :class:`Estimate` does
with it: the variance :math:`E \psi_2^2 / 2 N^2`, and :math:`E\, \psi(x) \psi_2(x, x') \psi(x') /
2 N E \psi^2`, the curvature.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from burnish.errors import InputError
from burnish.metrics.distances import cut
from burnish.metrics.intervals import Estimate
from burnish.metrics.moments import Array, Moments

Rows = NDArray[np.intp]

BLOCK = 1024
# Images, and pairs of them, from which second-order parts are estimated: they are means.
NUM_ROWS, NUM_PAIRS = 2048, 8192
# From so many pairs on, inner products are of float32: their errors average out.
MANY = 2**26


class FrechetEstimator:
    r"""The Fréchet distance (FD, FID) to one reference, and the influence of each image.

    With :math:`\mu, S` of the images, :math:`\mu_r, S_r` of the reference and
    :math:`a = x_i - \mu`,

    .. math::
        \psi_i = 2 (\mu - \mu_r)^T a + a^T (I - T) a - \text{mean}, \quad
        T = S_r^{1/2} (S_r^{1/2} S S_r^{1/2})^{-1/2} S_r^{1/2}

    T is the derivative of :math:`2\,\mathrm{tr} (S_r^{1/2} S S_r^{1/2})^{1/2}` with respect to S;
    the inverse is a pseudo-inverse where S is singular (N <= D), since other weights of the same
    images leave its range. With the eigenvalues :math:`s_k^2` and the rows
    :math:`p = s^{-1/2} V^T S_r^{1/2} a` of the eigenvectors V of the matrix in brackets,

    .. math::
        \psi_2(x, x') = \sum_{kl} \frac{p_k p'_k p_l p'_l}{s_k + s_l}
        + 2 p^T p' - \frac{|p|^2 + |p'|^2 - \sum_k s_k}{2}

    for N > D; it is not known otherwise. T and the value follow from the same eigenvalues then,
    and otherwise from a singular value decomposition :math:`A S_r^{1/2} / \sqrt{N - 1} = U s V^T`
    of the rows a: the trace is :math:`2 \sum_k s_k`, and
    :math:`a^T T a = (N - 1) \sum_k s_k U_{ik}^2`.

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
        check(features, len(self._mu))
        mean, scale = features.mean(0, dtype=np.float64), len(features) - 1
        half, roots = self._root, np.zeros(0)  # replaced where N > D
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
            roots = np.sqrt(values[kept])
            half = self._root @ (vectors[:, kept] / np.sqrt(roots))
            crossed, cross = np.empty(len(features)), roots.sum()
        for i in blocks:
            rows = np.asarray(features[i : i + BLOCK], np.float64) - mean
            squares[i : i + BLOCK] = (rows * rows).sum(1)
            influence[i : i + BLOCK] = 2 * rows @ shift
            if len(features) > len(mean):
                crossed[i : i + BLOCK] = np.square(rows @ half).sum(1)
        influence += squares - crossed
        influence -= influence.mean()
        second = (0.0, 0.0)
        if len(roots):
            chosen = _spread(len(features), 4 * NUM_ROWS)
            rows = np.asarray(features[chosen], np.float64) - mean
            second = self._second(rows @ half, influence[chosen], roots, len(features))
        value = shift @ shift + squares.sum() / scale + self._trace - 2 * cross
        return Estimate(max(float(value), 0.0), influence, False, *second)

    @staticmethod
    def _second(p: Array, influence: Array, s: Array, count: int) -> tuple[float, float]:
        weights = 1 / (s[:, None] + s)
        weighted = p.T @ (p * influence[:, None]) / len(p)
        bent = 2 * np.square(influence @ p / len(p)).sum() + (weights * np.square(weighted)).sum()
        total, rng = 0.0, np.random.default_rng(0)
        for _ in range(0, NUM_PAIRS, BLOCK):
            i = rng.integers(len(p), size=BLOCK)
            j = (i + rng.integers(1, len(p), size=BLOCK)) % len(p)
            both, squares = p[i] * p[j], np.square(p[i]) + np.square(p[j])
            found = ((both @ weights) * both).sum(1) + (2 * both - squares / 2).sum(1)
            total += np.square(found + s.sum() / 2).mean() * BLOCK / NUM_PAIRS
        return _second_order(total, float(bent), influence, count)


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
        check(reference, reference.shape[-1])
        self._gaussian, self._reference = gaussian, reference
        self._within = float(self._mean_of_others(reference).mean())

    def __call__(self, features: Array) -> Estimate:
        """Return the distance of features ``[N, D]`` of at least two images."""
        check(features, self._reference.shape[1])
        others = self._mean_of_others(features)
        across = self._sums(features, self._reference) / len(self._reference)
        scale = 1000 if self._gaussian else 1
        influence = 2 * scale * (others - across)
        value = scale * (others.mean() + self._within - 2 * across.mean())
        influence -= influence.mean()
        chosen = _spread(len(features), NUM_ROWS)
        some, few, weights = self._rows(features[chosen]), len(chosen), influence[chosen]
        kernel = self._kernel(some, some).fill_diagonal_(0).numpy() * (2 * scale)
        means = kernel.sum(1) / max(few - 1, 1)
        kernel += means.mean() - means[:, None] - means
        np.fill_diagonal(kernel, 0)
        square = float(np.square(kernel).sum()) / (few * max(few - 1, 1))
        bent = float(weights @ kernel @ weights) / few**2
        second = _second_order(square, bent, weights, len(features))
        if self._gaussian:  # a mean over all pairs, and less than 0 by rounding alone
            value = max(value, 0.0)
        return Estimate(float(value), influence, False, *second)

    def _rows(self, features: Array, num_pairs: int = 0) -> torch.Tensor:
        rows = torch.from_numpy(features.astype(np.float64))
        if self._gaussian:
            rows /= rows.norm(dim=1, keepdim=True).clamp_min(1e-300)
        return rows.float() if num_pairs > MANY else rows

    def _kernel(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        products = (x @ y.T).double()
        if self._gaussian:
            return ((products - 1) / 100).exp_()  # |x - y|^2 = 2 - 2 x y
        root = products.div_(x.shape[1]).add_(1)
        return root * root * root

    def _sums(self, x: Array, y: Array) -> Array:
        """Return the sum of the kernel of each row of x with all rows of y, ``[N]``."""
        sums, count = np.zeros(len(x)), len(x) * len(y)
        for rows in cut(len(x)):
            left = self._rows(x[rows], count)
            for columns in cut(len(y)):
                kernel = self._kernel(left, self._rows(y[columns], count))
                sums[rows] += kernel.sum(1).numpy()
        return sums

    def _mean_of_others(self, x: Array) -> Array:
        """Return the mean kernel of each row with the others, of the CMMD with all, ``[N]``."""
        sums, count = np.zeros(len(x)), len(x) ** 2
        for rows in cut(len(x)):
            left = self._rows(x[rows], count)
            for columns in cut(len(x), first=rows.start):  # the kernel is symmetric
                kernel = self._kernel(left, self._rows(x[columns], count))
                if rows == columns and not self._gaussian:
                    kernel.fill_diagonal_(0)
                sums[rows] += kernel.sum(1).numpy()
                if columns.start > rows.start:
                    sums[columns] += kernel.sum(0).numpy()
        return sums / (len(x) if self._gaussian else len(x) - 1)


def check(features: Array, dim: int) -> None:
    """Raise InputError unless features are ``[N, dim]`` of at least two images."""
    if features.ndim != 2 or features.shape[1] != dim or len(features) < 2:
        raise InputError(f"features must be [N, {dim}] with N of 2 or more, not {features.shape}")


def _spread(count: int, most: int) -> Rows:
    """Return at most so many places, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.intp))


def _second_order(square: float, bent: float, influence: Array, count: int) -> tuple[float, float]:
    """Return variance and curvature from two means over pairs, see above."""
    slope = float(np.square(influence).mean())
    return square / (2 * count**2), bent / (2 * count * slope) if slope else 0.0
