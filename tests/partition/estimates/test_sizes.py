"""Sizes are found where they are planted, and nearly even ones are taken for even."""

from __future__ import annotations

import numpy as np
import pytest

from fmcluster.partition.estimates.sizes import (
    estimate_sizes,
    evenness,
    shares_by_rank,
    shrunk_to_even,
    size_profile,
)
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import as_spaces, unit_rows


def planted(sizes, *, d=32, noise=0.15, seed=4):
    """Unit rows around random directions."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(sizes)), sizes)
    centers = unit_rows(rng.normal(size=(len(sizes), d)))
    return unit_rows(centers[y] + noise * rng.normal(size=(len(y), d)))


def distance(shares, sizes):
    true = np.sort(np.array(sizes))[::-1] / np.sum(sizes)
    return 0.5 * np.abs(shares - true).sum()


@pytest.mark.parametrize(
    "sizes", [[100, 100, 100, 100, 100], [500, 160, 50, 16, 5], [300, 300, 30, 30, 30, 30]]
)
def test_size_profile_recovers_planted_sizes(sizes):
    rows = planted(sizes)
    shares = size_profile(rows, len(sizes), KNNGraph.build(rows, k=10))
    assert distance(shares, sizes) < 0.03
    assert shares.sum() == pytest.approx(1) and shares.min() > 0
    assert (np.diff(shares) <= 0).all()


def test_even_clusters_that_overlap_are_nearer_to_even_than_any_partition():
    rows = planted([80] * 10, d=12, noise=0.45)
    shares = size_profile(rows, 10, KNNGraph.build(rows, k=10))
    assert distance(shares, [80] * 10) < 0.06


@pytest.mark.parametrize("k", [2, 5, 50])
def test_shrinking_keeps_what_is_uneven_and_evens_out_what_is_nearly_even(k):
    uneven = 100.0 ** -(np.arange(k) / (k - 1))
    uneven /= uneven.sum()
    np.testing.assert_allclose(shrunk_to_even(uneven, 10**6), uneven, atol=0.003)
    near = np.linspace(1.1, 0.9, k)
    near /= near.sum()
    assert np.ptp(shrunk_to_even(near, 10**6)) < 0.1 * np.ptp(near)
    np.testing.assert_allclose(shrunk_to_even(np.full(k, 1 / k), 10**6), 1 / k)


def test_no_share_is_zero_and_one_cluster_has_all():
    shares = shrunk_to_even(np.array([1.0, 0.0, 0.0]), 100)
    assert shares.tolist() == pytest.approx(np.array([1, 0.005, 0.005]) / 1.01)
    assert shrunk_to_even(np.array([1.0]), 10).tolist() == [1.0]


def head_data(rows, k):
    return HeadData(as_spaces(rows), k, 0, None)


def test_sizes_of_the_rows_of_a_head():
    sizes = [200, 60, 20, 8]
    rows = planted(sizes, noise=0.1)
    np.testing.assert_allclose(estimate_sizes(head_data(rows, 4)), np.array(sizes) / 288, atol=0.02)
    np.testing.assert_allclose(estimate_sizes(head_data(rows[:5], 5)), 0.2)


def test_estimated_sizes_go_to_clusters_by_rank():
    estimated = np.array([0.7, 0.2, 0.07, 0.03])
    shares = shares_by_rank(estimated, np.array([80, 150, 151, 8]))
    np.testing.assert_array_equal(shares, [0.07, 0.2, 0.7, 0.03])


def test_evenness():
    assert evenness(np.full(5, 0.2)) == pytest.approx(1)
    assert evenness(np.array([1.0, 0.0, 0.0])) == pytest.approx(0)
    assert evenness(np.array([1.0])) == 1.0
