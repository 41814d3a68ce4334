"""Candidate partitions, their trees and scores, sizes and the number of clusters from them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from fmcluster.partition.candidates import (
    ALGORITHMS,
    best_partition,
    candidate_partitions,
    sample_with_graph,
    start_partition,
)
from fmcluster.partition.estimates.number import (
    choose_n_clusters,
    estimate_number,
    gaussian_like,
    k_grid,
)
from fmcluster.partition.kmeans import kmeans_partition
from fmcluster.partition.linkage import agglomerate, condensed_cut, cut_tree, merge_tree
from fmcluster.partition.mini_clusters import (
    MiniClusters,
    group_sums,
    mini_clusters,
    smooth_rows,
)
from fmcluster.partition.scores import modularity, score_partition, silhouette
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import as_spaces, unit_rows


def blobs(sizes, *, d=32, noise=0.1, seed=0):
    """Unit rows around random directions; returns rows and labels."""
    rng = np.random.default_rng(seed)
    centers = unit_rows(rng.normal(size=(len(sizes), d)))
    y = np.repeat(np.arange(len(sizes)), sizes)
    return unit_rows(centers[y] + noise * rng.normal(size=(len(y), d))), y


def singletons(rows):
    """Mini-clusters of one row each, so that scipy's unweighted linkages are the oracle."""
    n = len(rows)
    return MiniClusters(rows, np.arange(n), rows.astype(float), np.ones(n))


@pytest.mark.parametrize(("name", "oracle"), [("average", "average"), ("ward", "ward")])
@pytest.mark.parametrize("seed", range(5))
def test_linkage_equals_scipy(name, oracle, seed):
    rows = unit_rows(np.random.default_rng(seed).normal(size=(80, 6)))
    tree = merge_tree(singletons(rows), name)
    if oracle == "average":
        expected = linkage(rows, "average", metric="cosine")
    else:
        expected = linkage(rows, "ward")
    for k in (2, 5, 11, 40):
        labels = fcluster(expected, k, criterion="maxclust")
        assert adjusted_rand_score(labels, cut_tree(tree, k)) == pytest.approx(1.0)


def test_sizes_of_leaves_count():
    """A leaf of three rows merges as three leaves at the same place would."""
    rng = np.random.default_rng(1)
    rows = unit_rows(rng.normal(size=(30, 5)))
    repeat = rng.integers(1, 5, size=30)
    spread = np.repeat(np.arange(30), repeat)
    mini = MiniClusters(rows, spread, group_sums(rows[spread], spread, 30), repeat.astype(float))
    expected = linkage(rows[spread].astype(float), "average", metric="cosine")
    tree = merge_tree(mini, "average")
    for k in (2, 6, 12):
        labels = fcluster(expected, k, criterion="maxclust")
        assert adjusted_rand_score(labels, cut_tree(tree, k)[spread]) == pytest.approx(1.0)


def test_graph_linkage_follows_edges_not_distances():
    """Two parallel rows of points: neighbors chain along each, centroids do not see them."""
    t = np.linspace(0, 1.2, 150)
    a = np.stack([np.cos(t), np.sin(t), np.full_like(t, 0.25)], axis=1)
    b = np.stack([np.cos(t), np.sin(t), np.full_like(t, -0.25)], axis=1)
    rows = unit_rows(np.concatenate([a, b]))
    y = np.repeat([0, 1], 150)
    graph = KNNGraph.build(rows, k=6)
    mini = mini_clusters(rows, 30)
    graph_labels = cut_tree(merge_tree(mini, "graph", graph), 2)[mini.labels]
    ward_labels = cut_tree(merge_tree(mini, "ward"), 2)[mini.labels]
    assert adjusted_rand_score(y, graph_labels) > 0.95
    assert adjusted_rand_score(y, ward_labels) < 0.5
    with pytest.raises(ValueError, match="pass graph="):
        merge_tree(mini, "graph")
    with pytest.raises(ValueError, match="linkage='single'"):
        merge_tree(mini, "single")


