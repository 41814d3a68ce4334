from __future__ import annotations

import numpy as np
import pytest
from head_contract import accuracy, hold_to_contract, hold_to_sklearn

from fmcluster.heads import make_head
from fmcluster.heads.agglomerative import cluster_cosines


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


def test_a_new_row_belongs_to_its_nearest_mini_centroid(blobs):
    data = blobs(n=300, k=4, spread=0.3)
    head = make_head("agglomerative", n_clusters=4, random_state=0).fit(data.x[:200])
    new = data.x[200:]
    nearest = (new @ head.centroids_.T).argmax(axis=1)
    np.testing.assert_array_equal(head.predict(new), head.groups_[nearest])


def test_cluster_cosines_are_the_largest_of_each_group():
    x, centroids = np.eye(3), np.array([[1.0, 0, 0], [0, 1, 0], [0.6, 0.8, 0]])
    found = cluster_cosines(x, centroids, np.array([0, 1, 0]), 2)
    np.testing.assert_allclose(found, [[1, 0], [0.8, 1], [0, 0]])


def test_too_few_mini_clusters_are_refused(blobs):
    with pytest.raises(ValueError, match="n_mini=2"):
        make_head("agglomerative", n_clusters=4, n_mini=2).fit(blobs().x)
