r"""Intervals of metrics and of their differences: images are drawn, the reference is given.

To first order, the error of an estimate from N images is :math:`\frac{1}{N} \sum_i \psi_i`,
with :math:`\psi_i` the *influence* of image i. Where the rows of two sets are paired, the standard
error of a difference is therefore

.. math:: \sqrt{\mathrm{Var}_i(\psi_i^{after} - \psi_i^{before}) / N}

This is the infinitesimal jackknife, the first-order paired bootstrap, at the price of one
estimate. Source: Efron, "Nonparametric Estimates of Standard Error: The Jackknife, the Bootstrap
and Other Methods", 1981, https://doi.org/10.1093/biomet/68.3.589.

**Distances.** Near the reference, an FD, a KID or a MIND is a square of something small: images
act in pairs, low values come with small standard errors, and values are skewed. Two corrections of
second order follow from the second derivative :math:`\psi_2(x, x')` and from the third moment.
The variance of the influences holds what pairs add, :math:`q = E \psi_2^2 / 2 N^2`, twice, and
what single images add is at least 0, so that the variance is :math:`\max(u - q, q)` for a u of the
jackknife. (Efron and Stein, "The Jackknife Estimate of Variance", 1981, section 4,
https://doi.org/10.1214/aos/1176345462.) The interval of a value, not that of a difference, goes
from :math:`v + c - h` to :math:`v + c + h` with

.. math:: c = (1 + 2 z^2) \frac{E \psi^3}{6 N E \psi^2}
    + (1 + z^2) \frac{E\, \psi(x) \psi_2(x, x') \psi(x')}{2 N E \psi^2}, \quad
    h = \sqrt{z^2 \sigma^2 + c^2}, \quad z = 1.96,

where :math:`\sigma` is the standard error. To second order the move c is that of the bootstrap's
BCa interval for the mean of the metric; it is at most twice :math:`z \sigma`. (DiCiccio and Efron,
"More Accurate Confidence Intervals in Exponential Families", 1992,
https://doi.org/10.1093/biomet/79.2.231.) That h is more than :math:`z \sigma` is ours and no
theorem: the ends are the solutions of :math:`(v - \theta)^2 = z^2 \sigma^2 + 2 c (\theta - v)`, so
that they always enclose the value. Far from 0 it changes little. At 0 the interval of a squared
mean would hold it in 69 % of cases without it, and so in more than 99 %.

Intervals are cut at the hard bounds of a metric (:data:`burnish.metrics.metric.METRICS`): no FD
or MIND lies below 0, no Inception Score below 1. The KID has none, as it is unbiased.

Recall and coverage ask for unions of balls, of which each holds a few images however many there
are. They have no influence that adds up; see :mod:`burnish.metrics.halves`.

**Shares** of 0 or 1 have no spread: that no image of N is a copy does not mean that none ever is.
The interval of a share p is Wilson's, with N such that :math:`p (1 - p) / N` is the squared error,
or the number of images where p is 0 or 1; for no copy in N it ends at :math:`z^2 / (N + z^2)`. The
standard error of a share and of a difference of two is at least :math:`1 / (N + 2)`: that of
Agresti and Min where not one image of a pair of sets changes sides, and a little above that of
Wilson's interval for a share of 0. Sources: Wilson, "Probable Inference, the Law of Succession,
and Statistical Inference", 1927, https://doi.org/10.1080/01621459.1927.10502953; Agresti and Min,
"Simple improved confidence intervals for comparing matched proportions", 2005,
https://doi.org/10.1002/sim.1781.

**What an interval is of.** It is of the mean that the metric has over new sets of *as many*
images, against the same reference. An FD of N images is too high by a bias of order D / N, and so
is a MIND; recall and coverage depend on N as well. The intervals do not cover what infinitely many
images would give. In a difference of equal N the bias cancels as far as the images stay alike. Of
a larger change a part remains: differences grow as N falls, and images that lose variance gain.
So compare equal N alone, and where N is less than a few times D believe a change of the FD only
if the KID, which has no such bias, says the same. (Bootstrap percentiles would be worse:
resampling repeats images, which adds the bias of fewer images to an FD, pairs of equal images to a
KID, and balls of radius 0 to a recall.) How often the intervals cover is measured by
``benchmarks/coverage.py``.
"""

from dataclasses import dataclass, replace

import numpy as np

from burnish.errors import InputError
from burnish.metrics.moments import Array

Z95 = 1.959964  # a normal variable lies within so many standard deviations 95 % of the time
# What is kept of halves, in this order, see burnish.metrics.halves: per halving one difference and
# one for each bucket of real images, then what each half finds by bucket, then what all images do.
NUM_HALVINGS, NUM_BUCKETS, NUM_WHOLE = 100, 8, 1024
DIFFERENCES = NUM_HALVINGS * (1 + NUM_BUCKETS)
HALVED_SIZE = DIFFERENCES + 2 * NUM_HALVINGS * NUM_BUCKETS + NUM_WHOLE


