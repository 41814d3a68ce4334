"""Clusters that are taken for one another: told by rows in between, not by a hub near the mean."""

import dataclasses

import numpy as np

import fmcluster as fmc
from fmcluster.result.report.confusion import find_confusions, overlaps, shared_neighbors


def test_rows_in_between_are_counted_as_two_people_would_differ():
    rows, overlap = overlaps(np.array([[0.5, 0.5, 0]] * 8 + [[1, 0, 0]] * 4 + [[0, 0, 1]] * 4))
    assert rows[0, 1] == rows[1, 0] == 4, "of eight rows that could be in either, half"
    assert rows[0, 2] == 0 and (np.diag(rows) == 0).all()
    assert overlap[0, 1] == 1 and overlap[0, 2] == 0, "all four of the smaller one"


def test_a_cluster_that_gets_some_of_every_row_is_nobodys_neighbor():
    """Cluster 4 gets a bit of all rows; 0 and 1 share some rows half and half."""
    k, each = 5, 40
    proba = np.full((4 * each, k), 0.02 / 3)
    for label in range(4):
        rows = slice(label * each, (label + 1) * each)
        proba[rows, label], proba[rows, 4] = 0.9, 0.08
    proba[:12] = proba[each : each + 12] = [0.46, 0.46, 0.0, 0.0, 0.08]
    proba /= proba.sum(axis=1, keepdims=True)
    most = np.zeros((k, k))
    np.add.at(most, proba.argmax(axis=1), proba)
    np.fill_diagonal(most, -1)
    assert (most.argmax(axis=1)[2:4] == 4).all(), "the sum of probabilities names the hub"
    _, overlap = overlaps(proba)
    assert overlap[0].argmax() == 1 and overlap[1].argmax() == 0
    assert overlap[0, 1] > 0.2 and overlap[:, 4].max() == 0


def test_a_class_that_was_cut_in_two_is_found(blobs):
    X, y = blobs(400, 4)
    result = fmc.cluster(X, n_clusters=5, head="kmeans", random_state=1)
    halves = [c for c in range(5) if (y[result.labels == c] == split_class(result, y)).mean() > 0.9]
    assert len(halves) == 2
    found = find_confusions(result)
    assert {found.pairs[0].a, found.pairs[0].b} == set(halves)
    assert found.pairs[0].may_be_one
    assert result.sizes[found.pairs[0].a] >= result.sizes[found.pairs[0].b]
    a, b = found.pairs[0].a, found.pairs[0].b
    assert found.of(a)[0][0] == b
    either = result.proba[:, a] * result.proba[:, b]
    assert either[found.pairs[0].between].min() >= np.sort(either)[-4]


def split_class(result, y):
    """The class that most of two clusters are."""
    of = [np.bincount(y[result.labels == c]).argmax() for c in range(result.n_clusters)]
    return np.bincount(of).argmax()


def test_neighbors_are_shared_as_the_formula_says():
    labels = np.array([0, 0, 1, 1, 2, -1])
    near = np.array([[1, 2], [0, 2], [3, 0], [2, 4], [3, -1], [0, 1]])
    share = shared_neighbors(labels, near, 3)
    # edges both ways: 0-0 4, 0-1 3, 1-1 4, 1-2 2; a row in no cluster and no neighbor count nothing
    assert share[0, 1] == share[1, 0] == 3 / 7 and share[0, 2] == 0
    assert share[1, 2] == 1 and (np.diag(share) == 0).all(), "all of the neighbors of the small one"


def test_two_clusters_with_doubtful_rows_and_no_common_neighbors_are_two(blobs):
    """Doubt about rows does not make one of two clusters that lie apart."""
    X, _ = blobs(300, 3)
    result = fmc.cluster(X, n_clusters=3, head="kmeans")
    proba = np.full((300, 3), 0.02, np.float32)
    proba[np.arange(300), result.labels] = 0.96
    doubtful = np.flatnonzero(result.labels < 2)[::2]
    proba[doubtful] = [0.49, 0.49, 0.02]
    unsure = dataclasses.replace(result, proba=proba)
    first = find_confusions(unsure).pairs[0]
    assert {first.a, first.b} == {0, 1} and first.overlap > 0.2 and first.shared < 0.05
    assert not first.may_be_one
    alone = find_confusions(dataclasses.replace(unsure, graph=None)).pairs[0]
    assert alone.may_be_one and alone.shared == alone.overlap, "without neighbors doubt is all"


def test_rows_between_are_by_neighbors_where_the_probabilities_know_none(blobs):
    X, _ = blobs(200, 2)
    result = fmc.cluster(X, n_clusters=3, head="kmeans")
    sure = np.eye(3, dtype=np.float32)[result.labels]
    first = find_confusions(dataclasses.replace(result, proba=sure)).pairs[0]
    assert first.may_be_one and first.overlap == 0 and len(first.between)
    for row in first.between:
        other = first.b if result.labels[row] == first.a else first.a
        assert (result.labels[result.graph.indices[row]] == other).any()


def test_one_cluster_has_no_pair(blobs):
    X, _ = blobs(60, 1)
    assert find_confusions(fmc.cluster(X, n_clusters=1, head="kmeans")).pairs == ()
