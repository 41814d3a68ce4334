from __future__ import annotations

import numpy as np
import pytest
from head_contract import accuracy, hold_to_contract, hold_to_sklearn

from fmcluster.heads import make_head
from fmcluster.heads.hdbscan import density_labels, merge_smallest


def test_contract(blobs, tmp_path):
    data = blobs(n=240, k=4)
    head = hold_to_contract("hdbscan", data.x, tmp_path, n_clusters=4)
    assert accuracy(head, data.y) > 0.98


def test_scikit_learn_checks():
    hold_to_sklearn("hdbscan")


def test_finds_the_number_of_clusters(blobs):
    data = blobs(n=400, k=4, spread=0.1)
    head = make_head("hdbscan", min_cluster_size=40, random_state=0).fit(data.x)
    assert head.n_clusters_ == 4
    assert accuracy(head, data.y) > 0.98


def test_noise_is_assigned_or_abstained_on(blobs):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(40, 16))
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    x = np.vstack([blobs(n=300, k=3, spread=0.1).x, noise]).astype(np.float32)
    shared = {"n_clusters": 3, "min_cluster_size": 30, "random_state": 0}
    assign = make_head("hdbscan", **shared).fit(x)
    abstain = make_head("hdbscan", outliers="abstain", **shared).fit(x)
    assert assign.noise_share_ == abstain.noise_share_ > 0
    sure = (assign.predict_proba(x).max(axis=1), abstain.predict_proba(x).max(axis=1))
    assert sure[1][300:].mean() < sure[0][300:].mean()
    assert set(np.unique(assign.labels_)) == set(range(assign.n_clusters_))


def test_smallest_clusters_join_their_nearest():
    x = np.array([[1.0, 0], [1, 0], [0.9, 0.1], [0, 1], [0, 1]])
    labels = merge_smallest(x, np.array([0, 0, 1, 2, 2]), 2)
    np.testing.assert_array_equal(labels, [0, 0, 0, 1, 1])


def test_noise_stays_noise_when_clusters_merge():
    x = np.eye(4)
    labels = merge_smallest(x, np.array([0, -1, 1, 2]), 2)
    assert labels[1] == -1
    assert labels.max() == 1


def test_no_density_is_one_cluster():
    x = np.random.default_rng(0).normal(size=(12, 3))
    assert density_labels(x, 12, 5).max() == 0


def test_unknown_treatment_of_noise_is_named(blobs):
    with pytest.raises(ValueError, match="outliers='drop'"):
        make_head("hdbscan", outliers="drop").fit(blobs().x)
