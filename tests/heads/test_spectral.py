from __future__ import annotations

import numpy as np
import pytest
from head_contract import accuracy, hold_to_contract, hold_to_sklearn

from fmcluster.heads import make_head
from fmcluster.heads.spectral import laplacian_vectors
from fmcluster.partition.landmarks import normalized_graph
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import unit_rows


def test_contract(blobs, tmp_path):
    data = blobs(n=240, k=4)
    head = hold_to_contract("spectral", data.x, tmp_path, n_clusters=4)
    assert accuracy(head, data.y) == 1.0


def test_scikit_learn_checks():
    hold_to_sklearn("spectral")


def test_separates_what_centroids_cannot():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 400)
    height = np.repeat([0.0, 1.0], 200)
    ring = np.c_[np.cos(angle), np.sin(angle), height + 0.03 * rng.normal(size=400)]
    ring /= np.linalg.norm(ring, axis=1, keepdims=True)
    head = make_head("spectral", n_clusters=2, n_neighbors=8, n_vectors=2, random_state=0)
    assert accuracy(head.fit(ring), height.astype(int)) > 0.97


def test_vectors_are_eigenvectors_of_the_normalized_graph(blobs):
    graph = KNNGraph.build(blobs(n=400, k=3).x, k=10)
    values, vectors = laplacian_vectors(graph, 6, seed=0)
    matrix = normalized_graph(graph)
    np.testing.assert_allclose(matrix @ vectors, vectors * values, atol=1e-4)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix.toarray())[::-1][:6], atol=1e-5)
    assert values[0] == pytest.approx(1)


def test_every_part_without_an_edge_to_another_has_its_vector(blobs):
    graph = KNNGraph.build(blobs(n=1600, k=8, d=16, spread=0.1).x, k=10)
    values, vectors = laplacian_vectors(graph, 10, seed=0)
    np.testing.assert_allclose(values[:8], 1)
    assert values[8] < 0.9
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(10), atol=1e-5)


def test_normalized_graph_is_symmetric_with_degrees_as_its_first_vector(blobs):
    graph = KNNGraph.build(blobs(n=120).x, k=7)
    matrix = normalized_graph(graph).toarray()
    np.testing.assert_allclose(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).max() == pytest.approx(1)


def test_vectors_of_fine_groups_fade_with_diffusion(blobs):
    x = blobs(n=300, k=3, d=8, spread=0.3).x
    graph = KNNGraph.build(x, k=10)
    fitted = [
        make_head("spectral", n_clusters=3, n_neighbors=10, diffusion=t, random_state=0).fit(x)
        for t in (0, 8)
    ]
    plain, faded = (head.space_.values for head in fitted)
    values, _ = laplacian_vectors(graph, 16, seed=fitted[0].n_clusters_)
    expected = unit_rows(plain * values**8)
    np.testing.assert_allclose(faded, expected, atol=1e-3)


def test_mini_clusters_stand_for_many_rows(blobs):
    data = blobs(n=600, k=3)
    head = make_head("spectral", n_clusters=3, max_nodes=300, random_state=0).fit(data.x)
    assert len(head.space_.nodes) <= 100
    assert accuracy(head, data.y) > 0.98


def test_new_rows_go_where_their_neighbors_are(blobs):
    data = blobs(n=400, k=4)
    head = make_head("spectral", n_clusters=4, random_state=0).fit(data.x[:300])
    near = KNNGraph.build(data.x, k=1)
    found = head.predict(data.x[300:])
    expected = np.array(
        [np.bincount(head.labels_[data.y[:300] == c]).argmax() for c in data.y[300:]]
    )
    assert near.k == 1
    assert (found == expected).mean() > 0.98
