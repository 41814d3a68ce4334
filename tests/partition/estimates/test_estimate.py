"""Estimates of cluster shares, of their number, and the long-tailed cut they are tested on."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

import fmcluster as fmc
from fmcluster.functional.prior import long_tail_counts
from fmcluster.partition.estimates.estimate import (
    estimate_n_clusters,
    estimate_prior,
    estimate_sizes,
    make_long_tail,
)
from fmcluster.partition.estimates.number import (
    _nearest,
    averaged_points,
    halves_agreement,
    linkage_scores,
)
from fmcluster.partition.linkage import LINKAGES
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import unit_rows


def planted(sizes, *, d=24, noise=0.15, seed=0):
    """Gaussians around random unit directions."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(len(sizes), d))
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    y = np.repeat(np.arange(len(sizes)), sizes)
    x = centers[y] + noise * rng.normal(size=(len(y), d))
    order = rng.permutation(len(y))
    return x[order].astype(np.float32), y[order]


def calibrated(prior, n, *, seed=0, sharpness=2.5):
    """Posteriors of Gaussian rows under their true shares: calibrated by construction."""
    rng = np.random.default_rng(seed)
    k = len(prior)
    y = rng.choice(k, n, p=prior)
    x = sharpness * np.eye(k)[y] + rng.normal(size=(n, k))
    logits = sharpness * x + np.log(prior)
    proba = np.exp(logits - logits.max(1, keepdims=True))
    return proba / proba.sum(1, keepdims=True)


def test_an_interval_ends_halfway_to_the_next_number_that_was_tried():
    ks = np.array([2, 3, 4, 8, 16, 32])
    assert _nearest(ks, 1, 1) == (3, 3)
    assert _nearest(ks, 3, 4) == (6, 22)
    assert _nearest(ks, 0, 5) == (2, 32)


def test_prior_of_calibrated_probabilities():
    counts = long_tail_counts(1000, 8, 20)
    prior = counts / counts.sum()
    found = estimate_prior(calibrated(prior, 20_000))
    assert np.abs(found.prior - prior).sum() < 0.05
    assert found.interval[0] <= 20 <= found.interval[1]
    assert found.interval[0] <= found.imbalance_ratio <= found.interval[1]
    assert found.profile.kind == "exponential" and found.profile.r2 > 0.98
    assert found.profile.imbalance_ratio == pytest.approx(20, rel=0.25)
    assert 1 < found.effective_clusters < 8
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.prior = None


def test_interval_of_the_ratio_covers_the_truth():
    counts = long_tail_counts(1000, 6, 10)
    prior = counts / counts.sum()
    covered = 0
    for seed in range(30):
        low, high = estimate_prior(calibrated(prior, 1500, seed=seed)).interval
        covered += low <= 10 <= high
    assert covered >= 26


def test_prior_takes_a_result_and_keeps_column_order():
    proba = calibrated(np.array([0.1, 0.7, 0.2]), 3000)
    found = estimate_prior(SimpleNamespace(proba=proba))
    assert found.prior.argmax() == 1
    np.testing.assert_array_equal(found.prior, estimate_prior(proba).prior)
    even = estimate_prior(proba, concentration=1e9)
    np.testing.assert_allclose(even.prior, 1 / 3, atol=1e-4)
    with pytest.raises(ValueError, match="got values from"):
        estimate_prior(proba * 2)


def test_the_shares_a_head_estimated_are_not_undone_by_doubt():
    prior = np.array([0.2, 0.75, 0.05])
    doubtful = 0.5 * calibrated(prior, 2000) + 0.5 / 3
    found = estimate_prior(SimpleNamespace(proba=doubtful, cluster_prior=prior))
    np.testing.assert_allclose(found.prior, prior, atol=1e-3)
    assert found.interval[0] < 15 < found.interval[1]
    assert estimate_prior(doubtful).prior.max() < 0.6


def test_a_cluster_without_rows_keeps_a_share_above_zero():
    proba = np.zeros((50, 3))
    proba[:, 0] = 1
    found = estimate_prior(proba)
    assert found.prior.min() > 0
    assert np.isfinite(found.imbalance_ratio) and found.imbalance_ratio <= 51


def test_sizes_of_planted_gaussians_at_imbalance_100():
    sizes = long_tail_counts(1000, 10, 100)
    x, _ = planted(sizes)
    found = estimate_sizes(x, 10)
    true = np.sort(sizes)[::-1] / sizes.sum()
    assert 0.5 * np.abs(found.prior - true).sum() < 0.05
    assert found.interval[0] <= 100 <= found.interval[1]
    assert 50 < found.imbalance_ratio < 200
    with pytest.raises(ValueError, match="n_clusters=5000"):
        estimate_sizes(x[:100], 5000)


def test_sizes_of_balanced_gaussians_stay_even():
    x, _ = planted([150] * 8, noise=0.25)
    found = estimate_sizes(x, 8)
    assert 0.5 * np.abs(found.prior - 1 / 8).sum() < 0.05
    assert found.imbalance_ratio < 1.5


def test_number_of_clusters_on_a_long_tail():
    x, _ = planted(long_tail_counts(400, 9, 20), noise=0.1)
    found = fmc.estimate_n_clusters(x, (2, 60))
    assert abs(found.best - 9) <= 1
    assert found.interval[0] <= 9 <= found.interval[1]
    assert found.is_confident
    assert found.curve["k"].shape == found.curve["score"].shape
    assert found.curve["k"][[0, -1]].tolist() == [2, 60]


