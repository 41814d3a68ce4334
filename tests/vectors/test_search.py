"""An index that finds too few neighbors is replaced before anything is built on it."""

import logging

import numpy as np
import pytest
from helpers_neighbors import share_found

from fmcluster.vectors import search
from fmcluster.vectors.exact import nearest_rows
from fmcluster.vectors.faiss_index import families_for, filled_index
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.index import KNNIndex
from fmcluster.vectors.rows import unit_rows
from fmcluster.vectors.search import RecallSample, Searcher, efforts_of

FAMILIES = ["ivfpq", "ivf", "exact"]


def tight_clusters(n_rows):
    """Sixty clusters in 64 dimensions whose sizes fall a thousandfold, eight deviations from any
    border: rows of one cluster differ by little, and in all dimensions alike."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(60, 64))
    gaps = np.linalg.norm(centers[:, None] - centers[None], axis=2) + np.diag(np.full(60, np.inf))
    share = 1000.0 ** -(np.arange(60) / 59)
    y = rng.choice(60, n_rows, p=share / share.sum())
    return (centers * 16 / gaps.min())[y].astype("f4") + rng.normal(size=(n_rows, 64)).astype("f4")


@pytest.fixture(scope="module")
def X():
    return tight_clusters(12_000)


@pytest.fixture(scope="module")
def truth(X):
    return nearest_rows(unit_rows(X), 10)[0]


def test_codes_miss_the_target_and_vectors_in_the_cells_reach_it(X, truth, caplog):
    sample = RecallSample.draw(X, 10, seed=0)
    codes = Searcher(filled_index(X, "ivfpq", seed=0), "ivfpq")
    codes.refiner = search.Refiner.fit(X, 2**30)
    assert not codes.tune(sample, 0.95, efforts=efforts_of("ivfpq", len(X), last=False))
    assert codes.recall(sample) < 0.9
    with caplog.at_level(logging.WARNING, "fmcluster"):
        graph = KNNGraph.build(X, k=10, method=FAMILIES)
    assert graph.method in ("ivf", "exact")
    found = share_found(graph.indices, truth)
    assert found >= 0.94
    assert graph.recall == pytest.approx(found, abs=0.03)
    assert not caplog.records


def test_where_cells_do_not_reach_it_either_all_pairs_are_compared(X, truth, monkeypatch):
    monkeypatch.setitem(search.EFFORTS, "ivf", [(1, 1)])
    monkeypatch.setitem(search.EFFORTS, "ivfpq", [(1, 1)])
    index = KNNIndex.build(X, k=10, method=FAMILIES)
    assert (index.method, index.recall) == ("exact", 1.0)
    np.testing.assert_array_equal(index.search(X[:9], 11)[1][:, 1:], truth[:9])


def test_too_many_rows_for_all_pairs_take_what_the_cells_find(X, monkeypatch, caplog):
    monkeypatch.setattr(search, "MOST_PAIRS_ROWS", 1_000)
    monkeypatch.setitem(search.EFFORTS, "ivf", [(1, 1)])
    monkeypatch.setitem(search.EFFORTS, "ivfpq", [(1, 1)])
    with caplog.at_level(logging.WARNING, "fmcluster"):
        index = KNNIndex.build(X, k=10, method=FAMILIES)
    assert index.method == "ivf"
    assert index.recall < 0.95
    assert "the ivf index finds" in caplog.text
    assert "method='exact' where time allows" in caplog.text


def test_a_family_by_name_is_kept_and_goes_further(X, caplog):
    with caplog.at_level(logging.WARNING, "fmcluster"):
        graph = KNNGraph.build(X[:4000], k=10, method="ivfpq")
    assert graph.method == "ivfpq"
    assert graph.recall >= 0.94
    assert not caplog.records


def test_cells_are_looked_into_up_to_where_all_pairs_are_sooner():
    assert efforts_of("ivf", 300_000, last=False)[-1] == (128, 1)
    assert efforts_of("ivf", 20_000, last=False)[-1] == (32, 1)
    assert efforts_of("ivf", 500, last=False) == [(8, 1)]
    assert efforts_of("ivf", 500, last=True)[-1] == (1024, 1)
    assert efforts_of("ivfpq", 300_000, last=True)[-1] == search.FAR_EFFORTS[-1]
    assert efforts_of("exact", 300_000, last=True) == []


def test_votes_are_counted_on_a_graph_that_reaches_the_target_too(X, truth, monkeypatch):
    monkeypatch.setattr("fmcluster.vectors.graph.PAIRS_ROWS", 1_000)
    graph = KNNGraph.build(X, k=10)
    assert graph.method == "ivf"
    assert share_found(graph.indices, truth) >= 0.94


@pytest.mark.slow
def test_a_graph_of_sixty_thousand_rows_reaches_the_target():
    X = tight_clusters(60_000)
    families = families_for(*X.shape, exact_rows=50_000)
    assert families == FAMILIES
    graph = KNNGraph.build(X, k=20, method=families)
    assert graph.method == "ivf"
    assert graph.recall >= 0.94
    rows = np.arange(0, 60_000, 60)
    _, truth = search.true_neighbors(X, rows, 20)
    assert share_found(graph.indices[rows], truth) >= 0.94
