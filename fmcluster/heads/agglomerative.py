r"""Agglomerative clustering of mini-clusters (Ward, JASA 1963; Lance & Williams, 1967).

Start with many mini-clusters and merge the two nearest until k are left; ``ward``: the pair that
raises the within-cluster variance least,

.. math:: \Delta(A, B) = \frac{|A||B|}{|A| + |B|} \|\mu_A - \mu_B\|^2,

``average``: the smallest mean cosine distance between their rows, ``graph``: the densest neighbour
edges between them. Adapted to frozen embeddings: mini-clusters of spherical k-means stand for the
rows and count by their sizes, so that memory does not grow with the square of the rows and a new
row belongs to the cluster of its nearest mini-centroid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster._validation import check_in, check_range
from fmcluster.heads._nodes import sample_rows
from fmcluster.heads._rows import joint
from fmcluster.heads.base import ClusterHead, HeadData, softmax
from fmcluster.heads.kmeans import median_margin
from fmcluster.heads.partitions import LINKAGES, cut_tree, merge_tree, mini_clusters
from fmcluster.index import KNNGraph


def cluster_cosines(
    x: NDArray[Any], centroids: NDArray[Any], groups: NDArray[Any], n_clusters: int
) -> NDArray[np.float64]:
    """Return the cosine (n, k) of each unit row to the nearest mini-centroid of each cluster."""
    cosines = x.astype(np.float64) @ centroids.T.astype(np.float64)
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(n_clusters))
    return np.maximum.reduceat(cosines[:, order], starts, axis=1)


class AgglomerativeHead(ClusterHead):
    """Bottom-up merging of mini-clusters.

    Parameters
    ----------
    n_clusters : int or "auto"
        Number of clusters left.
    linkage : {"ward", "average", "graph"}
        Which pair is merged; ``average`` and ``graph`` let sizes differ most.
    n_mini : int, optional
        Mini-clusters to begin with; by default 8 a cluster, at least 512.
    n_neighbors : int
        Neighbours in the graph of ``linkage="graph"``.
    max_rows : int
        Rows that mini-clusters are made from.
    random_state : None, int or RandomState
        Seed.
    """

    name = "agglomerative"

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        linkage: str = "ward",
        n_mini: int | None = None,
        n_neighbors: int = 20,
        max_rows: int = 1_000_000,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.linkage = linkage
        self.n_mini = n_mini
        self.n_neighbors = n_neighbors
        self.max_rows = max_rows
        self.random_state = random_state

    def _fit(self, data: HeadData) -> None:
        check_in(self.linkage, LINKAGES, "linkage")
        if self.n_mini is not None:
            check_range(self.n_mini, "n_mini", low=data.n_clusters)
        x = sample_rows(data, self.max_rows)
        wanted = self.n_mini or max(8 * data.n_clusters, min(512, len(x) // 4))
        mini = mini_clusters(x, min(wanted, len(x)), random_state=data.seed("mini"))
        graph = None
        if self.linkage == "graph":
            whole = len(x) == data.n_rows
            graph = data.graph(self.n_neighbors) if whole else KNNGraph.build(x, k=self.n_neighbors)
        self.centroids_ = mini.centroids
        self.groups_ = cut_tree(merge_tree(mini, self.linkage, graph), data.n_clusters)
        data.n_clusters = int(self.groups_.max()) + 1
        scores = cluster_cosines(x[:20_000], self.centroids_, self.groups_, data.n_clusters)
        self.temperature_ = median_margin(scores)

    def _proba(self, xs: list[NDArray[np.float32]]) -> NDArray[np.floating]:
        k = int(self.groups_.max()) + 1
        scores = cluster_cosines(joint(xs), self.centroids_, self.groups_, k)
        return softmax(scores / self.temperature_)

    def _state(self) -> dict[str, NDArray[Any]]:
        about = {"groups": self.groups_, "temperature": np.array([self.temperature_])}
        return {"centroids": self.centroids_, **about}

    def _load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.centroids_, self.groups_ = arrays["centroids"], arrays["groups"]
        self.temperature_ = float(arrays["temperature"][0])
