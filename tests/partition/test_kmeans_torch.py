"""k-means as a GPU makes it, here on the processor: what the processor's own code finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fmcluster.functional.metrics import evaluate
from fmcluster.heads import make_head
from fmcluster.partition import kmeans, kmeans_torch, lloyd
from fmcluster.utils import distributed

CPU = torch.device("cpu")


@pytest.fixture
def on_device(monkeypatch):
    """Let k-means take a device for the least of work."""
    monkeypatch.setattr(distributed, "gpu", lambda: CPU)
    monkeypatch.setattr(kmeans_torch, "LEAST_WORK", 1)


@pytest.fixture
def rows(blobs):
    return blobs(n=900, k=6, d=12, spread=0.1, seed=3)


def objective(x, centroids):
    return float((x @ centroids.T).max(axis=1).sum())


def test_a_pass_is_that_of_the_processor(rows, monkeypatch):
    centroids = rows.x[:6].copy()
    expected = lloyd.one_round(rows.x, centroids)
    monkeypatch.setattr(kmeans_torch, "BLOCK_VALUES", 6 * 100)
    labels, found = kmeans_torch.assigned(*map(torch.from_numpy, (rows.x, centroids)))
    np.testing.assert_array_equal(labels, kmeans.nearest_centroid(rows.x, centroids))
    np.testing.assert_allclose(found.sums, expected.sums, atol=1e-4)
    np.testing.assert_array_equal(found.counts, expected.counts)
    assert float(found.objective) == pytest.approx(expected.objective, rel=1e-6)


def test_the_objective_is_that_of_faiss(rows, monkeypatch, on_device):
    there = kmeans.spherical_kmeans(rows.x, 6, n_init=8, seed=0)
    np.testing.assert_allclose(np.linalg.norm(there, axis=1), 1, atol=1e-5)
    monkeypatch.setattr(distributed, "gpu", lambda: None)
    here = kmeans.spherical_kmeans(rows.x, 6, n_init=8, seed=0)
    assert objective(rows.x, there) == pytest.approx(objective(rows.x, here), rel=1e-4)


def test_given_starts_end_where_faiss_ends(rows, monkeypatch, on_device):
    ends = []
    for device in (CPU, None):
        monkeypatch.setattr(distributed, "gpu", lambda device=device: device)
        found = kmeans.plus_plus_centroids(rows.x, 6, seed=1)
        ends.append(found[np.argsort(found[:, 0])])  # another seeding may have won by a rounding
    np.testing.assert_allclose(*ends, atol=1e-3)


def test_a_cluster_without_rows_takes_half_of_the_largest(rows):
    starts = rows.x[[0, 1, 2, 3, 4]].copy()
    starts[4] = -rows.x.mean(axis=0)  # nearest to none
    found, value = kmeans_torch.rounds_on(CPU, rows.x, [starts], max_iter=30)
    assert (np.bincount((rows.x @ found.T).argmax(axis=1), minlength=5) > 0).all()
    assert value <= objective(rows.x, found) + 1e-2


def test_the_best_of_several_starts_is_kept(rows):
    starts = kmeans_torch.random_starts(rows.x, 6, 5, seed=2)
    assert len(starts) == 5
    each = [kmeans_torch.rounds_on(CPU, rows.x, [one], max_iter=20)[1] for one in starts]
    assert kmeans_torch.rounds_on(CPU, rows.x, starts, max_iter=20)[1] == pytest.approx(max(each))


def test_equal_seeds_give_equal_bits(rows, on_device):
    two = [kmeans.kmeans_partition(rows.x, 40, seed=5, rows_per_cluster=10) for _ in range(2)]
    np.testing.assert_array_equal(two[0][0], two[1][0])
    np.testing.assert_array_equal(two[0][1], two[1][1])
    assert len(two[0][0]) == two[0][1].max() + 1


def test_the_head_finds_the_clusters(rows, on_device):
    head = make_head("kmeans", n_clusters=6, random_state=0).fit(rows.x)
    assert evaluate(rows.y, head.labels_)["acc"] > 0.99


def test_rows_that_are_held_go_there_in_one_piece(rows, monkeypatch, on_device):
    pieces = []
    inner = kmeans_torch.packed_sums
    monkeypatch.setattr(lloyd, "BLOCK_ROWS", 100)

    def seen(device, blocks, centroids):
        blocks = list(blocks)
        pieces.append([len(block) for block in blocks])
        return inner(device, blocks, centroids)

    monkeypatch.setattr(kmeans_torch, "packed_sums", seen)
    centroids = rows.x[:6].copy()
    whole = lloyd.one_round(lloyd.held(rows.x), centroids)
    blocked = lloyd.one_round(rows.x, centroids)
    assert pieces == [[900], [100] * 9]
    np.testing.assert_allclose(whole.sums, blocked.sums, atol=1e-4)
    np.testing.assert_array_equal(whole.counts, blocked.counts)


def test_little_work_stays_on_the_processor(rows, monkeypatch):
    monkeypatch.setattr(distributed, "gpu", lambda: CPU)
    monkeypatch.setattr(kmeans_torch, "rounds_on", lambda *_, **__: pytest.fail("the device"))
    assert kmeans.spherical_kmeans(rows.x, 6, seed=0).shape == (6, 12)