def test_a_condensed_cut_leaves_odd_rows_with_their_siblings():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(c, 0.1, (n, 2)) for c, n in ((0, 30), (3, 20), (6, 10))])
    x = np.concatenate([x, [[0, 40], [1, 41]]])  # two odd rows, far from all
    distance = np.linalg.norm(x[:, None] - x[None], axis=2)
    tree, one = agglomerate(distance, np.ones(62), ward=False), np.ones(62)
    assert np.bincount(cut_tree(tree, 3)).min() <= 2
    labels = condensed_cut(tree, one, 3, least=5)
    assert sorted(np.bincount(labels[:60])) == [10, 20, 30]
    assert np.bincount(labels).min() >= 5
    np.testing.assert_array_equal(condensed_cut(tree, one, 20, least=5), cut_tree(tree, 20))
    weighed = np.where(np.arange(62) < 60, 1.0, 5.0)
    assert labels[60] in labels[:60]
    alone = condensed_cut(tree, weighed, 4, least=5)
    assert len(np.unique(alone[60:])) == 1 and alone[60] not in alone[:60]


def test_cut_tree_gives_nested_partitions_without_gaps():
    rows, _ = blobs([30, 20, 10])
    tree = merge_tree(singletons(rows), "average")
    finer = cut_tree(tree, 12)
    for k in (12, 7, 3, 1):
        labels = cut_tree(tree, k)
        assert np.array_equal(np.unique(labels), np.arange(k))
        # Each finer cluster lies in one coarser cluster.
        assert all(len(np.unique(labels[finer == f])) == 1 for f in range(12))
    assert np.array_equal(cut_tree(tree, 60), np.arange(60))
    assert agglomerate(np.zeros((1, 1)), np.ones(1), False).shape == (0, 2)


def test_modularity_equals_its_definition():
    rng = np.random.default_rng(0)
    rows, _ = blobs([20, 15, 10], noise=0.3)
    graph = KNNGraph.build(rows, k=5)
    labels = rng.integers(0, 3, size=45)
    adjacency = np.zeros((45, 45))
    for i, neighbors in enumerate(graph.indices):
        adjacency[i, neighbors] += 1
    adjacency = (adjacency + adjacency.T) / 2
    degree, total = adjacency.sum(1), adjacency.sum()
    same = labels[:, None] == labels
    expected = ((adjacency / total - np.outer(degree, degree) / total**2) * same).sum()
    assert modularity(labels, graph, 3) == pytest.approx(expected)
    assert modularity(np.zeros(45, int), graph, 1) == pytest.approx(0)


def test_silhouette_leaves_the_row_out():
    rows, y = blobs([6, 4], noise=0.2)
    sums = group_sums(rows, y, 2)
    values = []
    for i, row in enumerate(rows):
        own = sums[y[i]] - row
        other = sums[1 - y[i]]
        own, other = (row @ v / np.linalg.norm(v) for v in (own, other))
        values.append((own - other) / (1 - min(own, other)))
    assert silhouette(rows, y, sums) == pytest.approx(np.mean(values), abs=1e-5)
    alone = np.arange(10)
    assert silhouette(rows, alone, rows.astype(float)) == 0.0
    assert silhouette(rows, np.zeros(10, int), sums[:1]) == 0.0


def test_every_family_finds_separated_blobs_and_predicts_inductively():
    rows, y = blobs([60, 40, 30, 20])
    graph = KNNGraph.build(rows, k=10)
    found = list(candidate_partitions(rows, 4, graph, n_seeds=2))
    assert [one.algorithm for one in found] == 2 * list(ALGORITHMS)
    for one in found:
        assert one.n_clusters == 4
        assert np.array_equal(one.predict(rows), one.labels)
        assert one.sizes.sum() == len(rows)
        assert 0 < one.score < 2
    for one in found:
        if one.algorithm != "kmeans":
            assert adjusted_rand_score(y, one.labels) == 1.0
    best = best_partition(rows, 4, graph)
    assert best.score == max(o.score for o in candidate_partitions(rows, 4, graph))
    new, new_y = blobs([10, 10, 10, 10], seed=0, noise=0.05)
    assert adjusted_rand_score(new_y, best.predict(new)) == 1.0


