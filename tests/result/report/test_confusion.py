"""Clusters that are taken for one another: told by rows in between, not by a hub near the mean."""

import numpy as np

import fmcluster as fmc
from fmcluster.result.report.confusion import find_confusions, overlaps


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
    result = fmc.cluster(X, n_clusters=5, head="kmeans")
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


def test_one_cluster_has_no_pair(blobs):
    X, _ = blobs(60, 1)
    assert find_confusions(fmc.cluster(X, n_clusters=1, head="kmeans")).pairs == ()