def test_no_confidence_without_structure():
    rng = np.random.default_rng(3)
    found = estimate_n_clusters(rng.normal(size=(500, 12)), (2, 40))
    assert not found.is_confident
    assert found.interval == (2, 40)


@pytest.mark.parametrize("k_range", [(1, 10), (10, 5), (0, 0)])
def test_bad_range_is_quoted(k_range):
    with pytest.raises(ValueError, match=r"k_range=\("):
        estimate_n_clusters(np.zeros((20, 2)), k_range)


def test_rows_that_are_all_the_same_have_no_number():
    for x in (np.ones((20, 4)), np.zeros((20, 4))):
        with pytest.raises(ValueError, match="the 20 rows are all the same"):
            estimate_n_clusters(x)


@pytest.mark.parametrize("k_range", [5, (2, 3, 4), ("2", "5"), (2.0, 5.0)])
def test_a_range_is_two_whole_numbers(k_range):
    with pytest.raises(TypeError, match="two whole numbers.*got"):
        estimate_n_clusters(np.zeros((20, 2)), k_range)


def test_too_few_rows():
    with pytest.raises(ValueError, match="at least 8 rows"):
        estimate_n_clusters(np.eye(5))


@pytest.mark.parametrize("ratio", [1, 10, 50, 100])
def test_long_tail_cut_has_the_published_counts(ratio):
    y = np.repeat(np.arange(10), 5000)
    rows = fmc.make_long_tail(y, imbalance_ratio=ratio, random_state=1)
    sizes = np.sort(np.bincount(y[rows], minlength=10))[::-1]
    np.testing.assert_array_equal(sizes, long_tail_counts(5000, 10, ratio))
    assert (np.diff(rows) > 0).all()


def test_long_tail_cut_depends_on_the_seed_alone():
    y = np.random.default_rng(0).permutation(np.repeat(list("abcdef"), 100))
    first = make_long_tail(y, 20, random_state=0)
    np.testing.assert_array_equal(first, make_long_tail(list(y), 20, random_state=0))
    other = make_long_tail(y, 20, random_state=1)
    assert not np.array_equal(first, other)
    assert len(first) == len(other) == long_tail_counts(100, 6, 20).sum()
    pareto = make_long_tail(y, 20, profile="pareto")
    assert len(pareto) == long_tail_counts(100, 6, 20, profile="pareto").sum()


def test_long_tail_cut_takes_all_of_a_class_that_is_too_small():
    y = np.array([0] * 100 + [1] * 3 + [2] * 100)
    for seed in range(5):
        rows = make_long_tail(y, 10, random_state=seed)
        assert 1 <= (y[rows] == 1).sum() <= 3
    with pytest.raises(ValueError, match="no rows"):
        make_long_tail([])
    with pytest.raises(ValueError, match="imbalance_ratio=0"):
        make_long_tail(y, 0)
    with pytest.raises(ValueError, match="profile='log'"):
        make_long_tail(y, profile="log")


@pytest.mark.slow
@pytest.mark.realdata
def test_natural_long_tail_of_tweets(shared_dir):
    """249 times as many rows in the largest class as in the smallest, 89 classes."""
    stored = np.load(shared_dir / "embeddings" / "tweet.npz")
    x, y = stored["x"].astype(np.float32), stored["y"]
    true = np.sort(np.unique(y, return_counts=True)[1])[::-1] / len(y)
    sizes = estimate_sizes(x, len(true))
    assert 0.5 * np.abs(sizes.prior - true).sum() < 0.1
    number = estimate_n_clusters(x)
    assert abs(number.best - len(true)) <= 0.3 * len(true)
    assert number.interval[0] <= len(true) <= number.interval[1]


def test_an_unsure_number_is_said_to_be_one(caplog):
    import fmcluster

    rows = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    fmcluster.make_head("kmeans", n_clusters="auto", random_state=0).fit(rows)
    assert "fit about as well" in caplog.text


def test_halves_agree_on_the_true_number_and_not_on_finer_ones():
    x = unit_rows(planted([200] * 6)[0])
    graph = KNNGraph.build(x, k=10)
    agreed = halves_agreement(averaged_points(x, graph), np.array([3, 6, 40]), seed=0)
    assert agreed.shape == (len(LINKAGES), 3)
    assert (agreed[:, 1] > 0.98).all()
    assert (agreed[:, 2] < 0.8).all()


def test_nodes_of_many_rows_tell_the_number_as_rows_do():
    x = unit_rows(planted([500, 300, 100, 60, 40])[0])
    graph = KNNGraph.build(x, k=10)
    points = averaged_points(x, graph, 300)
    assert len(points.rows) <= 300
    assert points.weights.sum() == len(x) == len(points.of_row)
    assert points.edges.counts.sum() == graph.indices.size
    np.testing.assert_array_equal(np.bincount(points.of_row), points.weights)
    agreed = halves_agreement(points, np.array([5, 40]), seed=0)
    assert (agreed[:, 0] > 0.98).all()
    scores = linkage_scores(x, points, graph, np.array([3, 5, 9]), seed=0)
    assert (scores.argmax(axis=1) == 1).all()


@pytest.mark.parametrize("n_kinds", [2, 3, 6])
def test_no_more_clusters_than_distinct_rows(n_kinds):
    x = np.repeat(np.random.default_rng(0).normal(size=(n_kinds, 8)), 20, axis=0)
    assert fmc.estimate_n_clusters(x).best == n_kinds
    for head in ("auto", "kmeans"):
        result = fmc.cluster(x, head=head)
        np.testing.assert_array_equal(np.bincount(result.labels), [20] * n_kinds)
