"""Exact tests of a share of right rows: values by hand, validity by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom

from fmcluster.functional.labels.certify import (
    certify_rows,
    exact_lower,
    exact_p_value,
    fallback,
    forecast,
    grid_ends,
    is_fair,
    region_size,
    weighted_lower,
    weighted_p_value,
)


def test_all_right_needs_as_many_labels_as_the_formula_says():
    # With replacement log(0.05) / log(0.95) = 58.4; of very many rows drawing back does not matter.
    assert exact_p_value(10**7, 59, 59, 0.95) <= 0.05 < exact_p_value(10**7, 58, 58, 0.95)
    # Of 100 rows, 95 right is what is claimed, so that 94 right must be excluded.
    by_hand = np.prod([(94 - i) / (100 - i) for i in range(40)])
    assert exact_p_value(100, 40, 40, 0.95) == pytest.approx(by_hand)


def test_tails_are_those_of_scipy():
    rng = np.random.default_rng(0)
    rows = rng.integers(50, 5000, 40)
    drawn = rng.integers(1, 50, 40)
    right = rng.integers(0, drawn + 1)
    most = np.ceil(0.9 * rows - 1e-9).astype(int) - 1
    expected = hypergeom.sf(right - 1, rows, most, drawn)
    assert np.allclose(exact_p_value(rows, drawn, right, 0.9), expected, atol=1e-9)


def test_lower_bound_is_where_the_test_turns():
    (lower,) = exact_lower(500, 80, 76, 0.05)
    rows = round(lower * 500)
    assert hypergeom.sf(75, 500, rows, 80) > 0.05 >= hypergeom.sf(75, 500, rows - 1, 80)
    assert exact_lower(500, 500, 470, 0.05) == pytest.approx(0.94)  # all rows seen
    assert exact_lower(500, 0, 0, 0.05) == 0


@pytest.mark.parametrize("share", [0.9, 0.93])
def test_exact_test_errs_in_at_most_delta_of_draws(share):
    rng = np.random.default_rng(0)
    right = np.arange(400) < round(share * 400)
    false = [
        exact_p_value(400, 100, right[rng.choice(400, 100, replace=False)].sum(), share + 0.0025)
        <= 0.1
        for _ in range(400)
    ]
    assert np.mean(false) <= 0.1 + 3 * np.sqrt(0.09 / 400)


def test_bet_errs_in_at_most_delta_of_draws_from_uneven_strata():
    rng = np.random.default_rng(1)
    strata = [np.arange(300) < 300, np.arange(300) < 230]  # 530 of 600 right: 0.8833
    false = []
    for _ in range(300):
        drawn = [rng.choice(s, m, replace=False) for s, m in zip(strata, (30, 120), strict=True)]
        weights = np.repeat([300 / 30, 300 / 120], [30, 120])
        right = np.concatenate(drawn)
        false.append(weighted_p_value(weights / weights.max(), right, 0.89) <= 0.1)
    assert np.mean(false) <= 0.1 + 3 * np.sqrt(0.09 / 300)


def test_bet_with_many_right_labels_wins():
    assert weighted_p_value(np.ones(90), np.ones(90, bool), 0.95) < 0.05
    lower = weighted_lower(np.ones(90), np.ones(90, bool), 0.05)
    assert 0.94 < lower < exact_lower(10**6, 90, 90, 0.05)[0]


def test_grid_keeps_equal_confidence_together():
    confidence = np.repeat([0.9, 0.8, 0.7], [5, 200, 95])
    assert grid_ends(confidence).tolist() == [5, 205, 300]
    assert len(grid_ends(np.linspace(1, 0, 1000))) == 100


def test_forecast_rises_with_labels_and_with_accuracy():
    power = forecast(
        np.array([0.99, 0.99, 0.96]), np.full(3, 1e4), np.array([200.0, 60, 200]), 0.95, 0.05
    )
    assert power[0] > power[1]
    assert power[0] > power[2]


def test_region_follows_confidence():
    sure = np.sort(np.r_[np.full(600, 0.99), np.linspace(0.5, 0.98, 400)])[::-1]
    wide, narrow = region_size(sure, 200, 0.8, 0.05), region_size(sure, 200, 0.95, 0.05)
    assert 500 <= narrow < wide <= 1000
    assert region_size(np.full(50, 0.2), 60, 0.95, 0.05) == 50  # fewer rows than labels


def test_even_draws_are_fair_and_picks_of_the_top_are_not():
    rng = np.random.default_rng(0)
    assert all(is_fair(rng.choice(1000, 100, replace=False), 1000) for _ in range(30))
    assert not is_fair(np.arange(100), 1000)


def test_fallback_hands_on_what_a_test_did_not_lose():
    d = 0.04
    # Two starts, 0.01 and 0.03: all pass at 0.01, the start at 0.04 in all.
    assert fallback(np.array([0.5, 0.001, 0.01, 0.035, 0.04, 0.2]), 1, 3, d) == (1, 4, d)
    # The cautious run breaks off; the start has 0.03 alone.
    assert fallback(np.array([0.001, 0.02, 0.03, 0.5]), 0, 2, d) == (2, 2, pytest.approx(0.03))
    # The start fails: what the cautious run reached stays.
    assert fallback(np.array([0.001, 0.002, 0.5, 0.001]), 0, 2, d) == (0, 1, pytest.approx(0.01))
    assert fallback(np.array([0.5, 0.5]), 0, 1, d) == (1, 1, 0.0)
    assert fallback(np.array([0.035]), 0, 0, d) == (0, 0, pytest.approx(d))


def test_certified_rows_end_where_errors_begin():
    confidence = np.linspace(1, 0.3, 2000)
    truth = np.arange(2000) < 1200  # the first 1200 right, then none
    rng = np.random.default_rng(0)
    position = rng.choice(1500, 300, replace=False)
    found = certify_rows(confidence, position, truth[position], accuracy=0.95, delta=0.05)
    assert 1000 <= found.n_rows <= 1263  # 1200 / 0.95
    assert found.lower >= 0.95 - 1e-3
    none = certify_rows(confidence, position[:20], truth[position[:20]], accuracy=0.95, delta=0.05)
    assert none.n_rows == 0


def test_promise_is_broken_in_at_most_delta_of_draws():
    rng = np.random.default_rng(2)
    confidence = np.sort(rng.beta(4, 1.5, 1500))[::-1]
    truth = rng.random(1500) < confidence**0.7
    share = np.cumsum(truth) / np.arange(1, 1501)
    broken = []
    for _ in range(100):
        position = rng.choice(1500, 150, replace=False)
        found = certify_rows(confidence, position, truth[position], accuracy=0.85, delta=0.1)
        broken.append(found.n_rows > 0 and share[found.n_rows - 1] < 0.85)
    assert np.mean(broken) <= 0.1 + 3 * np.sqrt(0.09 / 100)
