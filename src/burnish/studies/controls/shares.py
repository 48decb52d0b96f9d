r"""What part of a gain a control gives, with a 95 % interval.

A distance falls from b (baseline) to a (refined), and a control, made of the same baseline images,
brings it to c. The *share* of the gain that the control explains is

.. math:: S = \frac{b - c}{b - a}

It is 0 for a control that does nothing, 1 for one that gives the whole gain, and negative for one
that does harm. With the influences :math:`\psi_i` of baseline image i on each distance (see
:mod:`burnish.metrics.intervals`), that on the share is, to first order,

.. math:: \frac{(\psi^b_i - \psi^c_i) - S (\psi^b_i - \psi^a_i)}{b - a}

and the standard error is the root of its variance over N. Shares of several controls do not add
up: two controls may do the same.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from burnish.metrics.intervals import Z95, Estimate
from burnish.metrics.moments import Array

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Share:
    """A share of a gain, with its 95 % interval."""

    share: float
    low: float
    high: float


def folded(estimate: Estimate, rows: Places | None, count: int) -> Array:
    """Return the influence ``[count]`` of each image on a distance of some rows of them.

    Args:
        estimate: Of the images at ``rows``, repeats included.
        rows: Places ``[m]``; None for all in order.
        count: Number of images, N.
    """
    if rows is None:
        return estimate.influence
    found = np.zeros(count)
    np.add.at(found, rows, estimate.influence * (count / len(rows)))
    return found


def share_of(
    before: Estimate, after: Estimate, start: Estimate, control: Estimate, *,
    paired: bool, apart: bool = False, rows: Places | None = None,
) -> Share | None:  # fmt: skip
    """Return the share of the gain from ``before`` to ``after`` that a control explains.

    Args:
        before: Of all N baseline images.
        after: Of the refined images.
        start: Of as many baseline images as the control has: the first ones. A distance depends on
            the number of images, so a control of fewer is compared with as few.
        control: Of the control.
        paired: Whether refined image i was made of baseline image i.
        apart: Whether the control was not made of the baseline images, but drawn by itself.
        rows: Which baseline images the control consists of; None for all in order.

    Returns:
        None if the gain is not above 0 by two standard errors: nothing is to be explained.
    """
    count, size = len(before.influence), len(control.influence)
    gain, found = before.value - after.value, start.value - control.value
    # What the baseline images bring to both differences, and what comes from other images.
    of_gain = before.influence - (after.influence if paired else 0)
    others = 0.0 if paired else _squared_error(after.influence)
    if gain <= Z95 * np.sqrt(_squared_error(of_gain) + others):
        return None
    first = None if size == count else np.arange(size)
    of_found = folded(start, first, count) - (0 if apart else folded(control, rows, count))
    share = found / gain
    squared = _squared_error(of_found - share * of_gain) + share**2 * others
    squared += _squared_error(control.influence) if apart else 0.0
    error = float(np.sqrt(squared)) / gain
    return Share(share, share - Z95 * error, share + Z95 * error)


def _squared_error(influence: Array) -> float:
    return float(np.var(influence, ddof=1) / len(influence))
