"""Streaming k-means: as good as faiss in memory, equal over processes, no cluster left empty."""

import json

import numpy as np
import pytest
from helpers_ranks import run_alone, run_ranks

from fmcluster.heads import make_head
from fmcluster.partition import lloyd as _lloyd
from fmcluster.partition.kmeans import spherical_kmeans
from fmcluster.partition.lloyd import _apportion, lloyd, one_round, own_blocks
from fmcluster.vectors import rows as _rows
from fmcluster.vectors.rows import unit_rows

SCRIPT = """
import json
import numpy as np
from fmcluster.utils import distributed
from fmcluster.partition.lloyd import lloyd

def work(folder, name):
    X = np.load(f"{folder}/x.npy", mmap_mode="r")
    centroids, rounds = lloyd(X, 5, seed=3)
    objective = float((X @ centroids.T).max(axis=1).mean())
    if distributed.is_main():
        with open(f"{folder}/{name}", "w") as file:
            json.dump([objective, rounds, centroids.tolist()], file)
"""


def objective(X, centroids):
    return float((unit_rows(X) @ centroids.T).max(axis=1).mean())


def test_it_finds_what_faiss_finds_in_memory(blobs):
    X, _ = blobs(600, 6)
    centroids, rounds = lloyd(X, 6, seed=0)
    best = objective(X, spherical_kmeans(X, 6, n_init=4))
    assert objective(X, centroids) >= best - 0.01
    assert 1 <= rounds <= 50


def test_rounds_never_lower_the_objective(blobs):
    X, _ = blobs(400, 5, spread=0.5)
    centroids = unit_rows(np.random.default_rng(0).normal(size=(7, 16)))
    values = []
    for step in range(6):
        found = one_round(X, centroids)
        values.append(found.objective)
        centroids = _lloyd.next_centroids(found, seed=step)
    assert (np.diff(values) > -1e-4).all()
    assert found.counts.sum() == 400


def test_blocks_do_not_change_the_answer(blobs, monkeypatch):
    X, _ = blobs(500, 4)
    whole, _ = lloyd(X, 4, seed=1)
    monkeypatch.setattr(_lloyd, "BLOCK_ROWS", 64)
    assert sum(len(block) for block in own_blocks(X)) == 500
    blocked, _ = lloyd(X, 4, seed=1)
    np.testing.assert_allclose(whole, blocked, atol=1e-5)


def test_an_empty_cluster_splits_the_largest(blobs):
    X, _ = blobs(300, 3)
    centroids = np.vstack([unit_rows(X[:3]), -unit_rows(X.mean(axis=0)[None])])
    found = one_round(X, centroids.astype(np.float32))
    assert (found.counts == 0).any()
    repaired = _lloyd.next_centroids(found, seed=0)
    assert np.isfinite(repaired).all()
    assert (one_round(X, repaired).counts > 0).all()


def test_the_head_streams_rows_larger_than_memory(blobs, monkeypatch, tmp_path):
    X, y = blobs(400, 4)
    np.save(tmp_path / "x.npy", X)
    in_memory = make_head("kmeans", n_clusters=4, random_state=0).fit(X)
    monkeypatch.setattr(_rows.Rows.__init__, "__kwdefaults__", {"views": None, "memory_bytes": 100})
    rows = np.load(tmp_path / "x.npy", mmap_mode="r")
    streamed = make_head("kmeans", n_clusters=4, random_state=0).fit(rows)
    pairs = {(a, b) for a, b in zip(streamed.labels_, in_memory.labels_, strict=True)}
    assert len(pairs) == 4
    np.testing.assert_array_equal(streamed.predict(rows), streamed.labels_)


def test_many_clusters_are_made_in_two_levels(blobs, monkeypatch):
    X, _ = blobs(600, 12, 24)
    monkeypatch.setattr(_lloyd, "TWO_LEVEL", 11)
    centroids, _ = lloyd(X, 12, seed=0)
    assert centroids.shape == (12, 24)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-5)
    assert objective(X, centroids) > 0.85 * objective(X, spherical_kmeans(X, 12, n_init=4))


