"""Neighbors by matrix products: the brute-force answer, whatever the rows."""

from __future__ import annotations

import numpy as np
import pytest

from fmcluster.vectors import exact as neighbors
from fmcluster.vectors.exact import nearest_rows


def unit(x):
    x = np.asarray(x, dtype=np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


def brute(x, k):
    cosines = x @ x.T
    np.fill_diagonal(cosines, -np.inf)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(cosines, order, 1)


@pytest.mark.parametrize(("n", "k"), [(2, 1), (50, 49), (300, 7), (300, 80), (301, 1)])
def test_same_as_brute_force(n, k):
    x = unit(np.random.default_rng(n).normal(size=(n, 6)))
    indices, similarities = nearest_rows(x, k)
    expected, cosines = brute(x, k)
    assert indices.dtype == np.int32 and similarities.dtype == np.float32
    assert np.array_equal(indices, expected)
    assert np.allclose(similarities, cosines, atol=1e-6)


def test_blocks_do_not_change_the_answer(monkeypatch):
    x = unit(np.random.default_rng(1).normal(size=(257, 5)))
    whole = nearest_rows(x, 9)[0]
    monkeypatch.setattr(neighbors, "BLOCK_BYTES", 4 * 257 * 10)
    assert np.array_equal(nearest_rows(x, 9)[0], whole)


def test_rows_in_order_of_their_classes():
    rng = np.random.default_rng(2)
    x = unit(np.repeat(np.eye(4), 100, axis=0) + 0.05 * rng.normal(size=(400, 4)))
    assert np.array_equal(nearest_rows(x, 10)[0], brute(x, 10)[0])


@pytest.mark.parametrize("x", [np.zeros((200, 3)), np.repeat(np.eye(3), 70, axis=0)])
def test_duplicates_are_each_others_neighbors_and_no_row_is_its_own(x):
    x = unit(x)
    indices, similarities = nearest_rows(x, 5)
    assert (indices != np.arange(len(x))[:, None]).all()
    assert all(len(set(row)) == 5 for row in indices.tolist())
    assert np.allclose(similarities, brute(x, 5)[1])
