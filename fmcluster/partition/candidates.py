r"""Candidate partitions of one array and one neighbor graph, of several algorithms.

k-means favors even sizes, merging of small clusters does not: which of them is right is a
property of the data. So several algorithms are made and scored
(`fmcluster.partition.scores`), and none sees a label:

* ``kmeans``: spherical k-means.
* Many *mini-clusters* (spherical k-means with far more centroids than clusters) merged bottom-up
  by ``average`` (mean cosine between all pairs of rows), ``ward`` (increase of within-cluster
  variance) or ``graph`` (density of neighbor edges between them).

Every partition is a set of unit centroids, each of which belongs to a cluster, so that new rows
are placed by their nearest centroid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.partition.kmeans import kmeans_partition, nearest_centroid
from fmcluster.partition.linkage import LINKAGES, cut_tree, merge_tree
from fmcluster.partition.mini_clusters import default_n_mini, mini_clusters
from fmcluster.partition.scores import NodeEdges, score_partition
from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import check_in
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import BLOCK_ROWS, unit_rows

if TYPE_CHECKING:
    from fmcluster.vectors.fit_data import HeadData

ALGORITHMS = ("kmeans", *LINKAGES)


@dataclass(frozen=True)
class Partition:
    """A partition by nearest centroid.

    Attributes
    ----------
    algorithm : str
        ``kmeans``, ``average``, ``ward`` or ``graph``.
    centroids : (m, d) float32
        Unit rows; m >= k.
    groups : (m,) int64
        The cluster of each centroid, 0..k-1.
    labels : (n,) int64
        The clusters of the rows that it was made from; equal to ``predict`` of them.
    score : float
        Modularity plus simplified silhouette, NaN where it was not asked for.
    """

    algorithm: str
    centroids: NDArray[np.float32]
    groups: NDArray[np.int64]
    labels: NDArray[np.int64]
    score: float = float("nan")

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return int(self.groups.max()) + 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of each cluster, (k,)."""
        return np.bincount(self.labels, minlength=self.n_clusters)

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return the cluster of the nearest centroid of each row of X (n, d)."""
        return self.groups[nearest_centroid(unit_rows(np.asarray(X)), self.centroids)]


def candidate_partitions(
    rows: NDArray[np.float32],
    n_clusters: int,
    graph: KNNGraph | NodeEdges,
    *,
    algorithms: Sequence[str] = ALGORITHMS,
    n_seeds: int = 1,
    n_mini: int | None = None,
    scored: bool = True,
    weights: NDArray[np.float64] | None = None,
    random_state: int = 0,
) -> Iterator[Partition]:
    """Yield partitions of unit rows (n, d), scored unless told not to: all algorithms and seeds.

    Mini-clusters are made once a seed and shared by its linkages. Rows may stand for several each
    (`weights`), and then edges between them are given for a graph; such are not scored.
    """

    def made(algorithm: str, centroids: Any, groups: Any, labels: Any) -> Partition:
        score = float("nan")
        if scored and isinstance(graph, KNNGraph):
            score = score_partition(rows, labels, graph)
        return Partition(algorithm, centroids, groups, labels, score)

    for algorithm in algorithms:
        check_in(algorithm, ALGORITHMS, "algorithm")
    linkages = [algorithm for algorithm in algorithms if algorithm != "kmeans"]
    n_mini = n_mini or default_n_mini(len(rows), n_clusters)
    for number in range(n_seeds):
        seed = seed_of(random_state, "partition", number)
        if "kmeans" in algorithms:
            centroids, labels = kmeans_partition(rows, n_clusters, seed=seed)
            yield made("kmeans", centroids, np.arange(len(centroids)), labels)
        if not linkages:
            continue
        mini = mini_clusters(rows, n_mini, seed=seed, weights=weights)
        for linkage in linkages:
            groups = cut_tree(merge_tree(mini, linkage, graph), n_clusters)
            yield made(linkage, mini.centroids, groups, groups[mini.labels])


def best_partition(
    rows: NDArray[np.float32],
    n_clusters: int,
    graph: KNNGraph,
    *,
    n_seeds: int = 1,
    random_state: int = 0,
) -> Partition:
    """Return the candidate with the highest score."""
    found = candidate_partitions(
        rows, n_clusters, graph, n_seeds=n_seeds, random_state=random_state
    )
    return max(found, key=lambda one: one.score)


def sample_with_graph(
    data: HeadData, most: int = 20_000, k: int = 10
) -> tuple[NDArray[np.float32], KNNGraph]:
    """Return unit rows of all spaces and their neighbor graph; of many rows, a random sample."""
    rows = data.sample_rows(most)
    return rows, data.graph(k) if data.n_rows <= most else KNNGraph.build(rows, k=k)


def start_partition(data: HeadData) -> NDArray[np.int64]:
    """Return labels (n,) of the best-scored candidate partition of the rows."""
    rows, graph = sample_with_graph(data)
    found = best_partition(rows, data.n_clusters, graph, random_state=data.seed("start"))
    if len(rows) == data.n_rows:
        return found.labels
    blocks = [
        found.predict(data.joint[slice(start, start + BLOCK_ROWS)])
        for start in range(0, data.n_rows, BLOCK_ROWS)
    ]
    return np.concatenate(blocks)
