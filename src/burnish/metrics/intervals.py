r"""Standard errors of changes of FD and KID: the same images before and after, one reference.

Both distances are smooth functions of the distribution of the images. To first order, the error
of an estimate from N images is :math:`\frac{1}{N} \sum_i \psi_i`, with :math:`\psi_i` the
*influence* of image i. Where the rows of two sets are paired, the standard error of the difference
is therefore

.. math:: \sqrt{\mathrm{Var}_i(\psi_i^{after} - \psi_i^{before}) / N}

This is the infinitesimal jackknife, the first-order paired bootstrap, at the price of one
estimate. The reference is taken as given. Source: Efron, "Nonparametric Estimates of Standard
Error: The Jackknife, the Bootstrap and Other Methods", 1981,
https://doi.org/10.1093/biomet/68.3.589.

**What the interval of an FD is of.** An FD of N images is too high by a bias of order D / N. Both
sides have it, and it cancels as far as the images stay alike. Of a larger change a part remains:
differences grow as N falls, and images that lose variance gain. In simulations (heavy-tailed
features, N / D from 25 down to 1/4) the standard error was .95 to 1.4 times the true one, also for
N < D. The interval covered the mean of the difference *at that N* in 93 to 100 % of the cases;
but for N up to 2 D it mostly missed the difference of infinitely many images. So compare FDs
of equal N alone, and where N is less than a few times D believe a change only if the KID, which
has no such bias, says the same. (Bootstrap percentiles would be worse: resampling repeats images,
which adds the bias of fewer images to an FD, and pairs of equal images to a KID.)
"""

from dataclasses import dataclass

import numpy as np

from burnish.errors import InputError
from burnish.metrics.moments import Array, Moments

Z95 = 1.959964  # a normal variable lies within so many standard deviations 95 % of the time


@dataclass(frozen=True)
class Estimate:
    """A distance and the influence of each image on it."""

    value: float
    influence: Array
    """``[N]`` float64, with mean 0."""


@dataclass(frozen=True)
class Change:
    """A difference, after minus before, with its 95 % confidence interval."""

    difference: float
    std_error: float
    low: float
    high: float


def paired_change(before: Estimate, after: Estimate) -> Change:
    """Return the change between two estimates whose rows are the same images, in one order.

    Raises:
        InputError: They are of different numbers of images.
    """
    if len(before.influence) != len(after.influence):
        counts = f"{len(before.influence)} and {len(after.influence)}"
        raise InputError(f"paired sets have equal numbers of images, not {counts}")
    difference = after.value - before.value
    spread = np.std(after.influence - before.influence, ddof=1)
    error = float(spread / np.sqrt(len(after.influence)))
    return Change(difference, error, difference - Z95 * error, difference + Z95 * error)


class FrechetEstimator:
    r"""The Fréchet distance (FD, FID) to one reference, and the influence of each image.

    With :math:`\mu, S` of the images, :math:`\mu_r, S_r` of the reference and
    :math:`a = x_i - \mu`,

    .. math::
        \psi_i = 2 (\mu - \mu_r)^T a + a^T (I - T) a - \text{mean}, \quad
        T = S_r^{1/2} (S_r^{1/2} S S_r^{1/2})^{-1/2} S_r^{1/2}

    T is the derivative of :math:`2\,\mathrm{tr} (S_r^{1/2} S S_r^{1/2})^{1/2}` with respect to S;
    the inverse is a pseudo-inverse where S is singular (N <= D), since other weights of the same
    images leave its range. Both follow from one singular value decomposition
    :math:`A S_r^{1/2} / \sqrt{N - 1} = U s V^T` of the rows a: the trace is
    :math:`2 \sum_k s_k`, and :math:`a^T T a = (N - 1) \sum_k s_k U_{ik}^2`.

    Args:
        reference: Moments of the features of real images.
    """

    def __init__(self, reference: Moments) -> None:
        values, vectors = np.linalg.eigh((reference.sigma + reference.sigma.T) / 2)
        self._root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
        self._mu, self._trace = reference.mu, float(np.maximum(values, 0).sum())

    def __call__(self, features: Array) -> Estimate:
        """Return the distance of features ``[N, D]`` of at least two images."""
        rows = _float64(features, len(self._mu))
        shift, scale = rows.mean(0) - self._mu, len(rows) - 1
        rows = rows - rows.mean(0)
        u, s, _ = np.linalg.svd(rows @ self._root / np.sqrt(scale), full_matrices=False)
        squares = (rows * rows).sum(1)
        influence = 2 * rows @ shift + squares - scale * ((u * u) @ s)
        value = shift @ shift + squares.sum() / scale + self._trace - 2 * s.sum()
        return Estimate(max(float(value), 0.0), influence - influence.mean())


class KernelEstimator:
    r"""The kernel distance (KID) to one reference over all pairs, and each image's influence.

    The unbiased estimate of :math:`MMD^2` with :math:`k(x, y) = (x \cdot y / D + 1)^3`, as in
    :func:`burnish.metrics.formulas.kernel_distance` but without subsets. The influence is twice
    the Hoeffding projection,

    .. math::
        \psi_i = 2 \left(\frac{1}{N - 1} \sum_{j \ne i} k(x_i, x_j)
        - \frac{1}{M} \sum_j k(x_i, y_j)\right) - \text{mean}

    Source: Bińkowski et al., "Demystifying MMD GANs", 2018, section 4,
    https://arxiv.org/abs/1801.01401.

    Args:
        reference: Features ``[M, D]`` of at least two real images.
    """

    def __init__(self, reference: Array) -> None:
        self._reference = _float64(reference, reference.shape[-1])
        self._within = float(_mean_of_others(self._reference).mean())

    def __call__(self, features: Array) -> Estimate:
        """Return the distance of features ``[N, D]`` of at least two images."""
        rows = _float64(features, self._reference.shape[1])
        others = _mean_of_others(rows)
        across = _kernel(rows, self._reference).mean(1)
        influence = 2 * (others - across)
        value = others.mean() + self._within - 2 * across.mean()
        return Estimate(float(value), influence - influence.mean())


def _kernel(x: Array, y: Array) -> Array:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mean_of_others(x: Array) -> Array:
    """Return the mean kernel of each row with the other rows, ``[N]``."""
    kernel = _kernel(x, x)
    return (kernel.sum(1) - kernel.diagonal()) / (len(x) - 1)


def _float64(features: Array, dim: int) -> Array:
    if features.ndim != 2 or features.shape[1] != dim or len(features) < 2:
        raise InputError(f"features must be [N, {dim}] with N of 2 or more, not {features.shape}")
    return np.asarray(features, np.float64)
