"""The survey's statistics: known values, real human answers, and simulated studies."""

import json
from math import log, sqrt
from pathlib import Path

import numpy as np
import pytest

from burnish.survey.distributions import coin_test, normal_quantile, t_cdf, t_quantile
from burnish.survey.statistics import (
    bradley_terry,
    crossed_bootstrap,
    design_effect,
    intraclass_correlation,
    raters_needed,
    t_interval,
    variance_ratio,
    wilson_interval,
)

PEOPLE = json.loads((Path(__file__).parent / "data" / "dgm_eval_fooled.json").read_text())


@pytest.mark.parametrize(
    ("p", "df", "t"),
    [
        (0.975, 1, 12.7062),
        (0.975, 2, 4.30265),
        (0.975, 7, 2.36462),
        (0.975, 24, 2.06390),
        (0.995, 19, 2.86093),
        (0.8, 19, 0.86095),
        (0.025, 7, -2.36462),
        (0.5, 3, 0.0),
    ],
)
def test_quantiles_of_t_are_those_of_printed_tables(p, df, t):
    assert t_quantile(p, df) == pytest.approx(t, abs=1e-5)


def test_t_agrees_with_closed_forms():
    for t in (-3.0, -0.4, 0.0, 1.0, 40.0):
        assert t_cdf(t, 1) == pytest.approx(0.5 + np.arctan(t) / np.pi, abs=1e-13)
        assert t_cdf(t, 2) == pytest.approx(0.5 + t / (2 * sqrt(2 + t * t)), abs=1e-13)
    assert t_quantile(0.975, 1e6) == pytest.approx(normal_quantile(0.975), abs=1e-5)


def test_the_coin_test_counts_both_tails():
    assert coin_test(0, 5) == pytest.approx(2 / 32)
    assert coin_test(2, 10) == coin_test(8, 10) == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert coin_test(5, 10) == coin_test(0, 0) == 1
    assert coin_test(1000, 2100) == pytest.approx(0.03072, abs=1e-5)  # as SciPy's binomtest


# Median over experiments of how much more participants differ than independent answers would.
@pytest.mark.parametrize(
    ("name", "count", "ratio", "correlation"),
    [
        ("cifar10", 13, 5.4, 0.044),
        ("imagenet256", 11, 5.7, 0.048),
        ("ffhq256", 9, 6.6, 0.056),
        ("lsun256", 8, 8.7, 0.077),
    ],
)
def test_people_differ_more_than_independent_answers_would(name, count, ratio, correlation):
    experiments = [np.array(fooled) for fooled in PEOPLE["fooled"][name].values()]
    ratios = [variance_ratio(fooled / 100, 100) for fooled in experiments]
    assert len(experiments) == count
    assert round(float(np.median(ratios)), 1) == ratio
    # The answers themselves, 0 or 1, give the same likeness as the shares.
    answers = [[[1] * n + [0] * (100 - n) for n in fooled] for fooled in experiments]
    found = [intraclass_correlation(rows) for rows in answers]
    assert float(np.median(found)) == pytest.approx(correlation, abs=0.001)
    effects = [design_effect(one, 100) for one in found]
    assert effects == pytest.approx(ratios, rel=0.05)


@pytest.mark.parametrize(
    ("raters", "votes", "share", "correlation"),
    [
        (8, 20, 0.6, 0.05),
        (20, 20, 0.6, 0.05),
        (20, 50, 0.6, 0.05),
        (50, 20, 0.6, 0.05),
        (25, 100, 0.6, 0.05),
        (20, 20, 0.5, 0.077),
        (10, 30, 0.75, 0.1),
    ],
)
def test_the_main_interval_holds_in_93_to_97_of_100_studies(raters, votes, share, correlation):
    rng = np.random.default_rng(1)
    size = 1 / correlation - 1
    likings = rng.beta(share * size, (1 - share) * size, (1000, raters))
    found = t_interval(rng.binomial(votes, likings) / votes)
    covered = np.mean((found.low <= share) & (share <= found.high))
    assert 0.93 <= covered <= 0.97


def test_an_interval_on_pooled_votes_would_be_too_narrow():
    rng = np.random.default_rng(1)
    won = rng.binomial(50, rng.beta(0.6 * 19, 0.4 * 19, (1000, 20))).sum(1)
    found = [wilson_interval(int(wins), 1000) for wins in won]
    assert sum(bool(one.low <= 0.6 <= one.high) for one in found) < 750