def test_score_prefers_the_truth_on_a_long_tail():
    rows, y = blobs([400, 100, 25, 6], noise=0.25)
    graph = KNNGraph.build(rows, k=5)
    truth = score_partition(rows, y, graph)
    _, halves = kmeans_partition(rows[y == 0], 2)
    split = y.copy()
    split[y == 0] = np.where(halves == 0, 0, 3)
    split[y == 3] = 2
    assert truth > score_partition(rows, split, graph)


def test_smoothing_draws_clusters_together():
    rows, y = blobs([50, 50], noise=0.25)
    graph = KNNGraph.build(rows, k=8)
    before = silhouette(rows, y, group_sums(rows, y, 2))
    smooth = smooth_rows(rows, graph)
    after = silhouette(smooth, y, group_sums(smooth, y, 2))
    assert after > before + 0.1
    np.testing.assert_allclose(np.linalg.norm(smooth, axis=1), 1, rtol=1e-5)


def test_equal_seeds_give_equal_partitions():
    rows, _ = blobs([40, 30, 20], noise=0.5)
    graph = KNNGraph.build(rows, k=8)
    first, second = (
        [p.labels for p in candidate_partitions(rows, 5, graph, random_state=3)] for _ in range(2)
    )
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_duplicates_and_more_clusters_than_places():
    rows = unit_rows(np.repeat(np.eye(3, dtype=np.float32), 10, axis=0))
    graph = KNNGraph.build(rows, k=5)
    for one in candidate_partitions(rows, 5, graph):
        assert one.n_clusters <= 5
        assert np.isfinite(one.score)
        assert np.array_equal(np.unique(one.labels), np.arange(one.n_clusters))


@pytest.mark.parametrize("k", [2, 3, 5, 8, 12, 20])
def test_number_of_separated_blobs(k):
    rows, _ = blobs([40] * k, noise=0.08, seed=k)
    found = estimate_number(rows, KNNGraph.build(rows, k=10), k_range=(2, 60))
    assert abs(found.best - k) <= 1
    assert found.interval[0] <= k <= found.interval[1]


def test_one_gaussian_has_no_number():
    rng = np.random.default_rng(0)
    rows = unit_rows(rng.normal(size=(600, 10)) + 1.0)
    found = estimate_number(rows, KNNGraph.build(rows, k=10), k_range=(2, 50))
    assert found.interval == (2, 50)
    assert found.gain < 0.1


def test_gaussian_like_keeps_mean_and_spread():
    rows, _ = blobs([300, 300], noise=0.3)
    like = gaussian_like(rows, 0)
    assert np.linalg.norm(like.mean(0) - rows.mean(0)) < 0.1
    assert k_grid(2, 200)[0] == 2 and k_grid(2, 200)[-1] == 200
    assert k_grid(3, 3).tolist() == [3]


def head_data(x, k):
    return HeadData(as_spaces(x), k, 0, None)


def test_what_heads_call():
    rows, y = blobs([200, 60, 20, 8], noise=0.1)
    data = head_data(rows, 4)
    assert adjusted_rand_score(y, start_partition(data)) > 0.95
    assert abs(choose_n_clusters(head_data(rows, 0), k_range=(2, 40)) - 4) <= 1
    tiny = head_data(rows[:5], 0)
    assert choose_n_clusters(tiny) == 2


def test_many_rows_are_sampled(monkeypatch):
    rows, y = blobs([200, 100, 50], noise=0.1)
    data = head_data(rows, 3)
    sample, graph = sample_with_graph(data, most=120)
    assert sample.shape == (120, 32) and graph.n_rows == 120
    again, _ = sample_with_graph(data, most=120)
    np.testing.assert_array_equal(sample, again)
    monkeypatch.setattr(sample_with_graph, "__defaults__", (120, 10))
    labels = start_partition(data)
    assert labels.shape == (350,)
    assert adjusted_rand_score(y, labels) > 0.95