@dataclass(frozen=True)
class Estimate:
    """A value of a metric, and what its standard error is computed from."""

    value: float
    influence: Array
    """Of each image, ``[N]`` float64 with mean 0; or, for recall and coverage, what halves of the
    images find, ``[HALVED_SIZE]``."""
    halved: bool = False
    """Whether the influence is that of halves."""
    pair_variance: float = 0.0
    """Variance of what pairs of images add; that of the influences holds it twice."""
    curvature: float = 0.0
    """Half the second derivative where images are reweighted by their influence, over N."""
    trials: int = 0
    """Number of images that the value, or the value plus ``expected``, is a share of; else 0."""
    expected: float = 0.0

    def __post_init__(self) -> None:
        halved = not self.halved or len(self.influence) == HALVED_SIZE
        if self.influence.ndim != 1 or len(self.influence) < 2 or not halved:
            raise InputError(f"an influence must be [N], not {self.influence.shape}")

    @property
    def std_error(self) -> float:
        """The standard error of the value."""
        return max(self._error(), _least_error(self.trials))

    def _error(self) -> float:
        if self.halved:
            return float(np.linalg.norm(self.influence[:DIFFERENCES]))
        variance = float(np.var(self.influence, ddof=1)) / len(self.influence)
        # What single images add has a variance of 0 or more.
        return float(np.sqrt(max(variance - self.pair_variance, self.pair_variance)))

    def interval(self, least: float = -np.inf, most: float = np.inf) -> dict[str, float]:
        """Return ``value``, ``std_error``, ``low`` and ``high`` of the 95 % interval.

        Args:
            least: Hard bound of the metric; what the interval would hold below is left out.
            most: The same above.
        """
        error = self.std_error
        if self.trials:
            low, high = _wilson(self.value + self.expected, self._error(), self.trials)
            low, high = low - self.expected, high - self.expected
        else:
            # If images vary in one direction alone, the move is 1.75 z errors; more is rounding.
            far = 2 * Z95 * error
            shift = min(max(self._shift(), -far), far)
            half = float(np.hypot(Z95 * error, shift))
            low, high = self.value + shift - half, self.value + shift + half
        low, high = min(max(low, least), self.value), max(min(high, most), self.value)
        return {"value": self.value, "std_error": error, "low": low, "high": high}

    def over(self, scale: float) -> "Estimate":
        """Return the estimate of the metric divided by a number that is known."""
        pairs, bent = self.pair_variance / scale**2, self.curvature / scale
        return replace(
            self, value=self.value / scale, influence=self.influence / scale, pair_variance=pairs,
            curvature=bent,
        )  # fmt: skip

    def _shift(self) -> float:
        square, cube = (float(np.mean(self.influence**power)) for power in (2, 3))
        acceleration = cube / (6 * len(self.influence) * square) if square else 0.0
        return (1 + 2 * Z95**2) * acceleration + (1 + Z95**2) * self.curvature


def _least_error(trials: int) -> float:
    return 1 / (trials + 2) if trials else 0.0


def _wilson(share: float, error: float, trials: int) -> tuple[float, float]:
    """Return Wilson's interval of a share that has a standard error, if it is 0 or 1 by trials."""
    share = min(max(share, 0.0), 1.0)
    spread = share * (1 - share)
    count = spread / error**2 if spread and error else trials
    middle = (share + Z95**2 / (2 * count)) / (1 + Z95**2 / count)
    half = Z95 / (1 + Z95**2 / count) * np.sqrt(spread / count + (Z95 / (2 * count)) ** 2)
    return float(middle - half), float(middle + half)


@dataclass(frozen=True)
class Change:
    """A difference, after minus before, with its 95 % confidence interval."""

    difference: float
    std_error: float
    low: float
    high: float

    @property
    def is_significant(self) -> bool:
        """Whether the interval does not hold 0."""
        return self.low > 0 or self.high < 0


def paired_change(before: Estimate, after: Estimate) -> Change:
    """Return the change between two estimates whose rows are the same images, in one order.

    Raises:
        InputError: They are of different numbers of images.
    """
    if len(before.influence) != len(after.influence) or before.halved != after.halved:
        counts = f"{len(before.influence)} and {len(after.influence)}"
        raise InputError(f"paired sets have equal numbers of images, not {counts}")
    influence = after.influence - before.influence
    difference = after.value - before.value
    error = Estimate(difference, influence, after.halved).std_error
    if after.halved:
        of_halves, of_all = np.split(np.square(influence[DIFFERENCES:]), [-NUM_WHOLE])
        more = of_all.sum() / of_halves.sum() if of_halves.any() else 1.0
        error *= float(np.sqrt(max(more, 1.0)))
    error = max(error, _least_error(max(before.trials, after.trials)))
    return Change(difference, error, difference - Z95 * error, difference + Z95 * error)


def unpaired_change(
    before: float, after: float, before_error: float, after_error: float
) -> Change:
    """Return the change between two values of independent images, from their standard errors."""
    difference, error = after - before, float(np.hypot(before_error, after_error))
    return Change(difference, error, difference - Z95 * error, difference + Z95 * error)
