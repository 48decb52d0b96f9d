"""Mean and covariance of features, accumulated in float64 over batches of any size."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from burnish.errors import InputError

Array = NDArray[np.floating]
ROWS = 250


@dataclass(frozen=True)
class Moments:
    """Mean ``[D]`` and covariance with N - 1 ``[D, D]`` of features: finite float64."""

    mu: Array
    sigma: Array

    def __post_init__(self) -> None:
        mu, sigma = self.mu, self.sigma
        if mu.ndim != 1 or not mu.size or sigma.shape != (mu.size, mu.size):
            raise InputError(f"mu {mu.shape} and sigma {sigma.shape} are not [D], [D, D]")
        if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
            raise InputError("the feature statistics hold NaN or infinite values")

    def equal(self, other: "Moments") -> bool:
        """Return whether both are of the same images, up to the rounding of sums."""
        variance = float(np.trace(self.sigma)) / self.mu.size
        return all(
            mine.shape == its.shape and bool(np.abs(mine - its).max() <= 1e-6 * scale)
            for mine, its, scale in (
                (self.mu, other.mu, variance**0.5), (self.sigma, other.sigma, variance)
            )
        )  # fmt: skip


def check_covariance(sigma: Array) -> None:
    """Raise InputError if a matrix is not symmetric or has negative eigenvalues.

    Other tools compute in float32, so a little of either is taken for rounding.
    """
    size, variances = np.abs(sigma).max(), np.diag(sigma)
    if np.abs(sigma - sigma.T).max() > 1e-5 * size:
        raise InputError("sigma is no covariance: it is not symmetric")
    floor = 1e-6 * np.abs(variances).sum() + np.finfo(np.float32).tiny
    try:
        np.linalg.cholesky(sigma + floor * np.eye(len(sigma)))
    except np.linalg.LinAlgError:
        raise InputError("sigma is no covariance: it has negative eigenvalues") from None


class MomentSum:
    r"""Moments of features that come in batches.

    The mean :math:`m_b` and the scatter :math:`S_b` of each batch of :math:`n_b` rows are merged
    into those of the n rows before it, and no large squares are subtracted:

    .. math:: S \leftarrow S + S_b + \frac{n n_b}{n + n_b} (m_b - m)(m_b - m)^T

    Source: Chan, Golub and LeVeque, "Algorithms for Computing the Sample Variance: Analysis and
    Recommendations", 1983, the pairwise update, https://doi.org/10.1080/00031305.1983.10483115.

    Args:
        mean: Type that the mean is computed in. With float32 it is ``numpy.mean`` of all rows at
            once in that type, as some tools have it; the covariance does not change.
    """

    def __init__(self, mean: Literal["float64", "float32"] = "float64") -> None:
        self.count = 0
        self._sum: Array | None = None if mean == "float64" else np.zeros((), np.float32)
        self._mu: Array = np.zeros(())
        self._scatter: Array = np.zeros(())

    def add(self, features: Array) -> None:
        """Add a batch ``[B, D]``; D is that of the first batch."""
        x = np.asarray(features, dtype=np.float64)
        if not len(x):
            return
        if self._sum is not None:  # numpy adds row after row, so batches leave no trace
            first = np.broadcast_to(self._sum, x.shape[1:])[None]
            self._sum = np.add.reduce(np.concatenate([first, x.astype(np.float32)]), axis=0)
        mean, total = x.mean(axis=0), self.count + len(x)
        shift, x = mean - self._mu, x - mean
        between = np.outer(shift, shift * (self.count * len(x) / total))
        self._scatter = self._scatter + (x.T @ x + between)
        self._mu = self._mu + shift * (len(x) / total)
        self.count = total

    def moments(self) -> Moments:
        """Return the moments of all batches; InputError if there were fewer than two rows."""
        if self.count < 2:
            raise InputError(f"a covariance needs at least 2 images, not {self.count}")
        mu = self._mu if self._sum is None else (self._sum / np.float32(self.count))
        return Moments(mu.astype(np.float64), self._scatter / (self.count - 1))


def moments_of(features: Array, mean: Literal["float64", "float32"] = "float64") -> Moments:
    """Return the moments of features ``[N, D]``, of which some rows at a time become float64."""
    total = MomentSum(mean)
    for i in range(0, len(features), ROWS):
        total.add(features[i : i + ROWS])
    return total.moments()
