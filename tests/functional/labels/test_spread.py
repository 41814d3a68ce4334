"""Diffusion against its closed form; spreading on planted clusters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fmcluster.functional.labels.spread import affinity, spread_labels
from fmcluster.functional.products import diffused
from fmcluster.vectors.graph import KNNGraph


@pytest.fixture(scope="module")
def planted(blobs):
    x, y = blobs(n=300, k=4, d=12, spread=0.15, seed=2)
    graph = KNNGraph.build(x, k=10)
    return x - x.mean(axis=0), y, affinity(graph.indices, graph.similarities)


def test_affinity_is_symmetric_with_spectrum_in_one(planted):
    _, _, graph = planted
    dense = graph.toarray()
    assert np.allclose(dense, dense.T, atol=1e-6)
    assert np.diag(dense).max() == 0
    assert np.linalg.eigvalsh(dense).max() == pytest.approx(1, abs=1e-4)


def test_diffusion_reaches_its_closed_form(planted):
    _, y, graph = planted
    start = np.zeros((300, 4), np.float32)
    start[:20] = np.eye(4)[y[:20]]
    limit = 0.1 * np.linalg.solve(np.eye(300) - 0.9 * graph.toarray(), start)
    assert np.allclose(diffused(graph, start, alpha=0.9, n_iter=200), limit, atol=1e-4)


def test_one_label_a_class_is_enough_for_clear_clusters(planted):
    x, y, graph = planted
    rows = np.array([np.flatnonzero(y == c)[0] for c in range(4)])
    proba, agreement = spread_labels(x, graph, rows, y[rows], 4)
    assert (proba.argmax(axis=1) == y).mean() > 0.97
    assert np.allclose(proba.sum(axis=1), 1, atol=1e-5)
    assert agreement > 0.8


def test_blocks_do_not_change_the_answer(planted, monkeypatch):
    x, y, graph = planted
    rows = np.arange(0, 300, 20)
    whole, one = spread_labels(x, graph, rows, y[rows], 4)
    monkeypatch.setattr("fmcluster.functional.labels.spread.BLOCK_ROWS", 37)
    blocks, two = spread_labels(x, graph, rows, y[rows], 4)
    assert np.allclose(whole, blocks, atol=1e-3)
    assert one == pytest.approx(two, abs=0.01)


def test_on_a_device_labels_spread_alike(planted):
    x, y, graph = planted
    rows = np.arange(0, 300, 20)
    here, one = spread_labels(x, graph, rows, y[rows], 4)
    there, two = spread_labels(x, graph, rows, y[rows], 4, device=torch.device("cpu"))
    assert np.allclose(here, there, atol=1e-4)
    assert here.dtype == there.dtype
    assert one == pytest.approx(two, abs=1e-6)
    start = np.eye(4, dtype=np.float32)[y]
    here, there = (
        diffused(graph, start, alpha=0.9, n_iter=30, device=device)
        for device in (None, torch.device("cpu"))
    )
    assert np.allclose(here, there, atol=1e-5)
