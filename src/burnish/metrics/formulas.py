"""Pure functions of features in float64 numpy, without networks, images or SciPy.

Features are ``[N, D]``, one row per image, of any float type. They are converted to float64 block
by block, because moments and distances lose what they measure in float32. All arguments are given
by keyword: the two sides of a metric are easily swapped.
"""

from typing import Literal

import numpy as np

from burnish.errors import InputError
from burnish.metrics.distances import Arithmetic
from burnish.metrics.draws import Rows, Stream
from burnish.metrics.moments import Array, Moments
from burnish.metrics.neighbors import Neighborhoods, neighborhoods
from burnish.metrics.protocol import Draws

Values = dict[str, float]


def frechet_distance(*, generated: Moments, reference: Moments) -> float:
    r"""Return the Fréchet distance of two Gaussians, the FID, at least 0.

    .. math:: |\mu_1 - \mu_2|^2 + \mathrm{tr}\left(S_1 + S_2 - 2 (S_1 S_2)^{1/2}\right)

    The trace of the root is computed as the sum of the singular values of
    :math:`S_1^{1/2} S_2^{1/2}`. This takes no root of rounding errors and holds for singular
    covariances (N < D) as well. Source: Heusel et al., "GANs Trained by a Two Time-Scale Update
    Rule Converge to a Local Nash Equilibrium", 2017, eq. 6, https://arxiv.org/abs/1706.08500.
    """
    if (sizes := generated.sigma.shape) != reference.sigma.shape:
        raise InputError(f"generated {sizes} and reference {reference.sigma.shape} differ in D")
    roots = _square_root(generated.sigma) @ _square_root(reference.sigma)
    shift = generated.mu - reference.mu
    traces = np.trace(generated.sigma) + np.trace(reference.sigma)
    cross = np.linalg.svd(roots, compute_uv=False).sum()
    return max(float(shift @ shift + traces - 2 * cross), 0.0)


def _square_root(sigma: Array) -> Array:
    values, vectors = np.linalg.eigh((sigma + sigma.T) / 2)
    # Eigenvalues below the precision of the largest are noise of either sign around zero.
    noise = np.finfo(np.float64).eps * len(values) * abs(values[-1])
    return (vectors * np.sqrt(np.where(values > noise, values, 0))) @ vectors.T


def kernel_distance(
    *,
    generated: Array,
    reference: Array,
    subset_size: int = 1000,
    num_subsets: int = 100,
    seed: int = 0,
    draws: Draws = "numpy",
    reference_first: bool = False,
    always: bool = False,
) -> float:
    r"""Return the kernel distance, the KID: the unbiased estimate of :math:`MMD^2`.

    .. math::
        MMD^2 = \frac{\sum_{i \ne j} k(x_i, x_j)}{N (N - 1)}
        + \frac{\sum_{i \ne j} k(y_i, y_j)}{M (M - 1)} - \frac{2 \sum_{i, j} k(x_i, y_j)}{N M},
        \quad k(x, y) = (x \cdot y / D + 1)^3

    Its mean is 0 for equal distributions at any N, so single values may be slightly negative. If a
    side has more than ``subset_size`` rows, it is the mean over pairs of random subsets, as
    published; otherwise all rows are taken once. Source: Bińkowski et al., "Demystifying MMD
    GANs", 2018, section 4, https://arxiv.org/abs/1801.01401.

    Args:
        generated: x, ``[N, D]``.
        reference: y, ``[M, D]``.
        subset_size: Rows of a subset, at most N and M.
        num_subsets: Number of pairs of subsets.
        seed: Seed of the subsets.
        draws: Generator of the subsets, see :mod:`burnish.metrics.protocol`.
        reference_first: Each pair of subsets begins with that of the reference.
        always: Draw subsets even if all rows would fit into one.
    """
    _check(generated, reference, at_least=2)
    if not always and max(len(generated), len(reference)) <= subset_size:
        return _mmd2(generated, reference)
    stream, size = Stream(draws, seed), min(subset_size, len(generated), len(reference))
    sides = (reference, generated) if reference_first else (generated, reference)
    total = 0.0
    for _ in range(num_subsets):
        x, y = (side[stream.choice(len(side), size)] for side in sides)
        total += _mmd2(x, y)  # symmetric
    return total / num_subsets


