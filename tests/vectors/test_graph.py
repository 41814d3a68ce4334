"""Neighbors: exact against brute force, self never among them, recall measured, errors named."""

import subprocess
import sys

import numpy as np
import pytest

from fmcluster.embedding.store.store import EmbeddingStore
from fmcluster.utils.errors import CorruptShardError
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.index import KNNIndex
from fmcluster.vectors.rows import iter_blocks, unit_rows


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(400, 16)).astype("f4")


def brute(X, k):
    Z = X / np.linalg.norm(X, axis=1, keepdims=True)
    S = Z @ Z.T
    np.fill_diagonal(S, -np.inf)
    order = np.argsort(-S, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(S, order, 1)


def test_exact_graph_equals_brute_force(X):
    graph = KNNGraph.build(X, k=10)
    indices, similarities = brute(X, 10)
    np.testing.assert_array_equal(graph.indices, indices)
    np.testing.assert_allclose(graph.similarities, similarities, atol=1e-5)
    assert graph.indices.dtype == np.int32
    assert (graph.method, graph.recall) == ("exact", 1.0)


def test_a_row_is_never_its_own_neighbor_even_among_duplicates():
    X = np.repeat(np.eye(4, dtype="f4"), 30, axis=0)
    graph = KNNGraph.build(X, k=20)
    own = np.arange(120)[:, None]
    assert (graph.indices != own).all()
    assert (graph.indices // 30 == own // 30).all()
    np.testing.assert_allclose(graph.similarities, 1, atol=1e-6)


def test_zero_rows_are_kept_and_finite(X):
    X[5] = 0
    graph = KNNGraph.build(X, k=5)
    assert np.isfinite(graph.similarities).all()
    assert (graph.indices[5] != 5).all()


def test_k_is_capped_and_too_few_rows_refused(X):
    assert KNNGraph.build(X[:3], k=10).k == 2
    with pytest.raises(ValueError, match="n_samples=1"):
        KNNGraph.build(X[:1], k=3)
    with pytest.raises(ValueError, match="k=0"):
        KNNGraph.build(X, k=0)


def test_nan_rows_are_named(X):
    X[17, 3] = np.inf
    with pytest.raises(ValueError, match="17"):
        KNNGraph.build(X, k=3)


@pytest.mark.parametrize("method", ["hnsw", "ivf", "ivfpq"])
def test_approximate_graphs_have_no_gaps_and_no_self(method):
    # Fewer rows a cell than neighbors: not every search finds k.
    X = np.random.default_rng(1).normal(size=(90, 16)).astype("f4")
    graph = KNNGraph.build(X, k=60, method=method, target_recall=0.0)
    assert graph.indices.shape == (90, 60)
    assert (graph.indices != np.arange(90)[:, None]).all()
    assert (graph.indices >= 0).all()
    assert np.abs(graph.similarities).max() <= 1


def test_wrong_arguments_are_quoted(X):
    with pytest.raises(ValueError, match="'annoy'"):
        KNNIndex.build(X, method="annoy")
    with pytest.raises(ValueError, match="target_recall=1.5"):
        KNNIndex.build(X, method="ivf", target_recall=1.5)


def test_csr_is_sorted_without_diagonal_and_symmetric_when_asked(X):
    graph = KNNGraph.build(X, k=6)
    matrix = graph.to_csr()
    assert matrix.shape == (400, 400)
    assert matrix.nnz == 2400
    assert matrix.diagonal().sum() == 0
    assert matrix.has_sorted_indices
    both = graph.to_csr(symmetric=True)
    assert abs(both - both.T).max() < 1e-6


def test_take_narrows_and_refuses_to_widen(X):
    graph = KNNGraph.build(X, k=6)
    np.testing.assert_array_equal(graph.take(3).indices, graph.indices[:, :3])
    assert graph.take(6) is graph
    with pytest.raises(ValueError, match="k=7"):
        graph.take(7)


def test_a_saved_graph_comes_back_equal(X, tmp_path):
    graph = KNNGraph.build(X, k=6)
    graph.save(tmp_path / "graph")
    again = KNNGraph.load(tmp_path / "graph", mmap=True)
    np.testing.assert_array_equal(again.indices, graph.indices)
    np.testing.assert_array_equal(again.similarities, graph.similarities)


def test_search_answers_new_rows(X):
    similarities, found = KNNIndex.build(X).search(2.5 * X[:5], 1)
    np.testing.assert_array_equal(found[:, 0], np.arange(5))
    np.testing.assert_allclose(similarities, 1, atol=1e-5)
    with pytest.raises(ValueError, match=r"expected \(m, 16\)"):
        KNNIndex.build(X).search(np.zeros((2, 3)), 1)


def test_a_store_is_read_in_blocks(X):
    store = EmbeddingStore.from_array(X.astype(np.float16))
    a, b = KNNGraph.build(store.space(), k=5), KNNGraph.build(X.astype(np.float16), k=5)
    np.testing.assert_array_equal(a.indices, b.indices)
    assert sum(len(block) for _, block in iter_blocks(store, 150)) == 400


def test_unit_rows_survives_large_values():
    rows = unit_rows(np.array([[1e30, 0], [0, 0], [3, 4]], dtype="f4"))
    np.testing.assert_allclose(rows, [[1, 0], [0, 0], [0.6, 0.8]], atol=1e-6)


def test_missing_faiss_is_one_clear_error():
    code = (
        "import sys; sys.modules['faiss'] = None\n"
        "import numpy as np\nfrom fmcluster.vectors.graph import KNNGraph\n"
        "try: KNNGraph.build(np.eye(4), k=1)\n"
        "except ImportError as e: print(type(e).__name__, e)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert out.startswith("MissingExtraError")
    assert "fmcluster[cpu]" in out


@pytest.mark.parametrize("wrong", [99, -1])
def test_a_saved_graph_with_a_changed_number_is_refused(X, tmp_path, wrong):
    graph = KNNGraph.build(X, k=5)
    graph.save(tmp_path / "g")
    indices = graph.indices.copy()
    indices[3, 2] = wrong if wrong < 0 else len(X) + wrong
    np.save(tmp_path / "g" / "indices.npy", indices)
    with pytest.raises(CorruptShardError, match="checksum in graph.json"):
        KNNGraph.load(tmp_path / "g")
    # Without checksums, as version 0.1 saved it, the numbers themselves are looked at.
    (tmp_path / "g" / "graph.json").write_text('{"method": "exact", "recall": 1.0}')
    with pytest.raises(CorruptShardError, match="g holds no graph: .* name rows outside"):
        KNNGraph.load(tmp_path / "g", mmap=True)


@pytest.mark.parametrize("wrong", [99, -1, 10**8])
def test_row_numbers_outside_a_graph_are_refused(wrong):
    """Given to a head, one of them ended Python."""
    graph = KNNGraph.build(np.eye(99, 8, dtype=np.float32), k=5)
    indices = graph.indices.copy()
    indices[7, 3] = wrong
    with pytest.raises(ValueError, match=r"rows outside 0\.\.98"):
        KNNGraph(indices, graph.similarities)


def test_arrays_that_are_no_graph_are_refused():
    graph = KNNGraph.build(np.eye(99, 8, dtype=np.float32), k=5)
    with pytest.raises(ValueError, match=r"got float32 \(99, 5\) and float32 \(99, 5\)"):
        KNNGraph(graph.similarities, graph.similarities)
    with pytest.raises(ValueError, match=r"\(99, 5\) and float32 \(99, 4\)"):
        KNNGraph(graph.indices, graph.similarities[:, :4])
