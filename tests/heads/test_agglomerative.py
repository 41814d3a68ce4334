from __future__ import annotations

import numpy as np
import pytest
from head_contract import accuracy, hold_to_contract, hold_to_sklearn

from fmcluster.heads import make_head
from fmcluster.heads.agglomerative import cluster_mass, settle
from fmcluster.partition.mini_clusters import MiniClusters


@pytest.mark.parametrize("linkage", ["ward", "average", "graph"])
def test_contract(blobs, tmp_path, linkage):
    data = blobs(n=240, k=4)
    head = hold_to_contract("agglomerative", data.x, tmp_path, n_clusters=4, linkage=linkage)
    assert accuracy(head, data.y) > 0.98


def test_scikit_learn_checks():
    hold_to_sklearn("agglomerative")


def test_uneven_sizes_survive(blobs):
    data = blobs(sizes=[300, 60, 12], d=16)
    head = make_head("agglomerative", n_clusters=3, linkage="average", random_state=0).fit(data.x)
    np.testing.assert_array_equal(np.sort(np.bincount(head.labels_)), [12, 60, 300])


def test_a_row_belongs_to_the_mini_clusters_around_it():
    x, centroids = np.eye(2), np.array([[1.0, 0], [0.8, 0.6], [0, 1]])
    found = cluster_mass(x, centroids, np.array([0, 1, 1]), 0.5)
    near, far = np.exp(1 / 0.5), np.exp(0.8 / 0.5) + np.exp(0)
    np.testing.assert_allclose(found[0], [near / (near + far), far / (near + far)])
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_without_temperature_the_nearest_mini_centroid_decides(blobs):
    data = blobs(n=300, k=4, spread=0.3)
    head = make_head("agglomerative", n_clusters=4, random_state=0).fit(data.x[:200])
    head.temperature_ = 1e-4
    new = data.x[200:]
    nearest = (new @ head.centroids_.T).argmax(axis=1)
    np.testing.assert_array_equal(head.predict(new), head.groups_[nearest])


def test_smoothing_parts_clusters_that_touch(blobs):
    data = blobs(n=600, k=4, d=32, spread=0.5)
    params = {"n_clusters": 4, "linkage": "average", "random_state": 0}
    plain = make_head("agglomerative", smoothing=0, **params).fit(data.x)
    smooth = make_head("agglomerative", **params).fit(data.x)
    assert accuracy(smooth, data.y) > accuracy(plain, data.y) + 0.1


def mini_of(points, sizes):
    points, sizes = np.asarray(points, float), np.asarray(sizes, float)
    return MiniClusters(points, np.arange(len(points)), points * sizes[:, None], sizes)


def test_mini_clusters_merged_too_early_move_to_the_nearer_cluster():
    mini = mini_of([[1, 0], [0.99, 0.14], [0.1, 0.99], [0, 1]], [10, 10, 1, 10])
    early = np.array([0, 0, 0, 1])
    for unit in (True, False):
        np.testing.assert_array_equal(settle(mini, early, unit=unit), [0, 0, 1, 1])


def test_settling_never_empties_a_cluster():
    mini = mini_of([[1, 0], [1, 0], [0, 1]], [1, 1, 1])
    groups = np.array([0, 1, 1])
    np.testing.assert_array_equal(np.unique(settle(mini, groups, unit=True)), [0, 1])


def test_too_few_mini_clusters_are_refused(blobs):
    with pytest.raises(ValueError, match="n_mini=2"):
        make_head("agglomerative", n_clusters=4, n_mini=2).fit(blobs().x)