def test_the_t_interval_is_the_textbook_one():
    found = t_interval([0.5, 0.6, 0.7])
    assert found == pytest.approx(
        (0.6, 0.6 - 4.30265 * 0.1 / sqrt(3), 0.6 + 4.30265 * 0.1 / sqrt(3))
    )
    with pytest.raises(ValueError, match="two raters"):
        t_interval([0.5])


def test_the_wilson_interval_is_the_textbook_one():
    assert wilson_interval(15, 20) == pytest.approx((0.75, 0.5313, 0.8881), abs=1e-4)
    low, high = wilson_interval(0, 10)[1:]
    assert low == pytest.approx(0, abs=1e-12) and 0.27 < high < 0.28


def test_the_correlation_is_one_minus_or_zero_at_its_ends():
    assert intraclass_correlation([[1, 1, 1], [0, 0, 0], [1, 1]]) == pytest.approx(1)
    assert intraclass_correlation([[0, 1], [0, 1], [1, 0]]) == pytest.approx(-1)  # -1 / (m - 1)
    assert intraclass_correlation([[1, 1], [1, 1]]) == 0
    with pytest.raises(ValueError, match="two raters"):
        intraclass_correlation([[1, 0, 1]])


def test_the_crossed_bootstrap_covers_raters_and_images():
    rng = np.random.default_rng(0)
    raters, items = (grid.ravel() for grid in np.meshgrid(range(20), range(30), indexing="ij"))
    liking, beauty = rng.normal(0, 0.7, 20), rng.normal(0, 1.4, 30)
    wins = rng.random(600) < 1 / (1 + np.exp(-liking[raters] - beauty[items]))
    scores = wins.astype(float)
    share, low, high = crossed_bootstrap(raters, items, scores, draws=2000)
    pooled = wilson_interval(scores.sum(), 600)
    assert share == scores.mean() and low < share < high
    assert high - low > 2 * (pooled.high - pooled.low)
    again = crossed_bootstrap(raters, items, scores, draws=2000)
    assert again == (share, low, high)
    alike = crossed_bootstrap(raters, items, np.ones(600), draws=50)
    assert alike == (1, 1, 1)


@pytest.mark.parametrize(
    ("share", "votes", "correlation", "raters"),
    [
        # Without a likeness and with many raters: (1.96 + 0.84)^2 p (1 - p) / (p - 1/2)^2.
        (0.52, 1, 0.0, 4900),
        (0.6, 20, 0.044, 20),
        (0.6, 20, 0.077, 26),
        (0.55, 20, 0.044, 74),
        (0.7, 50, 0.044, 5),
        (0.3, 50, 0.044, 5),
    ],
)
def test_the_raters_needed(share, votes, correlation, raters):
    assert raters_needed(share, votes, correlation) == raters


def test_the_raters_needed_find_the_share_four_times_out_of_five():
    rng = np.random.default_rng(2)
    size = 1 / 0.05 - 1
    count = raters_needed(0.6, 20, 0.05)
    likings = rng.beta(0.6 * size, 0.4 * size, (4000, count))
    found = t_interval(rng.binomial(20, likings) / 20)
    assert 0.76 < np.mean(np.asarray(found.low) > 0.5) < 0.84


def test_two_systems_have_the_log_odds_of_their_votes():
    first, second = bradley_terry([[0, 30], [10, 0]], prior=0)
    assert first - second == pytest.approx(log(3)) and first + second == pytest.approx(0)


def test_strengths_are_recovered_and_do_not_depend_on_the_order():
    true = np.array([0.8, 0.1, -0.9])
    wins = 10_000 / (1 + np.exp(true - true[:, None]))
    np.fill_diagonal(wins, 0)
    assert bradley_terry(wins) == pytest.approx(true, abs=1e-3)
    order = [2, 0, 1]
    assert bradley_terry(wins[order][:, order]) == pytest.approx(true[order], abs=1e-3)
    both = bradley_terry(np.stack([wins, wins.T]))
    assert both[1] == pytest.approx(-both[0])


def test_a_system_without_a_win_has_a_finite_strength():
    strengths = bradley_terry([[0, 9, 9], [0, 0, 5], [0, 5, 0]])
    assert np.isfinite(strengths).all() and strengths[0] > strengths[1]
