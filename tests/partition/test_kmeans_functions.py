"""The k-means++ start: planted clusters for every seed, unit centroids, one seed one answer."""

from __future__ import annotations

import numpy as np
import pytest

from fmcluster.partition import kmeans as _plus_plus
from fmcluster.partition.kmeans import plus_plus_centroids, spherical_kmeans


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_each_planted_cluster_gets_one_centroid(blobs, seed):
    data = blobs(n=600, k=12, d=16, spread=0.05)
    x = unit(data.x)
    labels = (x @ plus_plus_centroids(x, 12, seed=seed).T).argmax(axis=1)
    assert len({(a, b) for a, b in zip(labels, data.y, strict=True)}) == 12


def test_random_starts_split_and_merge_planted_clusters_where_these_do_not(blobs):
    data = blobs(n=1200, k=40, d=24, spread=0.05)
    x = unit(data.x)
    own, random = (
        float((x @ centroids.T).max(axis=1).mean())
        for centroids in (
            plus_plus_centroids(x, 40, seed=0),
            spherical_kmeans(x, 40, n_init=4, seed=0),
        )
    )
    assert own > 0.97
    assert own > random + 0.01


def test_comparing_over_all_rows_ends_where_few_rows_would_not(blobs, monkeypatch):
    """Of two rows a cluster, no sample tells the seedings apart."""
    monkeypatch.setattr(_plus_plus, "SEED_ROWS", 2)
    x = unit(blobs(n=900, k=9, d=8, spread=0.25).x)

    def objective(**given):
        centroids = plus_plus_centroids(x, 12, max_iter=100, **given)
        return float((x @ centroids.T).max(axis=1).mean())

    found = [objective(seed=seed, compare_all=True) for seed in range(5)]
    sampled = [objective(seed=seed) for seed in range(5)]
    assert min(found) > np.mean(sampled)
    assert np.ptp(found) < np.ptp(sampled)


def test_centroids_are_unit_rows_and_the_same_for_one_seed(blobs):
    x = unit(blobs(n=80, k=3, d=6).x)
    first, again = (plus_plus_centroids(x, 3, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)


def test_as_many_clusters_as_rows_and_rows_that_are_all_one(blobs):
    x = unit(blobs(n=5, k=1, d=6).x)
    assert plus_plus_centroids(x, 5, seed=0).shape == (5, 6)
    assert np.isfinite(plus_plus_centroids(np.repeat(x[:1], 9, axis=0), 2, seed=0)).all()
