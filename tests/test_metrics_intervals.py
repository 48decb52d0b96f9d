"""Standard errors of paired changes against the bootstrap, independent draws and closed forms."""

import numpy as np
import pytest

from burnish.errors import InputError
from burnish.metrics import formulas
from burnish.metrics.estimators import FrechetEstimator, KernelEstimator
from burnish.metrics.intervals import paired_change
from burnish.metrics.moments import MomentSum


def moments(features):
    total = MomentSum()
    total.add(features)
    return total.moments()


def draw(rng, count, dim):
    """Return features of images before and after, and a reference: heavy tails, unequal axes."""
    scale = np.linspace(1, 0.1, dim)
    x = rng.standard_normal((count, dim)) * scale * rng.gamma(4, 0.25, (count, 1)) ** 0.5
    return 1.2 * x + 0.1, 1.1 * x + 0.05 + 0.1 * rng.standard_normal((count, dim))


def estimators(dim):
    real = np.random.default_rng(99).standard_normal((500, dim)) * np.linspace(1, 0.1, dim)
    return FrechetEstimator(moments(real)), KernelEstimator(real), real


@pytest.mark.parametrize("count", [60, 12])  # more and fewer images than dimensions
def test_values_are_those_of_the_formulas(count):
    frechet, kernel, real = estimators(24)
    before, _ = draw(np.random.default_rng(0), count, 24)
    exact = formulas.frechet_distance(generated=moments(before), reference=moments(real))
    assert frechet(before).value == pytest.approx(exact, rel=1e-9)
    exact = formulas.kernel_distance(generated=before, reference=real)
    assert kernel(before).value == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(("count", "dim"), [(50, 4), (30, 12), (12, 24)])
def test_influence_is_the_derivative_by_the_weight_of_an_image(count, dim):
    frechet, kernel, _ = estimators(dim)
    before, _ = draw(np.random.default_rng(1), count, dim)
    # One more copy of an image among many of the whole set is a small step of its weight.
    many = np.tile(before, (40, 1))
    for estimator in (frechet, kernel):
        start, step = estimator(many), 1 / (len(many) + 1)
        for image in (0, 5):
            moved = estimator(np.concatenate([many, before[image : image + 1]])).value
            slope = (moved - start.value) / step
            largest = np.abs(start.influence).max()
            assert slope == pytest.approx(start.influence[image], abs=0.05 * largest)


@pytest.mark.parametrize(("count", "dim"), [(300, 4), (120, 24), (24, 48)])
def test_the_jackknife_agrees_with_the_paired_bootstrap_and_with_new_draws(count, dim):
    rng = np.random.default_rng(2)
    pairs = [draw(rng, count, dim) for _ in range(150)]
    rows = [rng.integers(0, count, count) for _ in range(150)]
    frechet, kernel, _ = estimators(dim)
    for estimator in (frechet, kernel):
        changes = [paired_change(estimator(b), estimator(a)) for b, a in pairs]
        ours = np.mean([change.std_error for change in changes])
        true = np.std([change.difference for change in changes], ddof=1)
        assert 0.85 * true < ours < 1.4 * true
        # The interval is of the mean at this number of images, even below the dimension.
        mean = np.mean([change.difference for change in changes])
        covered = np.mean([change.low < mean < change.high for change in changes])
        assert covered > 0.88
        if estimator is kernel and count < dim:
            continue  # the pairs of an image and its copy, far more alike than others, rule there
        before, after = pairs[0]
        again = [estimator(after[i]).value - estimator(before[i]).value for i in rows]
        bootstrap = np.std(again, ddof=1)
        assert changes[0].std_error == pytest.approx(bootstrap, rel=0.4)


def test_pairing_is_what_makes_the_error_small():
    frechet, _, _ = estimators(4)
    before, after = draw(np.random.default_rng(3), 300, 4)
    paired = paired_change(frechet(before), frechet(after)).std_error
    assert paired < 0.6 * paired_change(frechet(before), frechet(after[::-1])).std_error
    same = paired_change(frechet(before), frechet(before))
    assert same.difference == same.std_error == same.low == same.high == 0
    with pytest.raises(InputError, match="equal numbers"):
        paired_change(frechet(before), frechet(after[:-1]))
    with pytest.raises(InputError, match="must be"):
        frechet(before[:, :3])
