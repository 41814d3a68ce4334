"""Approximate neighbors: the recall that is asked for is found, what is reported is true."""

import json
import logging
from types import SimpleNamespace

import faiss
import numpy as np
import pytest

from fmcluster.utils.errors import CorruptShardError
from fmcluster.vectors import faiss_index as approximate
from fmcluster.vectors.faiss_index import (
    families_for,
    filled_index,
    index_bytes,
    index_training_rows,
    memory_budget,
    on_cpu,
)
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.index import KNNIndex
from fmcluster.vectors.rows import iter_blocks, sample_indices, unit_rows
from fmcluster.vectors.search import EFFORTS, RecallSample, Refiner, Searcher, true_neighbors

METHODS = ("hnsw", "ivf", "ivfpq")


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(1)
    centers = 1.2 * rng.normal(size=(20, 24))
    return (centers[rng.integers(20, size=4000)] + rng.normal(size=(4000, 24))).astype("f4")


@pytest.fixture(scope="module")
def truth(X):
    cosines = unit_rows(X) @ unit_rows(X).T
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :10]


def hits(found, truth):
    return np.mean([len(set(a) & set(b)) for a, b in zip(found, truth, strict=True)]) / 10


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", [0.8, 0.97])
def test_the_asked_recall_is_found_and_the_reported_one_is_true(X, truth, method, target):
    graph = KNNGraph.build(X, k=10, method=method, target_recall=target)
    found = hits(graph.indices, truth)
    assert found >= target - 0.03
    assert graph.recall == pytest.approx(found, abs=0.03)
    assert graph.method == method


@pytest.mark.parametrize("method", METHODS)
def test_no_more_effort_than_the_target_needs(X, method):
    searcher = Searcher(filled_index(X, method, seed=0), method, refiner=Refiner.fit(X, 2**30))
    reached = []
    sample = RecallSample.draw(X, 10, seed=0)
    for target in (0.0, 0.9, 0.99):
        assert searcher.tune(sample, target, efforts=EFFORTS[method])
        reached.append(EFFORTS[method].index(searcher.effort))
    assert reached[0] == 0
    assert reached == sorted(reached)


def test_recall_is_told_by_rows_that_the_effort_was_not_chosen_on(X):
    sample = RecallSample.draw(X, 10, seed=0)
    chosen, told = set(sample.half(0).rows), set(sample.half(1).rows)
    assert len(chosen) == len(told) == 500
    assert not chosen & told


def test_a_target_out_of_reach_is_said_and_not_claimed(X, truth, caplog):
    # Room for the codes alone: no second look.
    room = index_bytes(4000, 24, "ivfpq")
    with caplog.at_level(logging.WARNING, "fmcluster"):
        graph = KNNGraph.build(X, k=10, method="ivfpq", memory_bytes=room)
    assert graph.recall == pytest.approx(hits(graph.indices, truth), abs=0.03)
    assert graph.recall < 0.8
    assert "asked for 95%" in caplog.text
    assert f"memory_bytes={index_bytes(4000, 24, 'ivf')} or more" in caplog.text


def test_the_family_is_chosen_by_rows_dimensions_and_memory():
    assert families_for(10_000, 64)[0] == "exact"
    assert families_for(100_000, 128)[0] == "exact"
    assert families_for(100_001, 128)[0] == "ivfpq"
    assert families_for(1_000_000, 16, memory_bytes=2**34)[0] == "ivf"
    assert families_for(1_000_000, 128, memory_bytes=2**34)[0] == "ivfpq"
    assert families_for(10_000_000, 768, memory_bytes=2**30)[0] == "ivfpq"
    assert families_for(150_000, 768, memory_bytes=2**28)[0] == "ivfpq"
    assert families_for(100_001, 128) == ["ivfpq", "ivf", "exact"]
    assert families_for(100_001, 16) == ["ivf", "exact"]
    assert families_for(60_000, 128, exact_rows=50_000) == ["ivfpq", "ivf", "exact"]
    assert families_for(60_000, 128, memory_bytes=2**20) == ["ivfpq"]
    assert memory_budget(7) == 7
    assert memory_budget(None) > 2**28
    assert index_training_rows(100) == 100
    assert index_training_rows(10**9) == 10**6


