"""Greedy cover against brute force, and the small rules of choosing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.sparse import csr_matrix, random_array

from fmcluster.functional.selection import (
    ball_kernel,
    best_per_cluster,
    greedy_cover,
    k_center,
    quotas,
    support_kernel,
)
from fmcluster.vectors.graph import KNNGraph


def value(kernel, picks, importance=None):
    covered = kernel[np.asarray(picks)].max(axis=0)
    return float((covered if importance is None else covered * importance).sum())


def plain_greedy(kernel, budget, importance):
    picks = []
    for _ in range(budget):
        gains = [
            -1 if c in picks else value(kernel, [*picks, c], importance) for c in range(len(kernel))
        ]
        picks.append(int(np.argmax(gains)))
    return picks


@pytest.mark.parametrize("seed", range(5))
def test_lazy_greedy_is_greedy(seed):
    rng = np.random.default_rng(seed)
    dense = random_array((25, 25), density=0.3, rng=rng).toarray()
    importance = rng.random(25)
    lazy = greedy_cover(csr_matrix(dense), 6, importance=importance)
    naive = plain_greedy(dense, 6, importance)
    assert value(dense, lazy, importance) == pytest.approx(value(dense, naive, importance))
    assert lazy.tolist() == naive


def test_greedy_is_within_its_bound_of_the_best():
    rng = np.random.default_rng(0)
    dense = rng.random((12, 12)) ** 4
    best = max(value(dense, c) for c in itertools.combinations(range(12), 3))
    assert value(dense, greedy_cover(csr_matrix(dense), 3)) >= (1 - 1 / np.e) * best


def test_taken_rows_cover_and_are_not_picked_again():
    dense = np.kron(np.eye(3), np.ones((4, 4)))  # three groups that cover themselves
    picks = greedy_cover(csr_matrix(dense), 2, taken=np.array([0]))
    assert set(picks // 4) == {1, 2}
    rest = greedy_cover(csr_matrix(dense), 11, taken=np.array([0]))
    assert sorted(rest.tolist()) == list(range(1, 12))


def test_ties_go_to_the_smaller_row():
    assert greedy_cover(csr_matrix(np.eye(5)), 5).tolist() == [0, 1, 2, 3, 4]


def test_support_kernel_is_one_at_home_zero_at_the_radius():
    similarities = np.array([[1.0, 0.9, 0.8]] * 4, np.float32)
    indices = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
    kernel = support_kernel(indices, similarities).toarray()
    assert np.diag(kernel) == pytest.approx([1] * 4)
    assert kernel[1, 0] == pytest.approx(1)  # an exact duplicate covers fully
    assert kernel[2, 0] == pytest.approx(1 - 0.2 / 0.4)
    assert kernel[3, 0] == pytest.approx(0)


def test_support_kernel_among_duplicates_only():
    graph = KNNGraph.build(np.ones((6, 3), np.float32), k=3)
    picks = greedy_cover(support_kernel(graph.indices, graph.similarities), 3)
    assert len(set(picks.tolist())) == 3


def test_herding_covers_every_separate_group(blobs):
    x, y = blobs(n=400, k=8, d=16, spread=0.05)
    graph = KNNGraph.build(x, k=50)
    picks = greedy_cover(support_kernel(graph.indices, graph.similarities), 8)
    assert set(y[picks]) == set(range(8))


def test_ball_kernel_counts_who_is_near():
    graph = KNNGraph.build(np.eye(4) + 0.01, k=3)
    assert ball_kernel(graph.indices, graph.similarities, 0.1).nnz == 4
    assert ball_kernel(graph.indices, graph.similarities, 2.0).nnz == 16


def test_k_center_takes_the_farthest(blobs):
    x = np.array([[0.0], [1.0], [2.0], [10.0]])
    assert k_center(x, 2, taken=np.array([0])).tolist() == [3, 2]
    cold = k_center(x, 4, taken=np.empty(0, np.int64))
    assert sorted(cold.tolist()) == [0, 1, 2, 3]
    points, _ = blobs(n=150, k=3)
    assert np.array_equal(
        k_center(points, 10, taken=np.array([5])),
        k_center(points, 10, taken=np.array([5]), block=13),
    )


def test_best_per_cluster_goes_round():
    clusters = np.array([0, 0, 0, 1, 1, 2])
    score = np.array([0.1, 0.9, 0.5, 0.2, 0.8, 0.3])
    assert best_per_cluster(clusters, score, 6).tolist() == [1, 4, 5, 2, 3, 0]
    after = best_per_cluster(clusters, score, 3, taken=np.array([1]))
    assert after.tolist() == [4, 5, 2]


def test_quotas_serve_rare_clusters_first_and_keep_to_what_is_there():
    prior = np.array([0.8, 0.15, 0.05])
    plenty = np.array([100, 100, 100])
    none = np.zeros(3, np.int64)
    assert quotas(prior, 1, plenty, none).tolist() == [0, 0, 1]
    assert quotas(prior, 3, plenty, none).tolist() == [1, 1, 1]
    many = quotas(prior, 60, plenty, none)
    assert many.sum() == 60
    share = np.sqrt(prior) / np.sqrt(prior).sum()
    assert np.abs(many - 60 * share).max() <= 1.5
    assert quotas(prior, 50, np.array([100, 100, 2]), none)[2] == 2