def test_more_starts_on_the_sample_are_never_worse(blobs, monkeypatch):
    X, _ = blobs(900, 12, spread=0.4)
    seen = []
    monkeypatch.setattr(_lloyd, "SEED_ROWS", 20)
    monkeypatch.setattr(_lloyd, "BLOCK_ROWS", 64)
    for n_init in (1, 8):
        sample = SeenRows(X)
        centroids = _lloyd.seed_centroids(sample, 12, seed=0, n_init=n_init)
        seen.append(objective(X[sample.rows], centroids))
        assert len(sample.rows) == 240
    assert seen[1] >= seen[0]


def test_the_starting_sample_does_not_outgrow_its_memory(blobs, monkeypatch):
    X, _ = blobs(900, 4)
    monkeypatch.setattr(_lloyd, "SEED_BYTES", 100 * X.shape[1] * 4)
    for n_clusters, expected in ((4, 100), (70, 140)):
        sample = SeenRows(X)
        assert _lloyd.seed_centroids(sample, n_clusters, seed=0).shape == (n_clusters, 16)
        assert len(sample.rows) == expected


class SeenRows:
    """Rows that remember which of them were read."""

    def __init__(self, X):
        self.X, self.shape, self.rows = X, X.shape, None

    def __getitem__(self, rows):
        self.rows = rows
        return self.X[rows]


@pytest.mark.parametrize(
    ("sizes", "total"), [([10, 10], 4), ([1, 99], 10), ([0, 5, 5], 10), ([3, 3, 94], 7)]
)
def test_clusters_are_given_out_by_size(sizes, total):
    share = _apportion(np.array(sizes), total)
    assert share.sum() == total
    assert (share <= sizes).all()
    assert (share[np.array(sizes) > 0] >= 1).all()


def test_rows_are_held_where_they_take_little_and_it_changes_nothing(blobs, monkeypatch):
    X, _ = blobs(600, 4, spread=0.4)
    assert isinstance(_lloyd.held(X), _lloyd.UnitRows)
    one = lloyd(5 * X, 4, seed=0)
    monkeypatch.setattr(_lloyd, "HELD_BYTES", 0)
    assert _lloyd.held(X) is X
    two = lloyd(5 * X, 4, seed=0)
    np.testing.assert_array_equal(one[0], two[0])
    assert one[1] == two[1]


def test_rows_that_all_point_one_way_are_clustered_to_the_end(blobs):
    """Their clusters are a thousandth of the objective: a part of all of it would end too early."""
    X, y = blobs(2_000, 8, spread=0.3)
    X = unit_rows(X + 30 * np.ones(16) / 4)
    head = make_head("kmeans", n_clusters=8, random_state=0).fit(X)
    assert (X @ head.cluster_centers_.T).max(axis=1).mean() > 0.999
    more = _lloyd.next_centroids(one_round(X, head.cluster_centers_), seed=0)
    lacked, lacks = (1 - (X @ c.T).max(axis=1).mean() for c in (head.cluster_centers_, more))
    assert lacks > lacked * (1 - 1e-4)


def test_a_small_cluster_is_in_the_sample_of_few_clusters(blobs):
    """Of 256 rows a cluster it had one row or none."""
    X, y = blobs(d=8, sizes=[4_000, 3_000, 10], spread=0.02)
    head = make_head("kmeans", n_clusters=3, n_init=300, random_state=0).fit(X)
    assert sorted(np.bincount(head.labels_)) == [10, 3_000, 4_000]


@pytest.mark.dist
def test_two_processes_agree_with_one(blobs, tmp_path):
    X, _ = blobs(700, 5, spread=0.4)
    np.save(tmp_path / "x.npy", X)
    run_alone(SCRIPT, tmp_path, "one")
    run_ranks(SCRIPT, tmp_path, "two")
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one", "two"))
    assert two[0] == pytest.approx(one[0], abs=1e-5)
    np.testing.assert_allclose(two[2], one[2], atol=1e-3)
