"""Formulas of metrics against closed forms and a second implementation."""

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kernel_mmd
from torch_fidelity.metric_prc import calculate_precision_recall_full

from burnish.errors import InputError
from burnish.metrics import formulas
from burnish.metrics.moments import Moments, MomentSum


def normal(seed, *shape, shift=0.0):
    return (np.random.default_rng(seed).standard_normal(shape) + shift).astype(np.float32)


def moments(*batches):
    total = MomentSum()
    for batch in batches:
        total.add(batch)
    return total.moments()


def test_moments_are_those_of_numpy_in_float64_however_batched():
    # A mean of 1000 standard deviations: sums of squares, or float32, would lose the covariance.
    x = normal(0, 300, 5, shift=1000)
    for parts in ([x], np.split(x, [1, 2, 7, 200])):
        found = moments(*parts)
        assert found.mu.dtype == found.sigma.dtype == np.float64
        np.testing.assert_allclose(found.mu, x.astype(np.float64).mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.sigma, np.cov(x.astype(np.float64).T), atol=1e-10)


def test_fid_is_that_of_torch_fidelity():
    generated, reference = normal(1, 400, 8), normal(2, 300, 8, shift=0.3) * 1.5
    statistics = [
        fid_features_to_statistics(torch.from_numpy(x).double()) for x in (generated, reference)
    ]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    ours = formulas.frechet_distance(generated=moments(generated), reference=moments(reference))
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_fid_closed_forms():
    shift, a, b = np.array([3.0, 0, 1]), np.array([4.0, 0, 9]), np.array([1.0, 2, 16])
    rotation = np.linalg.qr(normal(3, 3, 3).astype(np.float64))[0]
    exact = 10 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    # A common rotation makes the covariances dense and leaves the distance.
    for turn in (np.eye(3), rotation):
        first = Moments(turn @ shift, turn @ np.diag(a) @ turn.T)
        second = Moments(np.zeros(3), turn @ np.diag(b) @ turn.T)
        found = formulas.frechet_distance(generated=first, reference=second)
        assert found == pytest.approx(exact, rel=1e-12)
    # With itself 0, also where fewer images than dimensions leave the covariance singular.
    for count in (200, 10):
        same = moments(100 * normal(4, count, 40))
        zero = formulas.frechet_distance(generated=same, reference=same)
        assert 0 <= zero < 1e-12 * np.trace(same.sigma)


def test_kid_is_the_unbiased_mmd():
    generated, reference = normal(5, 60, 7, shift=0.5), normal(6, 60, 7)
    theirs = kernel_mmd(
        generated.astype(np.float64), reference.astype(np.float64), kid_kernel="poly",
        kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1,
    )  # fmt: skip
    exact = formulas.kernel_distance(generated=generated, reference=reference)
    assert exact == pytest.approx(theirs, rel=1e-10)
    # Unequal sizes, term by term.
    wide, few = generated.astype(np.float64), reference[:9].astype(np.float64)

    def mean_kernel(x, y, same):
        pairs = [(i, j) for i in range(len(x)) for j in range(len(y)) if not (same and i == j)]
        return np.mean([(x[i] @ y[j] / 7 + 1) ** 3 for i, j in pairs])

    direct = mean_kernel(wide, wide, True) + mean_kernel(few, few, True)
    direct -= 2 * mean_kernel(wide, few, False)
    assert formulas.kernel_distance(generated=generated, reference=few) == pytest.approx(
        direct, rel=1e-9
    )