@pytest.mark.parametrize("method", ["exact", *METHODS])
def test_the_bytes_of_an_index_are_foreseen(X, method):
    written = faiss.serialize_index(filled_index(X, method, seed=0)).nbytes
    assert written == pytest.approx(index_bytes(*X.shape, method), rel=0.35)


@pytest.mark.parametrize(
    ("room", "dtype"),
    [(4000 * 24 * 4, "float32"), (4000 * 24 * 4 - 1, "int8"), (4000 * 28, "int8")],
)
def test_the_second_look_fits_its_room(X, room, dtype):
    refiner = Refiner.fit(X, room)
    assert refiner.values.dtype == dtype
    assert sum(values.nbytes for values in refiner.arrays().values()) <= room
    rows = unit_rows(X)
    cosines, ids = refiner.best(rows[:300], np.tile(np.arange(50), (300, 1)), 5)
    expected = np.sort(rows[:300] @ rows[:50].T, axis=1)[:, ::-1][:, :5]
    np.testing.assert_allclose(cosines, expected, atol=1e-5 if dtype == "float32" else 0.02)
    assert (ids[:5, 0] == np.arange(5)).all()


def test_no_room_means_no_second_look_and_missing_candidates_stay_last(X):
    assert Refiner.fit(X, 4000 * 28 - 1) is None
    cosines, ids = Refiner.fit(X, 2**30).best(unit_rows(X[:1]), np.array([[-1, 3, -1, 0]]), 3)
    assert ids.tolist() == [[0, 3, -1]]
    assert cosines[0, 2] == -np.inf


@pytest.mark.parametrize("method", METHODS)
def test_equal_seeds_give_equal_graphs_on_any_number_of_threads(X, method):
    before = faiss.omp_get_max_threads()
    graphs = []
    try:
        # Links of the graph search depend on the order in which threads add rows.
        for threads in (1, 1) if method == "hnsw" else (1, 2):
            faiss.omp_set_num_threads(threads)
            graphs.append(KNNGraph.build(X, k=10, method=method, random_state=3))
    finally:
        faiss.omp_set_num_threads(before)
    np.testing.assert_array_equal(graphs[0].indices, graphs[1].indices)
    assert graphs[0].recall == graphs[1].recall


def test_true_neighbors_are_those_of_brute_force_whatever_the_blocks(X, truth, monkeypatch):
    rows = np.array([7, 3, 3999, 0])
    monkeypatch.setattr(iter_blocks, "__defaults__", (700,))
    queries, found = true_neighbors(X, rows, 10)
    np.testing.assert_allclose(queries, unit_rows(X[rows]))
    np.testing.assert_array_equal(found, truth[rows])


def test_duplicates_of_a_row_count_as_neighbors_and_the_row_does_not():
    X = np.repeat(np.eye(3, 8, dtype="f4"), 5, axis=0)
    _, found = true_neighbors(X, np.array([0, 6]), 4)
    assert [sorted(row) for row in found] == [[1, 2, 3, 4], [5, 7, 8, 9]]


def test_samples_are_ascending_distinct_and_capped(X):
    rows = sample_indices(X, 50, 0)
    assert len(set(rows)) == 50
    assert (np.diff(rows) > 0).all()
    assert len(sample_indices(X, 10**6, 0)) == 4000


class Disk:
    """Rows that remember how many were asked for at once."""

    def __init__(self, X):
        self.X, self.shape, self.most = X, X.shape, 0

    def __getitem__(self, index):
        rows = self.X[index]
        self.most = max(self.most, len(rows))
        return rows


