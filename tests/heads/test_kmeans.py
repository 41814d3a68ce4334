"""Spherical k-means against brute force and scikit-learn; every row counts; its probabilities."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from head_contract import accuracy, hold_to_contract, hold_to_sklearn
from sklearn.cluster import KMeans

from fmcluster.heads import make_head
from fmcluster.partition.kmeans import median_margin, spherical_kmeans
from fmcluster.vectors.rows import unit_rows


def objective(x: np.ndarray, centroids: np.ndarray) -> float:
    """Sum of the cosines to the own centroid: what spherical k-means maximizes."""
    return float((x @ centroids.T).max(axis=1).sum())


def best_objective(x: np.ndarray, k: int) -> float:
    """The largest objective over all partitions: the sum of the lengths of the clusters' sums."""
    best = 0.0
    for labels in itertools.product(range(k), repeat=len(x) - 1):
        sums = np.zeros((k, x.shape[1]))
        np.add.at(sums, np.array([0, *labels]), x)  # the first row is in cluster 0
        best = max(best, float(np.linalg.norm(sums, axis=1).sum()))
    return best


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [2, 3])
def test_the_optimum_over_all_partitions_is_reached(seed, k):
    x = unit_rows(np.random.default_rng(seed).normal(size=(8, 3)).astype(np.float32))
    found = objective(x, spherical_kmeans(x, k, n_init=20, seed=seed))
    assert found == pytest.approx(best_objective(x, k), rel=1e-5)


@pytest.mark.parametrize("spread", [0.15, 0.4])
def test_it_is_as_good_as_scikit_learn_on_unit_rows(blobs, spread):
    x, _ = blobs(n=500, k=5, d=16, spread=spread)
    ours = spherical_kmeans(x, 5, n_init=8, seed=0)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    # On unit rows the two differ only in the length of the centroids.
    theirs = unit_rows(KMeans(5, n_init=8, random_state=0).fit(x).cluster_centers_)
    assert objective(x, ours) >= objective(x, theirs) * (1 - 2e-3)


def test_centroids_are_the_mean_directions_of_their_rows(blobs):
    x, _ = blobs(n=400, k=4, d=8)
    head = make_head("kmeans", n_clusters=4, random_state=0).fit(x)
    for cluster, center in enumerate(head.cluster_centers_):
        mean = x[head.labels_ == cluster].mean(axis=0)
        np.testing.assert_allclose(center, mean / np.linalg.norm(mean), atol=1e-4)
    np.testing.assert_array_equal((x @ head.cluster_centers_.T).argmax(axis=1), head.labels_)


def test_more_starts_are_never_worse(blobs):
    x, _ = blobs(n=300, k=10, d=6, spread=0.3)
    one, many = (objective(x, spherical_kmeans(x, 10, n_init=n_init, seed=5)) for n_init in (1, 10))
    assert many >= one - 1e-3


def test_no_row_is_left_out_of_training():
    # Above 256 rows a centroid faiss would train on a sample: the means must be those of all rows.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6_000, 4)).astype(np.float32)
    x[:, 0] = np.abs(x[:, 0]) + 3
    x[:3_000, 0] *= -1
    x = unit_rows(x)
    found = spherical_kmeans(x, 2, seed=0)
    found = found[found[:, 0].argsort()]
    exact = unit_rows(np.stack([x[:3_000].sum(axis=0), x[3_000:].sum(axis=0)]))
    np.testing.assert_allclose(found, exact, atol=2e-6)


def test_a_far_tiny_cluster_is_found(blobs):
    # A start finds it only if it begins with one of its rows, hence the many starts.
    x, y = blobs(d=8, sizes=[2_000, 20], spread=0.02)
    head = make_head("kmeans", n_clusters=2, n_init=150, max_iter=8, random_state=0).fit(x)
    assert accuracy(head, y) == 1.0
    np.testing.assert_allclose(np.sort(head.cluster_prior_), [20 / 2_020, 2_000 / 2_020])


def test_planted_clusters_are_found(blobs, tmp_path):
    x, y = blobs(n=300, k=5, d=16)
    head = hold_to_contract("kmeans", x, tmp_path, n_clusters=5)
    assert accuracy(head, y) == 1.0
    assert head.cluster_centers_.shape == (5, 16)