def test_kid_of_subsets_estimates_the_same_and_is_zero_in_mean_for_equals():
    generated, reference = normal(7, 400, 4, shift=0.5), normal(8, 500, 4)
    exact = formulas.kernel_distance(generated=generated, reference=reference)
    parts = [
        formulas.kernel_distance(
            generated=generated, reference=reference, subset_size=100, num_subsets=100, seed=seed
        )
        for seed in (0, 0, 1)
    ]
    assert parts[0] == parts[1] != parts[2]
    assert parts[0] == pytest.approx(exact, rel=0.1)
    # A biased estimate would be about 0.2 here; the standard error of this mean is 0.01.
    equals = [
        formulas.kernel_distance(
            generated=normal(seed, 100, 4), reference=normal(seed + 1, 100, 4)
        )
        for seed in range(100, 300, 2)
    ]
    assert abs(np.mean(equals)) < 0.03


def score(probabilities, **settings):
    return tuple(formulas.inception_score(probabilities=probabilities, **settings).values())


def test_inception_score_is_that_of_torch_fidelity_in_any_order():
    eye = np.eye(5, dtype=np.float32)
    balanced = np.tile(eye, (200, 1))
    by_class = np.repeat(eye, 200, axis=0)
    assert score(np.tile(balanced.mean(0), (50, 1)))[0] == pytest.approx(1, abs=1e-6)
    assert score(balanced, num_splits=1) == pytest.approx((5, 0), abs=1e-12)
    # Splits of a class-sorted file in its own order would hold one class each and score 1.
    assert all(4.9 < score(rows, num_splits=5)[0] <= 5 for rows in (balanced, by_class))
    logits = torch.from_numpy(3 * normal(9, 120, 6))
    probabilities = logits.double().softmax(1).numpy()
    theirs = isc_features_to_metric(logits, splits=1, shuffle=False)["inception_score_mean"]
    assert score(probabilities, num_splits=1)[0] == pytest.approx(theirs, rel=1e-9)
    with pytest.raises(InputError, match="splits"):
        score(eye, num_splits=10)


def test_precision_and_recall_are_not_swapped():
    wide, tight = normal(10, 300, 4), 0.1 * normal(11, 300, 4)
    found = formulas.precision_recall(generated=tight, reference=wide)
    assert found["precision"] > 0.95 and found["recall"] < 0.1 and found["coverage"] < 0.2
    found = formulas.precision_recall(generated=wide, reference=tight)
    assert found["precision"] < 0.1 and found["recall"] > 0.95 and found["density"] < 0.1


def test_precision_and_recall_in_float64():
    generated, reference = normal(12, 90, 5, shift=0.4), normal(13, 70, 5)
    precision, recall = calculate_precision_recall_full(
        torch.from_numpy(generated).double(), torch.from_numpy(reference).double(), 4
    )
    found = formulas.precision_recall(generated=generated, reference=reference, num_neighbors=4)
    assert (found["precision"], found["recall"]) == pytest.approx((precision, recall), abs=1e-6)

    def distances(x, y):
        return np.linalg.norm(x[:, None].astype(float) - y[None], axis=2)

    radii = np.sort(distances(reference, reference))[:, 4]
    inside = distances(generated, reference) <= radii
    assert found["density"] == pytest.approx(inside.sum() / 90 / 4)
    assert found["coverage"] == inside.any(0).mean()
    # Exact in float32 as numbers, not as squares: steps of 1/1024 beside a far outlier.
    grid = 4096 + np.round(1024 * np.clip(normal(14, 60, 3), -3, 3)).astype(np.float32) / 1024
    grid[0] = -4096
    same = formulas.precision_recall(generated=grid, reference=grid)
    assert same["precision"] == same["recall"] == same["coverage"] == 1
    apart = formulas.precision_recall(generated=grid[1:] + np.float32(8), reference=grid)
    assert apart["precision"] == 0
    # A border belongs to its ball, whatever the products round to: the first of equally spaced
    # points reaches as far outwards as to its third neighbour. (The mean is no float.)
    for seed in range(20):
        step = np.round(100 * normal(seed, 1, 9))
        found = formulas.precision_recall(
            generated=np.array([[-3], [-90], [-95], [-99]]) * step,
            reference=np.array([[0], [1], [2], [3], [4], [5], [7]]) * step,
        )
        assert found["precision"] == 1 / 4
