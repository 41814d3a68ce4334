"""What the classical heads share: a sample, a projection, and nodes that stand for all rows.

Methods whose cost grows faster than the rows work on *nodes*: the rows themselves while they are
few, a third as many mini-cluster centroids above that, made in two levels. New rows are placed by
the nodes nearest to them, and so are the training rows, which keeps ``predict`` and ``labels_`` the
same thing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags

from fmcluster.functional.softmax import softmax
from fmcluster.partition.kmeans import MINI_ROUNDS, median_margin, plus_plus_centroids
from fmcluster.partition.lloyd import two_level
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.index import KNNIndex
from fmcluster.vectors.rows import GATHER_ROWS, unit_rows

# Rows per landmark-to-be that mini-clusters are made of: a sample bounds what two levels cost.
NODE_ROWS = 10


def landmark_graph(
    data: HeadData, n_neighbors: int, max_nodes: int
) -> tuple[NDArray[np.float32], KNNGraph]:
    """Return unit nodes (m, d) and their neighbor graph.

    The rows themselves, or, above `max_nodes` rows, a third as many centroids of mini-clusters of
    at most ten times `max_nodes` rows.
    """
    if data.n_rows <= max_nodes:
        return data.joint[:], data.graph(n_neighbors)
    x = data.sample_rows(NODE_ROWS * max_nodes)
    n_nodes = max(max_nodes // 3, 2 * data.n_clusters, 2)
    nodes, _ = two_level(x, n_nodes, max_iter=MINI_ROUNDS, seed=data.seed("nodes"))
    nodes = np.unique(nodes, axis=0)
    return nodes, KNNGraph.build(nodes, k=min(n_neighbors, len(nodes) - 1))


def normalized_graph(graph: KNNGraph) -> csr_matrix:
    """Return D^-1/2 W D^-1/2 (n, n) of the symmetrized cosines W and their row sums D."""
    weights = graph.to_csr()
    weights.data = np.maximum(weights.data, 1e-6).astype(np.float64)
    weights = (weights + weights.T) / 2
    scale = diags(1 / np.sqrt(np.asarray(weights.sum(axis=1)).ravel()))
    return csr_matrix(scale @ weights @ scale)


@dataclass
class LandmarkMap:
    """A map known at the nodes and carried to any row by the nodes nearest to it.

    The weight of a node is its cosine above that of the first node left out, so that the map is
    continuous: no row jumps because a far neighbor comes or goes.

    Attributes
    ----------
    nodes : (m, d) float32
        Unit rows.
    values : (m, r) float32
        The map at the nodes.
    centroids : (k, r) float32
        Unit centroids in the space of the values.
    temperature : float
        Of the softmax of the cosines to them.
    """

    nodes: NDArray[np.float32]
    values: NDArray[np.float32]
    centroids: NDArray[np.float32]
    n_neighbors: int
    temperature: float = 1.0
    _index: KNNIndex | None = field(default=None, repr=False)

    @classmethod
    def fit(
        cls, nodes: NDArray[np.float32], values: NDArray[Any], k: int, n_neighbors: int, seed: int
    ) -> LandmarkMap:
        """Cluster the values into `k` by spherical k-means."""
        values = unit_rows(values)
        centroids = plus_plus_centroids(values, k, seed=seed, max_iter=100, compare_all=True)
        # Other centroids score alike here: without log k their number would drown the best one.
        temperature = median_margin(values @ centroids.T) / (1 + np.log(max(k - 1, 1)))
        return cls(nodes, values, centroids, min(n_neighbors, len(nodes) - 1), temperature)

    @classmethod
    def of_scores(
        cls, nodes: NDArray[np.float32], scores: NDArray[Any], n_neighbors: int
    ) -> LandmarkMap:
        """Take each node's non-negative scores (m, k) of the clusters as they are."""
        k = scores.shape[1]
        space = cls(nodes, unit_rows(scores), np.eye(k, dtype=np.float32), 1)
        space.n_neighbors = min(n_neighbors, len(nodes) - 1)
        space.temperature = median_margin(space.values) / (1 + np.log(max(k - 1, 1)))
        return space

    def embed(self, x: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the unit values (m, r) of unit rows."""
        if self._index is None:
            self._index = KNNIndex.build(self.nodes, method="exact")
        out = np.empty((len(x), self.values.shape[1]))
        for start in range(0, len(x), GATHER_ROWS):
            rows = x[start : start + GATHER_ROWS]
            _, near = self._index.search(rows, self.n_neighbors + 1)
            # float64, so that a row's answer does not depend on the rows beside it.
            weight = np.einsum("id,ijd->ij", rows.astype(np.float64), self.nodes[near])
            weight = weight - weight.min(axis=1, keepdims=True) + 1e-9
            out[start : start + GATHER_ROWS] = np.einsum("ij,ijr->ir", weight, self.values[near])
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)

    def proba(self, x: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the softmax of the cosines between values and centroids."""
        return softmax(self.embed(x) @ self.centroids.T.astype(np.float64) / self.temperature)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `from_arrays` takes."""
        about = np.array([float(self.n_neighbors), self.temperature])
        return {
            "nodes": self.nodes,
            "values": self.values,
            "node_centroids": self.centroids,
            "node_about": about,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> LandmarkMap:
        """Restore a map."""
        k, temperature = arrays["node_about"]
        nodes, values = arrays["nodes"], arrays["values"]
        return cls(nodes, values, arrays["node_centroids"], int(k), float(temperature))
