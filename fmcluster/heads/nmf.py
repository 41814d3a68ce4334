r"""Symmetric non-negative factorization of the neighbor graph (Kuang, Ding & Park, SDM 2012).

With W the symmetrized, degree-normalized cosines of the k-neighbor graph,

.. math:: \min_{G \ge 0} \|W - G G^T\|_F^2, \qquad
          G \leftarrow G \odot \Big(1 - \beta + \beta \frac{W G}{G G^T G}\Big),

:math:`\beta = 1/2`; a row's cluster is its largest entry of G. Adapted to frozen embeddings: those
are signed, and factorizing their positive parts measured six points below k-means where the graph's
factors measured above it. G starts at spherical k-means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from fmcluster.heads.families.graph import GraphHead
from fmcluster.partition.kmeans import N_INIT, spherical_kmeans
from fmcluster.partition.landmarks import LandmarkMap, landmark_graph, normalized_graph
from fmcluster.utils.validation import check_range
from fmcluster.vectors.fit_data import HeadData


# A change of a ten-thousandth moves hardly a label; less is rounds for nothing.
def symmetric_nmf(
    weights: csr_matrix, start: NDArray[np.float64], *, max_iter: int, tol: float = 1e-4
) -> tuple[NDArray[np.float64], int]:
    """Return G (n, k) >= 0 with ``G @ G.T`` near `weights`, from G = `start`, and the rounds.

    Stops where a round changes G by less than `tol` of its length. The objective never rises.
    """
    g, n_iter, moving = start.copy(), 0, True
    while moving and n_iter < max_iter:
        new = g * (0.5 + 0.5 * (weights @ g) / np.maximum(g @ (g.T @ g), 1e-12))
        moving = np.linalg.norm(new - g) > tol * np.linalg.norm(new)
        g, n_iter = new, n_iter + 1
    return g, n_iter


@dataclass(eq=False, repr=False, kw_only=True)
class NMFHead(GraphHead):
    """Symmetric NMF on the neighbor graph.

    Parameters
    ----------
    n_clusters : int or "auto"
        Number of factors.
    max_iter : int
        Rounds of multiplicative updates.
    """

    name = "nmf"

    # Multiplicative steps are slow at the end: fewer stop on the way, more are time.
    max_iter: int = 100

    def _fit(self, data: HeadData) -> None:
        check_range(self.max_iter, "max_iter", low=1)
        k = data.n_clusters
        nodes, graph = landmark_graph(data, self.n_neighbors, max(self.max_nodes, 2 * k))
        centroids = spherical_kmeans(nodes, k, n_init=N_INIT, seed=data.seed("kmeans"))
        # Nothing is zero: a multiplicative step could not move it. The offset is that of Ding, Li &
        # Jordan, "Convex and semi-nonnegative matrix factorizations", PAMI 2010.
        start = np.eye(k)[(nodes @ centroids.T).argmax(axis=1)] + 0.2
        start /= np.sqrt(start.sum(axis=0))
        factors, self.n_iter_ = symmetric_nmf(
            normalized_graph(graph), start, max_iter=self.max_iter
        )
        self.space_ = LandmarkMap.of_scores(nodes, factors, self.n_neighbors)
