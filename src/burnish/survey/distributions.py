"""Student's t, the normal and the binomial distribution, as far as the survey needs them."""

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

_TINY = 1e-300


def incomplete_beta(a: float, b: float, x: float) -> float:
    r"""Return the regularized incomplete beta function :math:`I_x(a, b)`, x in [0, 1].

    By its continued fraction, evaluated by the method of Lentz; of the two forms the one that
    converges fast. Source: NIST Digital Library of Mathematical Functions, 8.17.4 and 8.17.22,
    https://dlmf.nist.gov/8.17.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    log_front += a * math.log(x) + b * math.log1p(-x)
    value, c, d = 1.0, 1.0, 0.0
    for n in range(1000):
        m = n // 2
        if n == 0:
            term = 1.0
        elif n % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / (1 + term * d or _TINY)
        c = 1 + term / c or _TINY
        value *= c * d
        if n and abs(c * d - 1) < 1e-15:
            break
    return math.exp(log_front) * (value - 1) / a


def t_cdf(t: float, df: float) -> float:
    r"""Return :math:`P(T \le t)` of Student's t with df > 0 degrees of freedom.

    :math:`1 - I_{\nu / (\nu + t^2)}(\nu / 2, 1/2) / 2` for t of 0 or more; DLMF 8.17.
    """
    tail = incomplete_beta(df / 2, 0.5, df / (df + t * t)) / 2
    return 1 - tail if t > 0 else tail


@lru_cache(maxsize=4096)
def t_quantile(p: float, df: float) -> float:
    """Return the t below which a share p, in (0, 1), of Student's t with df > 0 lies."""
    if p < 0.5:
        return -t_quantile(1 - p, df)
    high = 1.0
    while t_cdf(high, df) < p:
        high *= 2
    return _bisect(lambda t: t_cdf(t, df) - p, 0.0, high)


def normal_quantile(p: float) -> float:
    """Return the z below which a share p, in (0, 1), of the standard normal distribution lies."""
    return NormalDist().inv_cdf(p)


def coin_test(heads: int, tosses: int) -> float:
    """Return the exact two-sided p-value of so many heads if the coin is fair.

    Twice the smaller tail, at most 1; the binomial distribution with share 1/2 is symmetric.
    """
    if not tosses:
        return 1.0
    few = min(heads, tosses - heads)
    log_half, log_all = tosses * math.log(2), math.lgamma(tosses + 1)
    logs = [log_all - math.lgamma(k + 1) - math.lgamma(tosses - k + 1) for k in range(few + 1)]
    return min(1.0, 2 * math.fsum(math.exp(log - log_half) for log in logs))


def _bisect(function: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return (low + high) / 2
