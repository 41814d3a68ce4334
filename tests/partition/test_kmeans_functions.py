"""The k-means++ start: planted clusters for every seed, unit centroids, one seed one answer."""

from __future__ import annotations

import numpy as np
import pytest

from fmcluster.partition import kmeans
from fmcluster.partition.kmeans import plus_plus_centroids, spherical_kmeans
from fmcluster.vectors.rows import unit_rows


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
    monkeypatch.setattr(kmeans, "SEED_ROWS", 2)
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


def test_rounds_and_starts_are_enough_on_the_digits():
    """What the constants' comments say, measured."""
    from sklearn.datasets import load_digits

    x = load_digits().data.astype(np.float32)
    x = unit_rows(x - x.mean(axis=0))

    def reached(k, rounds, **more):
        centroids = kmeans.spherical_kmeans(x, k, max_iter=rounds, **more)
        return float((x @ centroids.T).max(axis=1).sum())

    for k, rounds, share in (
        (10, kmeans.ROUNDS, 1.0),
        (80, kmeans.ROUNDS, 1.0),
        (10, kmeans.ROUGH_ROUNDS, 0.99),
        (80, kmeans.ROUGH_ROUNDS, 0.9999),
        (80, kmeans.MINI_ROUNDS, 0.996),
    ):
        rest = [reached(k, 200, seed=seed) for seed in range(6)]
        for seed in range(6):
            assert reached(k, rounds, seed=seed) >= share * rest[seed] * (1 - 1e-6)
    ones = [reached(10, kmeans.ROUNDS, seed=seed) for seed in range(12)]
    best = max(ones)
    assert min(ones) < 0.975 * best
    fours = [reached(10, kmeans.ROUNDS, seed=seed, n_init=kmeans.N_INIT) for seed in range(4)]
    assert min(fours) >= 0.994 * best
