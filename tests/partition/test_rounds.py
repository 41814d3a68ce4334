"""Rounds of k-means: those of all products, for any number of threads, on a device too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fmcluster.partition import rounds as _rounds
from fmcluster.partition.rounds import assigned, rounds
from fmcluster.partition.rounds_torch import rounds_on
from fmcluster.utils import distributed
from fmcluster.vectors.rows import unit_rows


def plain(rows, first, n_rounds):
    """Lloyd's rounds, each over all products."""
    centroids, labels = first, None
    for _ in range(n_rounds):
        new = (rows @ centroids.T).argmax(axis=1)
        if labels is not None and (new == labels).all():
            break
        labels = new
        sums = np.zeros(first.shape)
        np.add.at(sums, labels, rows)
        centroids = unit_rows(sums)
    return centroids, np.linalg.norm(sums, axis=1).sum()


@pytest.fixture(scope="module", params=[0.1, 0.6], ids=["apart", "overlapping"])
def problem(request, blobs):
    rows = unit_rows(blobs(n=900, k=6, d=12, spread=request.param).x)
    return rows, rows[np.random.default_rng(0).choice(900, 6, replace=False)]


@pytest.mark.parametrize("n_rounds", [1, 3, 40])
def test_rows_that_are_not_looked_at_would_not_have_moved(problem, n_rounds):
    rows, first = problem
    expected, value = plain(rows, first, n_rounds)
    centroids, objective, taken = rounds(rows, first, n_rounds)
    assert taken <= n_rounds
    np.testing.assert_allclose(centroids, expected, atol=1e-5)
    assert objective == pytest.approx(value, rel=1e-6)


def test_any_number_of_threads_gives_the_same_bits(problem, monkeypatch):
    rows, first = problem
    monkeypatch.setattr(_rounds, "THREAD_WORK", 0)
    monkeypatch.setattr(_rounds, "PRODUCT_ROWS", 256)
    found = []
    for count in ("1", "3"):
        monkeypatch.setenv("FMCLUSTER_THREADS", count)
        found.append(rounds(rows, first, 20)[0])
    np.testing.assert_array_equal(found[0], found[1])


def test_more_centroids_than_a_product_takes(problem, monkeypatch):
    rows, _ = problem
    centroids = rows[:50]
    labels, cosines = assigned(rows, centroids)
    monkeypatch.setattr(_rounds, "PRODUCT_COLUMNS", 7)
    again, close = assigned(rows, centroids)
    np.testing.assert_array_equal(again, labels)
    np.testing.assert_allclose(close, cosines, atol=1e-6)


@pytest.mark.parametrize("n_rounds", [1, 30])
def test_a_device_makes_the_same_rounds(problem, n_rounds):
    rows, first = problem
    here, value, _ = rounds(rows, first, n_rounds)
    there, found, taken = rounds_on(torch.device("cpu"), rows, first, n_rounds, seed=0)
    assert taken <= n_rounds
    np.testing.assert_allclose(there, here, atol=1e-5)
    assert found == pytest.approx(value, rel=1e-6)


def test_the_gpu_that_accelerate_gives_is_taken_where_it_is_worth_it(problem, monkeypatch):
    rows, first = problem
    here, _, _ = rounds(rows, first, 30)
    monkeypatch.setattr(distributed, "gpu", lambda: torch.device("cpu"))
    monkeypatch.setattr(_rounds, "GPU_WORK", 0)
    monkeypatch.setattr(_rounds, "_two_best", None)
    there, _, _ = rounds(rows, first, 30)
    np.testing.assert_allclose(there, here, atol=1e-5)


def test_a_centroid_that_loses_all_rows_splits_the_largest(problem):
    rows, first = problem
    lost = np.vstack([first, -unit_rows(rows.mean(axis=0)[None])]).astype(np.float32)
    for centroids, _, _ in (
        rounds(rows, lost, 30),
        rounds_on(torch.device("cpu"), rows, lost, 30, seed=0),
    ):
        assert np.isfinite(centroids).all()
        np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-5)
        assert len(np.unique(assigned(rows, centroids)[0])) == 7
