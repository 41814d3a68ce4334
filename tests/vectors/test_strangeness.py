"""A row's distance to its neighbors for their own scale, made without the row itself."""

import numpy as np
import pytest

from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.index import KNNIndex
from fmcluster.vectors.strangeness import own_strangeness, strangeness, unknown_rows, width_of


def test_a_row_is_scored_as_a_new_row_that_comes_to_the_others(blobs):
    x, _ = blobs(120, 3)
    graph = KNNGraph.build(x, k=20)
    own = own_strangeness(graph)
    for row in (0, 7, 119):
        others = np.delete(x, row, axis=0)
        rest = KNNGraph.build(others, k=20)
        cosines, near = KNNIndex.build(others).search(x[row : row + 1], 10)
        # The floor is of the middle distance, which one row hardly moves.
        assert strangeness(rest, near, cosines)[0] == pytest.approx(own[row], abs=1e-4)


def test_values_by_hand():
    """Three rows on a circle, one neighbor each: half the logarithm of a neighbor's distance."""
    angles = np.array([0.0, 0.1, 0.5])
    x = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    graph = KNNGraph.build(x, k=2)
    assert width_of(graph) == 1
    d = 1 - np.cos(np.abs(angles[:, None] - angles))
    expected = [
        np.log(d[0, 1]) - 0.5 * np.log(d[1, 2]),
        np.log(d[1, 0]) - 0.5 * np.log(d[0, 2]),
        np.log(d[2, 1]) - 0.5 * np.log(d[1, 0]),
    ]
    np.testing.assert_allclose(own_strangeness(graph), expected, rtol=1e-3)


def test_a_row_far_from_all_is_the_strangest(blobs):
    x, _ = blobs(200, 3, spread=0.05)
    odd = -x.sum(axis=0)
    x = np.vstack([x, odd / np.linalg.norm(odd)]).astype(np.float32)
    assert own_strangeness(KNNGraph.build(x, k=20)).argmax() == 200


def test_equal_rows_are_equally_strange():
    graph = KNNGraph.build(np.ones((30, 4), np.float32), k=20)
    scores = own_strangeness(graph)
    assert np.isfinite(scores).all() and np.ptp(scores) == 0
    assert not unknown_rows(graph).any()


@pytest.mark.parametrize("k", [1, 2, 5])
def test_narrow_graphs_serve(blobs, k):
    x, _ = blobs(40, 2)
    graph = KNNGraph.build(x, k=k)
    assert width_of(graph) == max(1, k - 1)
    assert np.isfinite(own_strangeness(graph)).all()


def test_missing_answers_repeat_the_last_and_rows_of_zeros_are_named(blobs):
    x, _ = blobs(60, 2)
    x[5] = 0
    graph = KNNGraph.build(x, k=4)
    assert np.flatnonzero(unknown_rows(graph)).tolist() == [5]
    whole = strangeness(graph, np.array([[3, 3, 3]]), np.array([[0.9, 0.9, 0.9]]))
    short = strangeness(graph, np.array([[3, -1, -1]]), np.array([[0.9, -9, -9]]))
    np.testing.assert_array_equal(whole, short)
