"""Samples and nodes that stand for many rows."""

from __future__ import annotations

import numpy as np
import pytest

from fmcluster.partition.landmarks import landmark_graph
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.rows import as_spaces


def head_data(x, k=4):
    return HeadData(as_spaces(x), k, 0)


def test_few_rows_are_all_taken_and_many_at_random(blobs):
    x, y = blobs(n=600, k=4)
    np.testing.assert_allclose(head_data(x).sample_rows(600), x, atol=1e-6)
    taken = head_data(x).sample_rows(150)
    assert len(taken) == 150
    where = (taken @ x.T).argmax(axis=1)
    assert (np.diff(where) > 0).all()
    assert len(set(np.diff(where))) > 2, "at equal steps periodic rows would be missed"
    np.testing.assert_array_equal(taken, head_data(x).sample_rows(150))


def test_rows_are_their_own_nodes_while_they_are_few(blobs):
    x, _ = blobs(n=300, k=4)
    nodes, graph = landmark_graph(head_data(x), 10, 300)
    np.testing.assert_allclose(nodes, x, atol=1e-6)
    assert (graph.n_rows, graph.k) == (300, 10)


@pytest.mark.parametrize(("most", "k", "expected"), [(240, 4, 80), (90, 20, 40)])
def test_a_third_as_many_nodes_lie_where_the_rows_lie(blobs, most, k, expected):
    x, y = blobs(n=1000, k=4, sizes=[100, 200, 300, 400])
    nodes, graph = landmark_graph(head_data(x, k), 10, most)
    assert len(nodes) == graph.n_rows == expected
    np.testing.assert_allclose(np.linalg.norm(nodes, axis=1), 1, atol=1e-5)
    means = np.stack([x[y == c].mean(axis=0) for c in range(4)])
    shares = np.bincount((nodes @ means.T).argmax(axis=1), minlength=4) / len(nodes)
    # Nodes are given out by the sizes of coarse parts.
    np.testing.assert_allclose(shares, [0.1, 0.2, 0.3, 0.4], atol=0.1)
