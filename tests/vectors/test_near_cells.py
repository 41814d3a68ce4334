"""Neighbors by cells: recall as predicted, exact where all cells are looked into, one answer."""

import numpy as np
import pytest
from helpers_neighbors import share_found

from fmcluster.utils.random import seed_of
from fmcluster.vectors import near_cells as cells_module
from fmcluster.vectors.exact import nearest_rows
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.near_cells import Cells, neighbors_by_cells
from fmcluster.vectors.rows import unit_rows
from fmcluster.vectors.search import RecallSample


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 24))[rng.integers(0, 40, 3_000)] + rng.normal(size=(3_000, 24))


@pytest.fixture(scope="module")
def truth(X):
    return nearest_rows(unit_rows(X.astype("f4")), 10)


def test_looking_into_all_cells_is_the_exact_graph(X, truth):
    cells = Cells.fit(X, seed=0)
    indices, cosines = cells.neighbors(2.0, 10)
    np.testing.assert_allclose(cosines, truth[1], atol=1e-6)
    assert share_found(indices, truth[0]) > 0.9999
    sample = RecallSample.draw(X, 10, seed=0)
    gaps, _ = cells.gaps(sample)
    assert cells.share(gaps, 2.0) == 1 > cells.share(gaps, 0.1) > cells.share(gaps, -1)


@pytest.mark.parametrize("target", [0.5, 0.8, 0.95, 1.0])
def test_the_recall_is_what_was_asked_for_and_what_is_told(X, truth, target):
    indices, cosines, recall = neighbors_by_cells(X, 10, target=target, seed=0)
    found = share_found(indices, truth[0])
    assert found > target - 0.03
    assert recall == pytest.approx(found, abs=0.03)
    unit = unit_rows(X.astype("f4"))
    np.testing.assert_allclose(cosines, np.einsum("id,ijd->ij", unit, unit[indices]), atol=1e-6)
    assert (np.diff(cosines, axis=1) <= 0).all()
    assert (indices != np.arange(3_000)[:, None]).all()


def test_gaps_tell_what_a_search_finds(X, truth, monkeypatch):
    monkeypatch.setattr(cells_module, "CLOSE_CELLS", 4)
    cells = Cells.fit(X, seed=0)
    sample = RecallSample.draw(X, 10, seed=seed_of(0, "recall"))
    _, gaps = cells.gaps(sample)
    for gap in (-1.0, 0.05, 0.2):
        indices, _ = cells.neighbors(gap, 10)
        found = share_found(indices[sample.rows], sample.truth)
        assert found == pytest.approx(float((gaps <= gap).mean()), abs=0.002)


def test_one_far_row_that_finds_thousands_costs_no_more_than_they_do(X, truth, monkeypatch):
    monkeypatch.setattr(cells_module, "CLOSE_CELLS", 1)
    monkeypatch.setattr(cells_module, "JOINED_VALUES", 500)
    indices, cosines = Cells.fit(X, seed=0).neighbors(2.0, 10)
    np.testing.assert_allclose(cosines, truth[1], atol=1e-6)
    assert share_found(indices, truth[0]) > 0.9999


def test_none_where_it_takes_more_pairs_than_allowed(X, monkeypatch):
    assert neighbors_by_cells(X, 10, target=0.95, seed=0, most_share=0.01) is None
    monkeypatch.setattr("fmcluster.vectors.graph.PAIRS_SHARE", 0.01)
    assert KNNGraph.build(X, k=10, method=["ivf", "exact"], target_recall=1.0).method == "exact"


def test_equal_rows_and_few_rows_have_neighbors_without_gaps():
    X = np.repeat(np.eye(5, 8, dtype="f4"), [300, 2, 1, 40, 7], axis=0)
    indices, cosines, _ = neighbors_by_cells(X, 30, target=0.1, seed=0)
    assert indices.shape == (350, 30)
    assert all(len(set(row)) == 30 for row in indices.tolist())
    assert (indices != np.arange(350)[:, None]).all()
    assert np.allclose(cosines[:300], 1)


def test_the_same_for_any_number_of_threads_and_size_of_block(X, monkeypatch):
    first = neighbors_by_cells(X, 10, target=0.9, seed=3)
    for threads, block in ((1, 2**10), (3, 2**25)):
        monkeypatch.setenv("FMCLUSTER_THREADS", str(threads))
        monkeypatch.setattr(cells_module, "BLOCK_BYTES", block)
        monkeypatch.setattr(cells_module, "SLAB_ROWS", block)
        again = neighbors_by_cells(X, 10, target=0.9, seed=3)
        np.testing.assert_allclose(again[1], first[1], atol=1e-6)
        assert share_found(again[0], first[0]) > 0.9999