def test_the_length_of_rows_does_not_matter(blobs):
    x, _ = blobs(n=200, k=4, d=8)
    scale = np.random.default_rng(0).uniform(0.1, 50, size=(200, 1)).astype(np.float32)
    plain = make_head("kmeans", n_clusters=4, random_state=0).fit(x)
    scaled = make_head("kmeans", n_clusters=4, random_state=0).fit(x * scale)
    np.testing.assert_array_equal(plain.labels_, scaled.labels_)
    np.testing.assert_allclose(plain.predict_proba(x), plain.predict_proba(x * scale), atol=1e-4)


def test_every_row_may_be_its_own_cluster():
    x = np.eye(6, dtype=np.float32)
    head = make_head("kmeans", n_clusters=6, random_state=0, n_init=10).fit(x)
    assert head.n_clusters_ == 6
    np.testing.assert_array_equal(np.sort(head.labels_), np.arange(6))


def test_more_clusters_than_distinct_rows_are_refused(blobs):
    x = np.repeat(blobs(n=4, k=4, d=8).x, 10, axis=0)
    assert make_head("kmeans", n_clusters=4, random_state=0).fit(x).n_clusters_ == 4
    with pytest.raises(ValueError, match="n_clusters=5.*distinct rows, 4"):
        make_head("kmeans", n_clusters=5).fit(x)


def test_one_cluster_is_all_rows(blobs):
    x, _ = blobs(n=40, k=2, d=4)
    head = make_head("kmeans", n_clusters=1, random_state=0).fit(x)
    np.testing.assert_array_equal(head.labels_, 0)
    np.testing.assert_array_equal(head.predict_proba(x), 1)
    assert head.temperature_ == 1.0


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint8", "float16", "float64"])
def test_every_numeric_type_is_taken(dtype):
    x = np.repeat(np.eye(3) * 100, 5, axis=0) + np.arange(15)[:, None] % 4
    head = make_head("kmeans", n_clusters=3, random_state=0, n_init=8).fit(x.astype(dtype))
    reference = make_head("kmeans", n_clusters=3, random_state=0, n_init=8).fit(x.astype("f4"))
    np.testing.assert_array_equal(head.labels_, reference.labels_)
    assert head.predict_proba(x.astype(dtype)).dtype == np.float32


def test_the_margin_by_hand():
    cosines = np.array([[0.9, 0.1, 0.5], [0.2, 0.8, 0.7], [0.0, 0.0, 1.0]])
    assert median_margin(cosines) == pytest.approx(0.4)  # of 0.4, 0.1 and 1.0
    assert median_margin(np.ones((3, 1))) == 1.0
    assert median_margin(np.ones((3, 2))) == 1e-6  # ties: small, never zero


def test_probabilities_are_the_softmax_of_cosines_by_the_temperature(blobs):
    x, _ = blobs(n=200, k=4, d=8, spread=0.4)
    head = make_head("kmeans", n_clusters=4, random_state=0).fit(x)
    cosines = x @ head.cluster_centers_.T
    assert head.temperature_ == pytest.approx(median_margin(cosines), rel=1e-4)
    expected = np.exp(cosines / head.temperature_)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(head.predict_proba(x), expected, atol=1e-5)
    # A row of the median margin gives its cluster e times the odds of the second.
    top = np.sort(head.predict_proba(x), axis=1)
    assert np.median(top[:, -1] / top[:, -2]) == pytest.approx(np.e, rel=1e-2)


def test_rows_on_disk_and_in_memory_agree(blobs, tmp_path, monkeypatch):
    from fmcluster.vectors.rows import Rows

    x, y = blobs(n=600, k=4, d=8)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    near = make_head("kmeans", n_clusters=4, random_state=0).fit(mapped)
    monkeypatch.setattr(Rows.__init__, "__kwdefaults__", {"views": None, "memory_bytes": 100})
    far = make_head("kmeans", n_clusters=4, random_state=0).fit(mapped)
    assert far.n_iter_ == near.n_iter_ < 50  # it ends when nothing moves
    assert accuracy(near, y) == accuracy(far, y) == 1.0


@pytest.mark.parametrize("argument", ["n_init", "max_iter"])
def test_no_starts_and_no_rounds_are_refused(blobs, argument):
    with pytest.raises(ValueError, match=f"{argument}=0"):
        make_head("kmeans", n_clusters=2, **{argument: 0}).fit(blobs(n=20, k=2, d=4).x)


def test_scikit_learn_checks():
    hold_to_sklearn("kmeans", n_clusters=3)
