r"""What votes say, and how sure: formulas on plain numbers.

A *score* is 1 if a vote prefers the system in question, 0 if it prefers the other, 1/2 for "cannot
tell". **Votes of one rater are alike.** In the human answers of dgm-eval (41 experiments, 1,036
raters) shares differ between raters 5 to 9 times as much as independent votes would let them
(:func:`variance_ratio`). An interval on pooled votes is then two to three times too narrow. The
main interval is therefore Student's t on the raters' shares (:func:`t_interval`). In simulated
studies it holds from 8 raters on, where a bootstrap over raters is too narrow below about 50.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from burnish.survey.distributions import normal_quantile, t_quantile

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate and its interval; arrays if several studies were given at once."""

    value: float | Array
    low: float | Array
    high: float | Array


def t_interval(shares: ArrayLike, level: float = 0.95) -> Interval:
    r"""Return the mean of the raters' shares ``[..., R]`` and its interval.

    :math:`\bar x \pm t_{R-1} \, s / \sqrt R`, with s the standard deviation of the R shares. What
    is repeated is the rater: it holds however much votes of one rater depend on each other. If all
    raters see the same few pairs, it does not cover the choice of pairs.
    Source: Student, "The Probable Error of a Mean", 1908, https://doi.org/10.2307/2331554.

    Raises:
        ValueError: Fewer than two raters.
    """
    shares = np.asarray(shares, np.float64)
    count = shares.shape[-1]
    if count < 2:
        raise ValueError("an interval needs two raters")
    mean, spread = shares.mean(-1), shares.std(-1, ddof=1)
    half = t_quantile((1 + level) / 2, count - 1) * spread / math.sqrt(count)
    return Interval(mean, mean - half, mean + half)


def wilson_interval(wins: float, votes: float, level: float = 0.95) -> Interval:
    r"""Return the share of wins and its interval, were all votes independent.

    :math:`(p + z^2 / 2n \pm z \sqrt{p (1 - p) / n + z^2 / 4n^2}) / (1 + z^2 / n)`. Source: Wilson,
    "Probable Inference", 1927, https://doi.org/10.1080/01621459.1927.10502953.
    """
    if not votes > 0:
        raise ValueError("an interval needs a vote")
    z, p = normal_quantile((1 + level) / 2), wins / votes
    center = p + z * z / (2 * votes)
    half = z * math.sqrt(p * (1 - p) / votes + z * z / (4 * votes * votes))
    scale = 1 + z * z / votes
    return Interval(p, (center - half) / scale, (center + half) / scale)


def crossed_bootstrap(
    raters: ArrayLike, items: ArrayLike, scores: ArrayLike,
    level: float = 0.95, draws: int = 10_000, seed: int = 0,
) -> Interval:  # fmt: skip
    """Return the mean score and its percentile interval over other raters and other images.

    Raters and images are drawn anew, with replacement, independently of each other; a vote counts
    as often as its rater times as often as its image was drawn. Where each image was seen by one
    rater the interval is too wide, since it counts the chance of single votes up to three times.
    Source: Owen, "The pigeonhole bootstrap", 2007, https://doi.org/10.1214/07-AOAS122.

    Args:
        raters: The rater of each vote, ``[V]``.
        items: The image (pair) of each vote, ``[V]``.
        scores: The score of each vote, ``[V]``.
        level: Share of draws within the interval.
        draws: Number of draws.
        seed: Of the draws.
    """
    rater, item = (np.unique(np.asarray(one), return_inverse=True)[1] for one in (raters, items))
    scores = np.asarray(scores, np.float64)
    num_raters, num_items = int(rater.max()) + 1, int(item.max()) + 1
    votes, sums = np.zeros((2, num_raters, num_items))
    np.add.at(votes, (rater, item), 1)
    np.add.at(sums, (rater, item), scores)
    rng, means = np.random.default_rng(seed), []
    chunk = max(1, 4_000_000 // (num_raters + num_items))
    for start in range(0, draws, chunk):
        size = min(chunk, draws - start)
        by_rater = rng.multinomial(num_raters, np.full(num_raters, 1 / num_raters), size)
        by_item = rng.multinomial(num_items, np.full(num_items, 1 / num_items), size)
        total = ((by_rater @ votes) * by_item).sum(1)
        seen = total > 0  # a draw without a vote says nothing
        means.append(((by_rater @ sums) * by_item).sum(1)[seen] / total[seen])
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(scores.mean()), float(low), float(high))


