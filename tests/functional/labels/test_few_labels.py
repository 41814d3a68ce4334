"""The match and the correctness that a few labeled rows speak for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from fmcluster.functional.labels.few_labels import (
    LinePrior,
    fit_line,
    left_out_correct,
    match_posterior,
    posterior_correct,
)
from fmcluster.functional.metrics import matched_correct

LOOSE = LinePrior((0.6, 0.8), (1.0, 0.5))


def labeled(m: int, k: int, accuracy: float, seed: int):
    """Rows whose class is their cluster's (renamed) with probability `accuracy`."""
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, k, m)
    correct = rng.random(m) < accuracy
    other = (clusters + rng.integers(1, k, m)) % k
    names = rng.permutation(k)
    classes = np.unique(names[np.where(correct, clusters, other)], return_inverse=True)[1]
    return clusters, classes, correct


def test_a_flat_prior_line_is_sklearns_logistic_regression():
    rng = np.random.default_rng(0)
    z = rng.normal(size=400)
    target = (rng.random(400) < expit(0.3 + 1.2 * z)).astype(float)
    line = fit_line(z, target, np.ones(400), LinePrior((0.0, 0.0), (1e4, 1e4)))
    oracle = LogisticRegression(C=1e8).fit(z[:, None], target)
    np.testing.assert_allclose(line, [oracle.intercept_[0], oracle.coef_[0, 0]], atol=1e-3)


def test_a_tight_prior_wins_and_the_slope_never_falls():
    z = np.linspace(-2, 2, 50)
    falling = (z < 0).astype(float)
    tight = fit_line(z, falling, np.ones(50), LinePrior((0.6, 0.8), (1e-3, 1e-3)))
    np.testing.assert_allclose(tight, [0.6, 0.8], atol=0.01)
    assert fit_line(z, falling, np.ones(50), LOOSE)[1] == 0.05


def test_integer_weights_equal_repetition():
    rng = np.random.default_rng(1)
    z, target, times = rng.normal(size=30), rng.random(30), rng.integers(1, 4, 30)
    once = fit_line(z, target, times.astype(float), LOOSE)
    repeated = fit_line(np.repeat(z, times), np.repeat(target, times), np.ones(times.sum()), LOOSE)
    np.testing.assert_allclose(once, repeated, atol=1e-6)


def test_the_posterior_finds_the_map_and_is_one_to_one():
    clusters, classes, correct = labeled(200, 6, 0.8, 0)
    posterior, names = match_posterior(clusters, classes, np.full(200, 0.7), 6)
    np.testing.assert_allclose(posterior.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(posterior.sum(axis=0), 1.0, atol=1e-3)
    said = posterior[np.searchsorted(names, clusters), classes] > 0.5
    np.testing.assert_array_equal(said, correct)


def test_surplus_classes_and_unlabeled_clusters_take_their_share():
    # Three labeled clusters of 10, and more classes than clusters in the second case.
    posterior, names = match_posterior(
        np.array([1, 4, 7]), np.array([0, 1, 2]), np.full(3, 0.5), 10
    )
    assert names.tolist() == [1, 4, 7]
    assert (posterior.sum(axis=1) < 1).all()
    assert (posterior.argmax(axis=1) == [0, 1, 2]).all()
    wide, _ = match_posterior(np.zeros(5, int), np.arange(5), np.full(5, 0.5), 2)
    np.testing.assert_allclose(wide, 0.2, atol=1e-3)


@pytest.mark.parametrize(("k", "within"), [(4, 0.04), (20, 0.06), (77, 0.12)])
def test_the_level_is_right_on_average_where_plain_counting_is_not(k, within):
    # At 77 clusters a hundred rows leave most with one label or none: the spread of what they
    # say is wide, and counting matches on the same rows flatters.
    truth, level, counted = [], [], []
    for seed in range(8):
        clusters, classes, correct = labeled(100, k, 0.6, seed)
        says, *_ = posterior_correct(
            clusters, classes, np.zeros(100), k, weights=np.ones(100), prior=LOOSE
        )
        truth.append(correct.mean())
        level.append(says.mean())
        counted.append(matched_correct(classes, clusters).mean())
    assert np.mean(level) == pytest.approx(np.mean(truth), abs=within)
    if k == 77:
        assert np.mean(counted) > np.mean(truth) + 0.05


def test_rows_that_nothing_speaks_for_have_no_weight():
    counted, telling = left_out_correct(np.array([0, 0, 1, 2]), np.array([0, 0, 1, 0]), 3)
    assert telling.tolist() == [1, 1, 0, 1]
    assert counted.tolist() == [1.0, 1.0, 0.5, 0.0]