def _mmd2(x: Array, y: Array) -> float:
    x, y = x.astype(np.float64), y.astype(np.float64)
    k_xx, k_yy, k_xy = ((a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    # The diagonal is left out of the means within a side.
    within_x, within_y = ((k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in (k_xx, k_yy))
    return float(within_x + within_y - 2 * k_xy.mean())


def inception_score(
    *,
    probabilities: Array,
    num_splits: int = 10,
    seed: int = 0,
    split_size: int = 0,
    rule: Literal["even", "floor", "chunk"] = "even",
    draws: Draws = "numpy",
    float32: bool = False,
    ddof: int = 0,
) -> Values:
    r"""Return ``inception_score`` and ``inception_score_std``, mean and std over splits.

    .. math:: \exp(E_x\, KL(p(y|x) \,\|\, p(y))) \in [1, K]

    Rows are shuffled first: a file sorted by class would otherwise have splits of few classes, and
    a score far too low. Splits count alike, also a last one of few images. Source: Salimans et
    al., "Improved Techniques for Training GANs", 2016, section 4,
    https://arxiv.org/abs/1606.03498.

    Args:
        probabilities: ``[N, K]``, rows that sum to 1.
        num_splits: Number of nearly equal splits.
        seed: Seed of the shuffle.
        split_size: Images per split; 0 for ``num_splits``. As all below, this is how other tools
            do it: :class:`burnish.metrics.protocol.Scores`.
        rule: What splits are where N / ``num_splits`` is no integer.
        draws: Generator of the shuffle.
        float32: Compute in float32.
        ddof: Subtracted from the number of splits in the standard deviation.
    """
    order = Stream(draws, seed).permutation(len(probabilities))
    scores = []
    for rows in _splits(order, num_splits, split_size, rule):
        if float32:
            scores.append(_score_in_float32(np.asarray(probabilities[rows], np.float32)))
            continue
        p = np.asarray(probabilities[rows], np.float64)
        # The mean KL is a difference of entropies, free of the 0 * inf of p log(p / q).
        scores.append(np.exp(_entropy(p.mean(axis=0)) - _entropy(p) / len(p)))
    spread = float(np.std(scores, ddof=ddof)) if len(scores) > ddof else 0.0
    score = max(float(np.mean(scores)), 1.0)  # up to rounding it is
    return {"inception_score": score, "inception_score_std": spread}


def _splits(order: Rows, num_splits: int, split_size: int, rule: str) -> list[Rows]:
    count = len(order)
    if rule == "chunk":
        split_size = -(-count // num_splits)
    if split_size:
        return [order[i : i + split_size] for i in range(0, count, split_size)]
    if not 1 <= num_splits <= count:
        raise InputError(f"cannot cut {count} images into {num_splits} splits")
    if rule == "floor":
        return np.split(order, [i * count // num_splits for i in range(1, num_splits)])
    return np.array_split(order, num_splits)


def _score_in_float32(p: Array) -> float:
    """Return the score of a split as ADM's evaluator does; where it has 0 log 0, 0 for its NaN."""
    logs, means = (np.log(np.where(q > 0, q, 1)) for q in (p, p.mean(axis=0, keepdims=True)))
    return float(np.exp((p * (logs - means)).sum(axis=1).mean()))


def _entropy(p: Array) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def precision_recall(
    *,
    generated: Array,
    reference: Array,
    num_neighbors: int = 3,
    arithmetic: Arithmetic = "float64",
    closed: bool = True,
) -> Values:
    r"""Return ``precision``, ``recall``, ``density`` and ``coverage``.

    With :math:`B(x)` the closed ball around x that reaches to its k-th neighbor in its own set,
    generated images x and reference images y:

    .. math::
        \text{precision} &= \tfrac{1}{N} |\{x : x \in B(y) \text{ for some } y\}|, &
        \text{density} &= \tfrac{1}{k N} \textstyle\sum_x |\{y : x \in B(y)\}|, \\
        \text{recall} &= \tfrac{1}{M} |\{y : y \in B(x) \text{ for some } x\}|, &
        \text{coverage} &= \tfrac{1}{M} |\{y : x \in B(y) \text{ for some } x\}|.

    Sources: Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative
    Models", 2019, eq. 1 and 2, https://arxiv.org/abs/1904.06991; Naeem et al., "Reliable Fidelity
    and Diversity Metrics for Generative Models", 2020, section 3.2,
    https://arxiv.org/abs/2002.09797.

    Args:
        generated: ``[N, D]``.
        reference: ``[M, D]``.
        num_neighbors: k.
        arithmetic: Of the distances; see :func:`burnish.metrics.neighbors.neighborhoods`.
        closed: Whether the border belongs to a ball.
    """
    _check(generated, reference, at_least=num_neighbors + 1)
    found = neighborhoods(
        generated=generated, reference=reference, num_neighbors=num_neighbors,
        arithmetic=arithmetic, closed=closed,
    )  # fmt: skip
    return neighbor_shares(near=found, num_neighbors=num_neighbors)


def neighbor_shares(*, near: Neighborhoods, num_neighbors: int) -> Values:
    """Return the same of neighborhoods that are known, with k of ``num_neighbors``."""
    return {
        "precision": float((near.around > 0).mean()),
        "recall": float(near.recalled.mean()),
        "density": float(near.around.mean() / num_neighbors),
        "coverage": float(near.covered.mean()),
    }


def _check(generated: Array, reference: Array, at_least: int) -> None:
    if generated.ndim != 2 or reference.ndim != 2 or generated.shape[1] != reference.shape[1]:
        shapes = f"{generated.shape} and {reference.shape}"
        raise InputError(f"generated and reference features must be [N, D], [M, D], not {shapes}")
    if min(len(generated), len(reference)) < at_least:
        counts = f"{len(generated)} generated and {len(reference)} reference"
        raise InputError(f"at least {at_least} images on each side are needed, not {counts}")