def variance_ratio(shares: ArrayLike, votes: float) -> float:
    r"""Return how much more raters differ than independent votes would let them.

    :math:`\mathrm{Var}(x_r) \, / \, (\bar x (1 - \bar x) / m)` of the raters' shares of m votes
    each. It estimates :func:`design_effect`.
    """
    shares = np.asarray(shares, np.float64)
    mean = shares.mean()
    return float(shares.var(ddof=1) * votes / (mean * (1 - mean)))


def intraclass_correlation(scores: Sequence[ArrayLike]) -> float:
    r"""Return how much more alike two votes of one rater are than two of different raters.

    The one-way estimate :math:`(B - W) / (B + (m_0 - 1) W)` of mean squares between (B) and within
    (W) the R raters, with :math:`m_0 = (n - \sum_r m_r^2 / n) / (R - 1)` for raters of unequal
    numbers of votes. It may be slightly negative. 0 if all votes are equal.
    Source: Donner, "A Review of Inference Procedures for the Intraclass Correlation Coefficient",
    1986, https://doi.org/10.2307/1403259.

    Args:
        scores: The scores of each rater; at least two raters, one of whom has two votes.
    """
    rows = [np.asarray(row, np.float64) for row in scores if np.size(row)]
    sizes = np.array([row.size for row in rows], np.float64)
    total, num = sizes.sum(), len(rows)
    if num < 2 or total <= num:
        raise ValueError("a correlation needs two raters, and two votes of one of them")
    means = np.array([row.mean() for row in rows])
    overall = (sizes * means).sum() / total
    between = (sizes * (means - overall) ** 2).sum() / (num - 1)
    within = sum(((row - row.mean()) ** 2).sum() for row in rows) / (total - num)
    size = (total - (sizes**2).sum() / total) / (num - 1)
    below = between + (size - 1) * within
    return float((between - within) / below) if below > 0 else 0.0


def design_effect(correlation: float, votes: float) -> float:
    r"""Return by how much the variance exceeds that of independent votes: :math:`1 + (m - 1) ICC`.

    With m votes of each rater. Source: Kish, *Survey Sampling*, 1965, section 5.4.
    """
    return 1 + (votes - 1) * correlation


def raters_needed(
    share: float, votes: int, correlation: float, power: float = 0.8, level: float = 0.95
) -> int:
    r"""Return the raters with m votes each that find a true share to differ from one half.

    The smallest :math:`R \ge ((t_{R-1, .975} + t_{R-1, .8}) \, s / (p - 1/2))^2`, with
    :math:`s^2 = p (1 - p) (1 + (m - 1) ICC) / m` the variance of a rater's share. The
    usual formula of two errors with t in place of z, since few raters are the usual case. Source:
    Lehmann and Romano, *Testing Statistical Hypotheses*, 2005, chapter 5.
    """
    if not 0 < share < 1 or share == 0.5:
        raise ValueError("the share lies between 0 and 1 and is not one half")
    variance = share * (1 - share) * max(design_effect(correlation, votes), 1 / votes) / votes

    def enough(count: int) -> bool:
        wanted = t_quantile((1 + level) / 2, count - 1) + t_quantile(power, count - 1)
        return count >= wanted**2 * variance / (share - 0.5) ** 2

    high = 2
    while not enough(high):
        high *= 2
    low = high // 2  # not enough, or 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if middle > 1 and enough(middle) else (middle, high)
    return high


def bradley_terry(wins: ArrayLike, prior: float = 0.5) -> Array:
    r"""Return the log strengths of K systems, with mean 0, from wins ``[..., K, K]``.

    System i beats j with probability :math:`1 / (1 + e^{s_j - s_i})`. ``wins[i, j]`` counts the
    votes for i against j, a tie as half a vote for each. The maximum of the likelihood is found by
    the iteration of Hunter, "MM algorithms for generalized Bradley-Terry models", 2004,
    https://doi.org/10.1214/aos/1079120141; it does not depend on the order of votes, as Elo does.

    Args:
        wins: Counts; of several studies at once if there are leading dimensions.
        prior: Added to the wins of each against each, so that a system without a win has a finite
            strength.
    """
    wins = np.asarray(wins, np.float64) + prior * (1 - np.eye(np.shape(wins)[-1]))
    pairs, won = wins + np.swapaxes(wins, -1, -2), wins.sum(-1)
    strength = np.ones_like(won)
    for _ in range(5000):
        below = (pairs / (strength[..., :, None] + strength[..., None, :])).sum(-1)
        new = won / below
        new /= np.exp(np.log(new).mean(-1, keepdims=True))
        moved = np.abs(np.log(new / strength)).max()
        strength = new
        if moved < 1e-10:
            break
    return np.log(strength)
