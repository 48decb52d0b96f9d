"""Standard errors of paired changes against the bootstrap, independent draws and closed forms."""

from typing import Any

import numpy as np
import pytest

from burnish.errors import InputError
from burnish.metrics import formulas
from burnish.metrics.estimates import Estimator
from burnish.metrics.estimators import FrechetEstimator, KernelEstimator
from burnish.metrics.evaluate import compare
from burnish.metrics.influence import read_influences, write_influences
from burnish.metrics.intervals import Z95, Estimate, paired_change
from burnish.metrics.metric import metric
from burnish.metrics.moments import MomentSum
from burnish.metrics.reference import Reference


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


def test_shares_of_0_and_1_have_intervals_of_some_width(tmp_path):
    real, square = np.random.default_rng(4).standard_normal((200, 4)), Z95**2
    keys = ("precision", "density", "recall", "coverage", "copying", "accuracy")
    estimator, labels = Estimator(moments(real), real, keys=keys), np.zeros(200, int)
    right = np.tile([0.9, 0.1], (200, 1))
    none = estimator(real + 50, 1 - right, labels)
    every = estimator(real + 1e-3, right, labels)
    expected = none["copying"].expected
    for key in keys:
        low = none[key].interval()
        offset = expected if key == "copying" else 0
        assert low["value"] == -offset, key
        assert low["low"] == pytest.approx(-offset, abs=1e-12), key
        assert low["high"] == pytest.approx(square / (200 + square) - offset), key
        assert 0 < low["std_error"] == 1 / 202, key
        high = every[key].interval()
        if key != "density":
            assert high["value"] == 1 - offset, key
            assert high["low"] == pytest.approx(200 / (200 + square) - offset), key
            assert high["high"] == pytest.approx(1 - offset), key
    write_influences(tmp_path / "a.npz", np.arange(200), none, "f" * 64)
    values = {key: one.value for key, one in none.items()}
    _, read, _ = read_influences(tmp_path / "a.npz", values, 200, "f" * 64)
    for key in keys:
        for before, after in ((none[key], none[key]), (read[key], read[key])):
            change = paired_change(before, after)
            assert change.difference == 0, key
            assert change.high == -change.low == pytest.approx(Z95 / 202), key


def test_a_share_has_the_interval_of_wilson():
    real = np.random.default_rng(4).standard_normal((50, 4))
    labels: Any = (np.arange(100) >= 3).astype(int)
    found = Estimator(moments(real), real, keys=("accuracy",))(
        real, np.tile([0.9, 0.1], (100, 1)), labels
    )["accuracy"].interval()
    # 3 of 100, with N - 1 in the place of N, as in the standard error.
    assert (found["low"], found["high"]) == pytest.approx((0.0102, 0.0847), abs=3e-4)


@pytest.mark.parametrize(("effect", "least"), [(0, 0.98), (2, 0.96), (3, 0.95), (6, 0.93)])
def test_intervals_of_a_squared_mean_hold_it_near_0_and_far_from_it(effect: float, least: float):
    """Its variance grows with it: a low value comes with a small standard error."""
    count, rng, held = 100, np.random.default_rng(0), 0
    for _ in range(1000):
        x = rng.standard_normal(count) + effect / 10
        mean, variance = x.mean(), x.var(ddof=1)
        influence = 2 * mean * (x - mean)
        slope, bent = np.square(influence).mean(), 2 * np.mean(influence * (x - mean)) ** 2
        pairs, curvature = 2 * variance**2 / count**2, bent / (2 * count * slope)
        value = mean**2 - variance / count
        found = Estimate(float(value), influence, False, pairs, float(curvature)).interval()
        held += found["low"] <= effect**2 / count <= found["high"]
    assert least <= held / 1000 < 0.997


KINDS = {
    "one image": lambda x, y: x[:1].repeat(len(x), 0),
    "one real image": lambda x, y: (x, y[:1].repeat(len(y), 0)),
    "the reference": lambda x, y: y,
    "some of the reference": lambda x, y: y[: len(y) // 2],
    "nothing": lambda x, y: 0 * x,
    "far off": lambda x, y: 1e6 * x,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "dim"), [(4, 12), (60, 4)])
def test_no_interval_leaves_the_range_of_its_metric(kind, count, dim):
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((2, count, dim))
    made = KINDS[kind](x, y)
    x, y = made if isinstance(made, tuple) else (made, y)
    real = Reference(moments(y), y, len(y), None, None, "")
    for sure in (0.0, 1e-9, 0.5):  # an Inception Score of 1, just above, and far from it
        probabilities = np.full((len(x), 4), 0.25)
        probabilities[::2, 0] += sure
        probabilities /= probabilities.sum(1, keepdims=True)
        found = compare(x, probabilities, real, None)
        for key, one in found["intervals"].items():
            least, most = metric(key).range
            assert np.isfinite([*one.values()]).all(), key
            assert least <= one["low"] <= one["value"] <= one["high"] <= most, key
    still = any("do not vary" in note for note in found["warnings"])
    assert still == (kind in ("one image", "one real image", "nothing"))