@pytest.mark.parametrize("method", ["exact", "ivf", "ivfpq"])
def test_rows_are_read_in_blocks(X, method, monkeypatch):
    monkeypatch.setattr(iter_blocks, "__defaults__", (500,))
    disk = Disk(X)
    monkeypatch.setattr(approximate, "index_training_rows", lambda n: 1100)
    monkeypatch.setattr(
        "fmcluster.vectors.near_cells.ROWS_PER_CELL", 1100 // approximate.n_cells(len(X))
    )
    graph = KNNGraph.build(disk, k=10, method=method)
    assert 500 <= disk.most <= (500 if method == "exact" else 1100)
    assert graph.indices.shape == (4000, 10)


@pytest.mark.parametrize("method", ["exact", *METHODS])
def test_a_saved_index_answers_alike(X, method, tmp_path):
    index = KNNIndex.build(X, k=10, method=method)
    index.save(tmp_path)
    again = KNNIndex.load(tmp_path, mmap=True)
    assert (again.method, again.n_rows, again.n_dims) == (method, 4000, 24)
    assert again.recall == index.recall
    for a, b in zip(index.search(X[:50], 5), again.search(X[:50], 5), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_damaged_index_is_refused(X, tmp_path):
    KNNIndex.build(X, method="ivf").save(tmp_path)
    whole = (tmp_path / "index.faiss").read_bytes()
    (tmp_path / "index.faiss").write_bytes(whole[:-9])
    with pytest.raises(CorruptShardError, match="index.faiss .*checksum in index.json"):
        KNNIndex.load(tmp_path)
    (tmp_path / "index.faiss").write_bytes(whole)
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(CorruptShardError, match="malformed"):
        KNNIndex.load(tmp_path)


def test_changed_rows_of_the_second_look_are_refused(X, tmp_path):
    KNNIndex.build(X, k=10, method="ivfpq").save(tmp_path)
    values = np.load(tmp_path / "values.npy")
    values[7] *= -1
    np.save(tmp_path / "values.npy", values)
    with pytest.raises(CorruptShardError, match=r"values.npy .*checksum in index.json"):
        KNNIndex.load(tmp_path, mmap=True)


def test_an_index_of_version_0_1_loads(X, tmp_path):
    KNNIndex.build(X, k=10, method="ivfpq").save(tmp_path)
    about = json.loads((tmp_path / "index.json").read_text())
    about["digest"] = about.pop("files")["index.faiss"]
    (tmp_path / "index.json").write_text(json.dumps(about))
    assert KNNIndex.load(tmp_path).n_rows == 4000


def test_odd_dimensions_have_codes_too(X):
    assert KNNGraph.build(X[:, :7], k=10, method="ivfpq").recall > 0.9


def test_the_seam_to_a_gpu(X, monkeypatch):
    """A faiss with GPUs that are the CPU: what is moved, set and moved back."""
    calls = []

    class Parameters:
        def set_index_parameter(self, index, name, value):
            calls.append((name, value))
            setattr(index, name, min(value, index.nlist))

    def moved(name):
        return lambda index: calls.append(name) or index

    fake = SimpleNamespace(
        **{name: getattr(faiss, name) for name in dir(faiss) if not name.startswith("__")}
        | {
            "get_num_gpus": lambda: 2,
            "index_cpu_to_all_gpus": moved("to gpus"),
            "index_gpu_to_cpu": moved("to cpu"),
            "GpuParameterSpace": Parameters,
        }
    )
    monkeypatch.setattr(approximate, "faiss_module", lambda: fake)
    index = KNNIndex.build(X[:, :8], k=10, method="ivfpq")
    assert calls[0] == "to gpus"
    assert calls[1] == ("nprobe", 8)
    assert index.recall > 0.9
    # Codes in registers are the CPU's own.
    assert "FastScan" not in type(index._searcher.index).__name__
    assert on_cpu(index._searcher.index) is index._searcher.index
    assert calls[-1] == "to cpu"
