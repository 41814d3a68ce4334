"""The map by neighbours keeps clusters together; it is the same for the same seed."""

import numpy as np
import pytest

import fmcluster as fmc
from fmcluster.result.report.layout import neighbor_layout
from fmcluster.result.report.projection import project
from fmcluster.vectors.graph import KNNGraph


@pytest.fixture
def data(blobs):
    return blobs(400, 5, d=24, spread=0.15)


def purity(points, y):
    near = np.linalg.norm(points[:, None] - points[None], axis=2).argsort(axis=1)[:, 1:11]
    return float((y[near] == y[:, None]).mean())


def test_neighbours_stay_neighbours_where_a_projection_mixes_them(data):
    graph = KNNGraph.build(data.x, k=12)
    start = np.random.default_rng(0).normal(size=(400, 2))
    points = neighbor_layout(graph, start)
    assert purity(start, data.y) < 0.4
    assert purity(points, data.y) > 0.95
    assert np.isfinite(points).all()
    np.testing.assert_array_equal(points, neighbor_layout(graph, start))


def test_equal_rows_and_equal_starts_part(data):
    graph = KNNGraph.build(np.repeat(np.eye(4, dtype=np.float32), 20, axis=0), k=10)
    points = neighbor_layout(graph, np.zeros((80, 2)))
    assert len(np.unique(points.round(6), axis=0)) == 80


@pytest.mark.parametrize("method", ["neighbours", "pca"])
def test_projections_fill_the_unit_square(data, method):
    result = fmc.cluster(data.x, n_clusters=5, head="kmeans", calibrate=False)
    points = project(result, np.arange(400), method=method)
    assert points.shape == (400, 2)
    # All but what lies far out is within the frame, which leaves an edge for that.
    assert 0 <= points.min() < 0.05 and 0.95 < points.max() <= 1
    some = project(result, np.arange(0, 400, 2), method=method)
    assert some.shape == (200, 2)
    assert purity(some, data.y[::2]) > (0.9 if method == "neighbours" else 0.3)


def test_a_handful_of_rows_is_projected_linearly(blobs):
    result = fmc.cluster(blobs(12, 2).x, n_clusters=2, head="kmeans", calibrate=False)
    few = np.arange(12)
    np.testing.assert_array_equal(
        project(result, few, method="neighbours"), project(result, few, method="pca")
    )
