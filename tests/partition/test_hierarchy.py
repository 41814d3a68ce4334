"""Cuts of the tree are nested and go through the partition; knees are the numbers to look at."""

import numpy as np
import pytest

from fmcluster.partition.hierarchy import build_hierarchy, hierarchy_of_graph, knees, spaced
from fmcluster.partition.linkage import LINKAGES, merge_tree
from fmcluster.partition.mini_clusters import mini_clusters
from fmcluster.partition.scores import score_partition
from fmcluster.vectors.graph import KNNGraph


@pytest.fixture(scope="module")
def made(blobs):
    """240 rows of 4 clusters, each cut into 5 leaves by chance."""
    x, y = blobs(240, 4)
    leaves = 5 * y + np.random.default_rng(0).integers(0, 5, 240)
    graph = KNNGraph.build(x, k=10)
    tree = build_hierarchy(x, leaves, np.repeat(np.arange(4), 5), graph)
    return x, y, graph, tree


def test_every_cut_is_nested_in_the_one_above(made):
    _, y, _, tree = made
    assert (tree.n_clusters, tree.n_leaves) == (4, 20)
    finer = tree.cut(20)
    assert len(np.unique(finer)) == 20
    for k in range(19, 0, -1):
        groups = tree.cut(k)
        assert np.unique(groups).tolist() == list(range(k))
        assert len(np.unique(np.stack([groups, finer]), axis=1).T) == k + 1
        finer = groups
    np.testing.assert_array_equal(tree.cut(4)[tree.leaves], y)


def test_the_score_is_that_of_the_rows(made):
    x, _, graph, tree = made
    for k in (2, 4, 9):
        labels = tree.cut(k)[tree.leaves]
        assert tree.score(tree.cut(k)) == pytest.approx(score_partition(x, labels, graph), abs=1e-6)


def test_the_curve_has_the_own_number_and_its_best_score(made):
    ks, scores = made[3].curve(20)
    assert ks[0] == 2 and ks[-1] == 20 and 4 in ks
    assert ks[scores.argmax()] == 4
    assert knees(ks, scores, 4)[0] == 4


@pytest.mark.parametrize("linkage", LINKAGES)
def test_groups_that_are_apart_are_whole_before_any_two_join(blobs, linkage):
    x, _ = blobs(200, 3)
    mini = mini_clusters(x, 30)
    apart = np.arange(len(mini.sizes)) % 3  # across the true clusters
    tree = merge_tree(mini, linkage, KNNGraph.build(x, k=10), apart=apart)
    groups = [{int(g)} for g in apart]
    for a, b in tree:
        groups.append(groups[a] | groups[b])
    assert all(len(found) == 1 for found in groups[: 2 * len(apart) - 3])
    assert len(groups[-1]) == 3


def test_without_rows_the_graph_joins_what_its_edges_join():
    y = np.repeat(np.arange(4), 30)
    near = np.stack([(np.arange(120) // 60 * 60 + j) for j in range(0, 60, 6)], axis=1)
    graph = KNNGraph(near, np.full(near.shape, 0.9, np.float32))
    tree = hierarchy_of_graph(y, np.eye(4, dtype=np.float32)[y], graph)
    assert sorted(map(tuple, [tree.cut(2)[:2], tree.cut(2)[2:]])) == [(0, 0), (1, 1)]
    assert tree.score(tree.cut(2)) == pytest.approx(0.5)


def test_knees_by_hand():
    ks = np.unique(np.geomspace(2, 200, 60).round()).astype(int)
    at = np.log(ks)
    straight = 0.3 * at
    assert knees(ks, straight, 50) == [50]
    bent = np.minimum(0.5 * at, 0.5 * np.log(10) + 0.1 * (at - np.log(10)))
    assert knees(ks, bent, 50) == [10, 50]
    assert knees(ks, bent, 11) == [11], "near the own number there is no other"


def test_spaced_numbers():
    assert spaced(2, 5, 10) == [2, 3, 4, 5]
    assert spaced(5, 4, 10) == []
    found = spaced(2, 200, 12)
    assert len(found) <= 12 and found[0] == 2 and found[-1] == 200
