"""k-means that holds the rows whose class is known."""

from __future__ import annotations

import numpy as np
import pytest

from fmcluster.partition.kmeans import spherical_kmeans
from fmcluster.partition.lloyd import one_round
from fmcluster.partition.seeded import classes_first, constrained_kmeans
from fmcluster.vectors.rows import unit_rows


def test_classes_come_first_in_their_order():
    centroids = np.eye(4, dtype=np.float32)
    known = unit_rows(np.float32([[0, 0.1, 1, 0], [0.1, 1, 0, 0], [0, 0, 1, 0.2]]))
    found = classes_first(centroids, known, np.array([0, 1, 0]), 2)
    np.testing.assert_array_equal(found, centroids[[2, 1, 0, 3]])


def test_a_class_whose_centroid_is_taken_starts_at_its_own_mean():
    centroids = np.eye(3, dtype=np.float32)
    known = unit_rows(np.float32([[1, 0, 0], [0.9, 0.3, 0]]))
    found = classes_first(centroids, known, np.array([0, 1]), 2)
    np.testing.assert_array_equal(found, [centroids[0], known[1], centroids[2]])


def test_as_many_classes_as_clusters_leave_no_other():
    centroids = np.eye(2, dtype=np.float32)
    found = classes_first(centroids, centroids[::-1].copy(), np.array([0, 1]), 2)
    np.testing.assert_array_equal(found, centroids[::-1])


def test_known_rows_are_in_the_mean_of_their_class(blobs):
    x, y = blobs(n=200, k=3, d=8, spread=0.4)
    start = spherical_kmeans(x, 3, n_init=2, seed=0)
    # Rows of class 0 that are said to be of class 1: they stay with it wherever they lie.
    rows = np.flatnonzero(y == 0)[:10]
    rows = np.concatenate([rows, np.flatnonzero(y == 0)[-20:], np.flatnonzero(y == 1)[:20]])
    target = np.repeat([1, 0, 1], [10, 20, 20])
    centroids, rounds = constrained_kmeans(x, start, rows, target, 2, max_iter=100)
    labels = (x @ centroids.T).argmax(axis=1)
    assert labels[rows[:10]].tolist() == [0] * 10
    labels[rows] = target
    for cluster, center in enumerate(centroids):
        mean = x[labels == cluster].sum(axis=0)
        np.testing.assert_allclose(center, mean / np.linalg.norm(mean), atol=1e-2)
    assert 1 <= rounds < 100


def test_without_a_wrong_label_the_objective_is_that_of_k_means(blobs):
    x, y = blobs(n=200, k=4, d=8)
    start = spherical_kmeans(x, 4, n_init=4, seed=0)
    rows = np.array([np.flatnonzero(y == c)[0] for c in range(4)])
    centroids, _ = constrained_kmeans(x, start, rows, np.arange(4), 4)
    np.testing.assert_array_equal((x @ centroids.T).argmax(axis=1), y)
    assert one_round(x, centroids).objective == pytest.approx(
        one_round(x, start).objective, rel=1e-6
    )
