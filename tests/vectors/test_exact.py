"""Neighbors by matrix products: the brute-force answer, whatever the rows."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
import torch

from fmcluster.utils import distributed
from fmcluster.vectors import exact as neighbors
from fmcluster.vectors import exact_torch
from fmcluster.vectors.exact import nearest_rows, nearest_to


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


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_any_number_of_threads_gives_the_same_bits(monkeypatch, threads):
    x = unit(np.random.default_rng(3).normal(size=(700, 33)))
    monkeypatch.setenv("FMCLUSTER_THREADS", "1")
    monkeypatch.setattr(neighbors, "BLOCK_BYTES", 4 * 700 * 64)
    indices, similarities = nearest_rows(x, 9)
    monkeypatch.setenv("FMCLUSTER_THREADS", threads)
    again, cosines = nearest_rows(x, 9)
    assert np.array_equal(again, indices)
    assert np.array_equal(cosines, similarities)


@pytest.mark.parametrize(("m", "k"), [(1, 1), (40, 300), (130, 12)])
def test_queries_find_what_faiss_finds(m, k):
    rng = np.random.default_rng(4)
    x, queries = unit(rng.normal(size=(300, 16))), unit(rng.normal(size=(m, 16)))
    cosines, indices = nearest_to(queries, x, k)
    expected, ids = faiss.knn(queries, x, k, metric=faiss.METRIC_INNER_PRODUCT)
    assert np.array_equal(indices, ids)
    assert np.allclose(cosines, expected, atol=1e-6)


def on_the_device(monkeypatch, *, block=2**30):
    """Let the CPU be the GPU that Accelerate gives, for however little work."""
    calls = []
    inner = exact_torch.search_on

    def counted(*args, **more):
        calls.append(args[0])
        return inner(*args, **more)

    monkeypatch.setattr(distributed, "gpu", lambda: torch.device("cpu"))
    monkeypatch.setattr(neighbors, "GPU_WORK", 0)
    monkeypatch.setattr(exact_torch, "search_on", counted)
    monkeypatch.setattr(exact_torch, "BLOCK_BYTES", block)
    return calls


@pytest.mark.parametrize(("n", "k"), [(2, 1), (50, 49), (300, 7), (1001, 80), (1001, 1)])
@pytest.mark.parametrize("block", [2**30, 2**17])
def test_the_device_finds_what_the_processor_finds(monkeypatch, n, k, block):
    x = unit(np.random.default_rng(n).normal(size=(n, 20)))
    indices, similarities = nearest_rows(x, k)
    cosines, ids = nearest_to(x[:40], x, k)
    calls = on_the_device(monkeypatch, block=block)
    again, close = nearest_rows(x, k)
    assert np.array_equal(again, indices)
    assert np.allclose(close, similarities, atol=1e-6)
    found, places = nearest_to(x[:40], x, k)
    assert np.array_equal(places, ids)
    assert np.allclose(found, cosines, atol=1e-6)
    assert calls == [torch.device("cpu")] * 2


@pytest.mark.parametrize("x", [np.zeros((200, 3)), np.repeat(np.eye(3), 70, axis=0)])
def test_duplicates_on_the_device(monkeypatch, x):
    x = unit(x)
    on_the_device(monkeypatch)
    indices, similarities = nearest_rows(x, 5)
    assert (indices != np.arange(len(x))[:, None]).all()
    assert all(len(set(row)) == 5 for row in indices.tolist())
    assert np.allclose(similarities, brute(x, 5)[1])


def test_rows_without_room_on_the_device_stay_on_the_processor(monkeypatch):
    x = unit(np.random.default_rng(5).normal(size=(200, 8)))
    indices = nearest_rows(x, 4)[0]
    monkeypatch.setattr(distributed, "gpu", lambda: torch.device("cuda", 3))
    monkeypatch.setattr(neighbors, "GPU_WORK", 0)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (2**20, 2**30))
    assert np.array_equal(nearest_rows(x, 4)[0], indices)
