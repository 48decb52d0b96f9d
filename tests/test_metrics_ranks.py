"""Rank correlation, against values by hand."""

import pytest

from burnish.metrics.ranks import rank_correlation


def test_spearmans_rho_of_distinct_and_of_tied_values():
    # 1 - 6 sum d^2 / (N (N^2 - 1)) with differences 1, 1, 0, 1, 1; only the order matters.
    assert rank_correlation([1, 2, 3, 4, 5], [20, 10, 300, 5000, 4000]) == pytest.approx(0.8)
    assert rank_correlation([1, 2, 3], [9, 8, -1]) == pytest.approx(-1)
    # Ranks 1.5 1.5 3 4 and 1 2 3.5 3.5: Pearson's is 4 / 4.5 by hand.
    assert rank_correlation([5, 5, 6, 7], [0, 1, 2, 2]) == pytest.approx(4 / 4.5)
    assert rank_correlation([1, 2], [3, 3]) is None and rank_correlation([1], [2]) is None
    with pytest.raises(ValueError, match="2 and of 1"):
        rank_correlation([1, 2], [1])
