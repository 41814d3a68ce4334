"""Groups of rows that are all but the same."""

import numpy as np
import pytest

from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.near_pairs import near_duplicates


def test_copies_are_one_group_the_largest_first():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 16)).astype(np.float32)
    X[[3, 8]] = X[1]
    X[20] = 2 * X[30]
    found = near_duplicates(KNNGraph.build(X, k=5))
    assert found.rows.tolist() == [1, 3, 8, 20, 30]
    assert found.group.tolist() == [0, 0, 0, 1, 1]
    assert found.nearest[3:].tolist() == [30, 20]
    np.testing.assert_allclose(found.similarity, 1, atol=1e-5)


def test_a_threshold_joins_what_lies_above_it():
    X = np.array([[1, 0], [1, 0.1], [0, 1], [0.5, 0.5]], np.float32)
    graph = KNNGraph.build(X, k=2)
    assert near_duplicates(graph, 0.99).rows.tolist() == [0, 1]
    assert near_duplicates(graph, 1.0).rows.size == 0
    assert set(near_duplicates(graph, -1).group) == {0}
    with pytest.raises(ValueError, match="threshold"):
        near_duplicates(graph, 1.5)
