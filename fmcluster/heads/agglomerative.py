r"""Agglomerative clustering of mini-clusters (Ward, JASA 1963; Lance & Williams, 1967).

Start with many mini-clusters and merge the two nearest until k are left; ``ward``: the pair that
raises the within-cluster variance least,

.. math:: \Delta(A, B) = \frac{|A||B|}{|A| + |B|} \|\mu_A - \mu_B\|^2,

``average``: the smallest mean cosine distance between their rows, ``graph``: the densest neighbor
edges between them. Adapted to frozen embeddings:

* Mini-clusters of spherical k-means stand for the rows and count by their sizes, so that memory
  does not grow with the square of the rows.
* What is merged are means of rows averaged with their neighbors', `smoothing` times over, which
  draws clusters apart (graph convolution without weights; Wu et al., ICML 2019).
* No merge is ever undone; afterwards mini-clusters nearer to another cluster move there. On few
  broad classes of balanced sizes that stays some points under k-means; where sizes differ it
  is ahead.
* A row belongs to the mini-clusters around it: with centroids c and their clusters g,
  :math:`p_k \propto \sum_{m: g_m = k} \exp(\cos(x, c_m) / \tau)`, :math:`\tau` the median gap
  between a row's nearest and second nearest centroid. The nearest alone is a coin's throw where
  clusters meet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.heads.base import ClusterHead
from fmcluster.heads.kmeans import MARGIN_ROWS
from fmcluster.partition.kmeans import median_margin
from fmcluster.partition.linkage import LINKAGES, cut_tree, merge_tree
from fmcluster.partition.mini_clusters import (
    MINI_PER_CLUSTER,
    MiniClusters,
    group_sums,
    mini_clusters,
    smooth_rows,
)
from fmcluster.utils.validation import check_in, check_range
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import joint, unit_rows

# A bound: by mean cosine (`unit=False`) nothing says that moves come to an end.
ROUNDS = 10
# Mini-clusters of few clusters, where rows allow it: a linkage of 512 takes no time.
FINE_MINI = 512


def settle(mini: MiniClusters, groups: NDArray[np.int64], *, unit: bool) -> NDArray[np.int64]:
    """Move mini-clusters to the cluster of the best mean cosine until none moves or one empties.

    With `unit` clusters count by direction, as in k-means, otherwise by their mean cosine, which is
    what average linkage goes by.
    """
    k = int(groups.max()) + 1
    means = mini.sums / mini.sizes[:, None]
    for _ in range(ROUNDS):
        sizes = np.bincount(groups, mini.sizes, minlength=k)
        centers = group_sums(mini.sums.astype(np.float32), groups, k) / sizes[:, None]
        moved = (means @ (unit_rows(centers) if unit else centers).T).argmax(axis=1)
        if len(np.unique(moved)) < k or (moved == groups).all():
            break
        groups = moved.astype(np.int64)
    return groups


def cluster_mass(
    x: NDArray[Any], centroids: NDArray[Any], groups: NDArray[Any], temperature: float
) -> NDArray[np.float64]:
    """Return the share (n, k) of each cluster's mini-clusters in the kernel around unit rows."""
    cosines = x.astype(np.float64) @ centroids.T.astype(np.float64)
    cosines -= cosines.max(axis=1, keepdims=True)
    mass = np.exp(cosines / temperature)
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(groups.max() + 1))
    mass = np.add.reduceat(mass[:, order], starts, axis=1)
    return mass / mass.sum(axis=1, keepdims=True)


@dataclass(eq=False, repr=False, kw_only=True)
class AgglomerativeHead(ClusterHead):
    """Bottom-up merging of mini-clusters.

    Parameters
    ----------
    n_clusters : int or "auto"
        Number of clusters left.
    linkage : {"ward", "average", "graph"}
        Which pair is merged; ``average`` and ``graph`` let sizes differ most.
    n_mini : int, optional
        Mini-clusters to begin with; by default 8 per cluster, at least 512.
    smoothing : int
        How often rows are averaged with their neighbors before mini-clusters are merged.
    n_neighbors : int
        Neighbors in the graph of `smoothing` and of ``linkage="graph"``.
    max_rows : int
        Rows that mini-clusters are made from.
    """

    name = "agglomerative"

    linkage: str = "ward"
    n_mini: int | None = None
    # Reach over the graph, in edges; more draws small clusters into large ones.
    smoothing: int = 8
    # As in the graph of a result: with more, a larger one would have to be built.
    n_neighbors: int = 20
    # Memory of the sample: 400 MB of 512 dimensions.
    max_rows: int = 200_000

    def _fit(self, data: HeadData) -> None:
        check_in(self.linkage, LINKAGES, "linkage")
        check_range(self.smoothing, "smoothing", low=0)
        if self.n_mini is not None:
            check_range(self.n_mini, "n_mini", low=data.n_clusters)
        x = data.sample_rows(self.max_rows)
        # Where clusters are few, of four rows each at least: a single row is no mini-cluster.
        wanted = self.n_mini or max(MINI_PER_CLUSTER * data.n_clusters, min(FINE_MINI, len(x) // 4))
        mini = mini_clusters(x, min(wanted, len(x)), seed=data.seed("mini"))
        self.centroids_ = mini.centroids
        self.temperature_ = median_margin(x[:: 1 + len(x) // MARGIN_ROWS] @ mini.centroids.T)
        graph = None
        if self.smoothing or self.linkage == "graph":
            whole = len(x) == data.n_rows
            k = min(self.n_neighbors, len(x) - 1)
            graph = data.graph(k) if whole else KNNGraph.build(x, k=k)
            x = smooth_rows(x, graph, self.smoothing)
            mini = replace(mini, sums=group_sums(x, mini.labels, len(mini.sizes)))
        self.groups_ = cut_tree(merge_tree(mini, self.linkage, graph), data.n_clusters)
        if self.linkage != "graph":
            self.groups_ = settle(mini, self.groups_, unit=self.linkage == "ward")
        data.n_clusters = int(self.groups_.max()) + 1

    def _proba(self, xs: list[NDArray[np.float32]]) -> NDArray[np.floating]:
        return cluster_mass(joint(xs), self.centroids_, self.groups_, self.temperature_)

    def _state(self) -> dict[str, NDArray[Any]]:
        about = {"groups": self.groups_, "temperature": np.array([self.temperature_])}
        return {"centroids": self.centroids_, **about}

    def _load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.centroids_, self.groups_ = arrays["centroids"], arrays["groups"]
        self.temperature_ = float(arrays["temperature"][0])
