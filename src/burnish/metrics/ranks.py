"""Rank correlation: whether two metrics or feature extractors order the same things alike."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    r"""Return Spearman's rho of two lists of numbers ``[N]``, in [-1, 1]; None without an order.

    rho is Pearson's correlation of the ranks; equal numbers share the mean of their ranks. Without
    ties, :math:`\rho = 1 - 6 \sum_i d_i^2 / (N (N^2 - 1))`, with :math:`d_i` the difference of the
    two ranks of i. There is no order in fewer than two numbers, or if all of them are equal.
    """
    if len(first) != len(second):
        raise ValueError(f"ranks of {len(first)} and of {len(second)} numbers")
    one, two = _centered_ranks(first), _centered_ranks(second)
    scale = np.sqrt((one @ one) * (two @ two))
    return float(one @ two / scale) if scale > 0 else None


def _centered_ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Return ranks minus their mean, (N + 1) / 2."""
    _, places, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return ranks[places] - (len(values) + 1) / 2
