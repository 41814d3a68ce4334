r"""Spectral clustering of the neighbor graph (Ng, Jordan & Weiss, NIPS 2001).

With W the symmetrized cosines of the k-neighbor graph and D its degrees, the leading eigenvectors
of :math:`D^{-1/2} W D^{-1/2}`, made unit row by row, are clustered by k-means. A vector counts by
its eigenvalue to the power `diffusion` (diffusion maps; Coifman & Lafon, 2006): the graph's view
after so many steps of a random walk, where vectors that tell fine groups apart have faded.

Adapted to frozen embeddings: the graph is sparse and its eigenvectors come from Lanczos iteration
(ARPACK), so that 20,000 rows take seconds; with few clusters more eigenvectors than clusters are
kept (at least 16), because the first ones single out small dense groups of near-duplicates; above
`max_nodes` rows the graph is one of mini-cluster centroids; new rows take the weighted mean of the
vectors of their nearest nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import eigsh

from fmcluster.heads.families.graph import GraphHead
from fmcluster.partition.landmarks import LandmarkMap, landmark_graph, normalized_graph
from fmcluster.utils.validation import check_range
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.graph import KNNGraph

# Few nodes are solved densely: exact, and ARPACK needs clearly more nodes than vectors.
DENSE_NODES = 256


def laplacian_vectors(
    graph: KNNGraph, n_vectors: int, *, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the `n_vectors` largest eigenvalues and vectors (n, r) of the normalized graph.

    Parts without an edge between them are solved one by one: they share the eigenvalue one, and
    Lanczos iteration from a single vector does not find all vectors of a shared eigenvalue.
    """
    matrix = normalized_graph(graph)
    n_parts, part = connected_components(matrix, directed=False)
    found = []
    for number in range(n_parts):
        rows = np.flatnonzero(part == number)
        inside = matrix if n_parts == 1 else matrix[rows][:, rows]
        values, vectors = _largest(inside, min(n_vectors, len(rows)), seed)
        found += [(value, rows, vectors[:, i]) for i, value in enumerate(values)]
    found.sort(key=lambda one: -one[0])
    out = np.zeros((graph.n_rows, min(n_vectors, graph.n_rows)))
    for column, (_, rows, vector) in enumerate(found[: out.shape[1]]):
        out[rows, column] = vector
    return np.array([value for value, _, _ in found[: out.shape[1]]]), out


def _largest(
    matrix: csr_matrix, n_vectors: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the largest eigenvalues and their vectors of one connected part."""
    n = matrix.shape[0]
    if n <= max(DENSE_NODES, 2 * n_vectors):
        values, vectors = np.linalg.eigh(matrix.toarray())
        return values[-n_vectors:], vectors[:, -n_vectors:]
    # Positive, as the first vector is, and of no symmetry: Lanczos finds none it is orthogonal to.
    start = np.random.default_rng(seed).uniform(0.5, 1.5, n)
    return eigsh(matrix, k=n_vectors, which="LA", tol=1e-6, v0=start)


@dataclass(eq=False, repr=False, kw_only=True)
class SpectralHead(GraphHead):
    """Normalized spectral clustering on the neighbor graph.

    Parameters
    ----------
    n_vectors : int, optional
        Eigenvectors kept; by default one per cluster, at least 16.
    diffusion : float
        Steps of the random walk; zero: all vectors count alike.
    """

    name = "spectral"

    n_vectors: int | None = None
    # Steps of the walk after which vectors of eigenvalue 0.9 count less than half.
    diffusion: float = 8.0

    def _fit(self, data: HeadData) -> None:
        check_range(self.n_neighbors, "n_neighbors", low=1)
        check_range(self.diffusion, "diffusion", low=0)
        k = data.n_clusters
        nodes, graph = landmark_graph(data, self.n_neighbors, max(self.max_nodes, 2 * k))
        # Small eigenvalues fade by diffusion: more vectors than clusters do no harm.
        n_vectors = self.n_vectors or max(k, 16)
        values, vectors = laplacian_vectors(graph, n_vectors, seed=data.seed("lanczos"))
        vectors = vectors * values.clip(0, 1) ** self.diffusion
        self.space_ = LandmarkMap.fit(nodes, vectors, k, self.n_neighbors, data.seed("kmeans"))
