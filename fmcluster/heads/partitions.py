r"""Candidate partitions of one array and one neighbour graph, and a label-free score for them.

k-means favours even sizes, merging of small clusters does not: which of them is right is a
property of the data. So several families are made and scored, and none sees a label:

* ``kmeans``: spherical k-means.
* Many *mini-clusters* (spherical k-means with far more centroids than clusters) merged bottom-up
  by ``average`` (mean cosine between all pairs of rows), ``ward`` (increase of within-cluster
  variance) or ``graph`` (density of neighbour edges between them).

With :math:`A_{ab}` the share of edges between clusters a and b and :math:`m_a = \sum_b A_{ab}`,

.. math::

    \mathrm{score} = \sum_a (A_{aa} - m_a^2)
        + \frac1n \sum_i \frac{s_{i,own} - s_{i,other}}{1 - \min(s_{i,own}, s_{i,other})},

modularity (Newman and Girvan, 2004) plus the simplified silhouette of cosines s to centroids
(Hruschka et al., 2004), each row left out of its own centroid.

Every partition is a set of unit centroids, each of which belongs to a cluster, so that new rows
are placed by their nearest centroid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster._validation import check_in, seed_of
from fmcluster.heads._linkage import agglomerate, cut_tree
from fmcluster.index import KNNGraph, faiss_module, unit_rows

if TYPE_CHECKING:
    from fmcluster.heads.base import HeadData

LINKAGES = ("average", "ward", "graph")
FAMILIES = ("kmeans", *LINKAGES)
BLOCK_ROWS = 8192
SMOOTH_ROWS = 1024
SUM_VALUES = 2**24
MINI_PER_CLUSTER = 8


@dataclass(frozen=True)
class Partition:
    """A partition by nearest centroid.

    Attributes
    ----------
    family : str
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

    family: str
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
        return self.groups[nearest(unit_rows(np.asarray(X)), self.centroids)]

    def cluster_centroids(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the unit mean of each cluster's rows of X (n, d), (k, d)."""
        return unit_rows(group_sums(X, self.labels, self.n_clusters))


@dataclass(frozen=True)
class MiniClusters:
    """Many small clusters of unit rows: what the linkages merge.

    Attributes
    ----------
    centroids : (m, d) float32
        Unit rows.
    labels : (n,) int64
        Mini-cluster of each row, none empty.
    sums : (m, d) float64
        Sum of the unit rows of each.
    sizes : (m,) float64
        Rows of each.
    """

    centroids: NDArray[np.float32]
    labels: NDArray[np.int64]
    sums: NDArray[np.float64]
    sizes: NDArray[np.float64]


def nearest(rows: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the index of the centroid with the largest cosine to each unit row."""
    out = np.empty(len(rows), np.int64)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        out[start : start + BLOCK_ROWS] = (block @ centroids.T).argmax(axis=1)
    return out


def group_sums(
    X: NDArray[np.floating], labels: NDArray[np.int64], n_groups: int
) -> NDArray[np.float64]:
    """Return the sum of the rows of each group, (n_groups, d) float64."""
    from scipy.sparse import csr_matrix

    n = len(labels)
    member = csr_matrix((np.ones(n), (labels, np.arange(n))), shape=(n_groups, n))
    # The product copies X in eight bytes a value: of many rows, some columns at a time.
    width = max(1, SUM_VALUES // max(n, 1))
    sums = [member @ X[:, at : at + width] for at in range(0, X.shape[1], width)]
    return np.concatenate(sums, axis=1, dtype=np.float64)


def smooth_rows(
    rows: NDArray[np.float32], graph: KNNGraph, n_steps: int = 1
) -> NDArray[np.float32]:
    """Average each unit row with the mean of its neighbours, `n_steps` times.

    Where neighbours are mostly of the row's own cluster this draws clusters together, which
    helps average linkage most; where they are not it blurs.
    """
    for _ in range(n_steps):
        moved = np.empty_like(rows)
        for start in range(0, len(rows), SMOOTH_ROWS):
            block = slice(start, start + SMOOTH_ROWS)
            moved[block] = rows[block] + rows[graph.indices[block]].mean(axis=1)
        rows = unit_rows(moved)
    return rows


def spherical_kmeans(
    rows: NDArray[np.float32],
    n_clusters: int,
    *,
    random_state: int = 0,
    n_iter: int = 20,
    n_init: int = 1,
    max_points: int = 256,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Run faiss spherical k-means on unit rows; empty clusters are dropped.

    Returns
    -------
    centroids : (m, d) float32, m <= n_clusters
    labels : (n,) int64
    """
    faiss = faiss_module()
    n_clusters = min(n_clusters, len(rows))
    kmeans = faiss.Kmeans(
        rows.shape[1],
        n_clusters,
        niter=n_iter,
        nredo=n_init,
        spherical=True,
        seed=seed_of(random_state, "kmeans", n_clusters),
        min_points_per_centroid=1,
        max_points_per_centroid=max_points,
    )
    kmeans.train(rows)
    centroids = unit_rows(kmeans.centroids)
    labels = nearest(rows, centroids)
    used, labels = np.unique(labels, return_inverse=True)
    return centroids[used], labels.astype(np.int64).ravel()


def default_n_mini(n_rows: int, n_clusters: int) -> int:
    """Return how many mini-clusters to merge: eight a cluster, more where n allows it."""
    return int(min(max(MINI_PER_CLUSTER * n_clusters, 64), max(n_rows // 2, n_clusters)))


def mini_clusters(
    rows: NDArray[np.float32], n_mini: int, *, random_state: int = 0, n_iter: int = 10
) -> MiniClusters:
    """Cut unit rows (n, d) into about `n_mini` mini-clusters."""
    centroids, labels = spherical_kmeans(rows, n_mini, random_state=random_state, n_iter=n_iter)
    sums = group_sums(rows, labels, len(centroids))
    sizes = np.bincount(labels, minlength=len(centroids)).astype(np.float64)
    return MiniClusters(centroids, labels, sums, sizes)


def edge_mass(labels: NDArray[np.int64], n_groups: int, graph: KNNGraph) -> NDArray[np.float64]:
    """Return the symmetric number of neighbour edges between groups, (n_groups, n_groups)."""
    pairs = labels[:, None] * n_groups + labels[graph.indices]
    counts = np.bincount(pairs.ravel(), minlength=n_groups * n_groups)
    mass = counts.reshape(n_groups, n_groups).astype(np.float64)
    return (mass + mass.T) / 2


def merge_tree(
    mini: MiniClusters, linkage: str, graph: KNNGraph | None = None
) -> NDArray[np.int64]:
    """Merge mini-clusters bottom-up: (m - 1, 2) pairs of cluster numbers in order of merging.

    Numbers are as in scipy's linkage: 0..m-1 are mini-clusters, m + t is made by merge t. The
    sizes of the mini-clusters count, so ``average`` equals average linkage over all rows of them.
    """
    check_in(linkage, LINKAGES, "linkage")
    sizes = mini.sizes
    pairs = np.outer(sizes, sizes)
    if linkage == "ward":
        means = mini.sums / sizes[:, None]
        square = (means**2).sum(1)
        gap = np.maximum(square[:, None] + square - 2 * means @ means.T, 0)
        distance = gap * pairs / (sizes[:, None] + sizes)
    else:
        distance = 1 - mini.sums @ mini.sums.T / pairs
    if linkage == "graph":
        if graph is None:
            raise ValueError("linkage='graph' needs the neighbour graph: pass graph=...")
        density = edge_mass(mini.labels, len(sizes), graph) / pairs
        # Cosines order what no edge joins.
        distance = -density + 1e-9 * distance
    return agglomerate(distance, sizes, linkage == "ward")


def modularity(labels: NDArray[np.int64], graph: KNNGraph, n_clusters: int) -> float:
    """Return Newman's modularity of a partition on the (symmetrised) neighbour graph."""
    mass = edge_mass(labels, n_clusters, graph)
    return modularity_of(mass)


def modularity_of(mass: NDArray[np.float64]) -> float:
    """Return the modularity of edge masses between clusters, (k, k)."""
    share = mass / mass.sum()
    return float(np.trace(share) - (share.sum(axis=1) ** 2).sum())


def assortativity_of(mass: NDArray[np.float64]) -> float:
    """Return Newman's assortativity of edge masses between clusters, (k, k); zero for one cluster.

    It is modularity over the most that clusters of these sizes could have, so it does not rise
    with their number or their evenness.
    """
    share = mass / mass.sum()
    chance = (share.sum(axis=1) ** 2).sum()
    return float((np.trace(share) - chance) / (1 - chance)) if chance < 1 - 1e-9 else 0.0


def silhouette(
    rows: NDArray[np.float32], labels: NDArray[np.int64], sums: NDArray[np.floating]
) -> float:
    """Return the mean simplified silhouette of unit rows against cluster sums (k, d).

    A row is left out of its own cluster's centroid, or small clusters would look tight merely by
    holding the row; a row alone in its cluster scores zero. Zero for a single cluster.
    """
    if len(sums) < 2:
        return 0.0
    sums = sums.astype(np.float64)
    square = (sums**2).sum(axis=1)
    centroids = unit_rows(sums)
    total = 0.0
    for start in range(0, len(rows), BLOCK_ROWS):
        block, own_of = rows[start : start + BLOCK_ROWS], labels[start : start + BLOCK_ROWS]
        cosines = block @ centroids.T
        at = np.arange(len(block)), own_of
        dot = np.einsum("ij,ij->i", block, sums[own_of])
        rest = np.sqrt(np.maximum(square[own_of] - 2 * dot + 1, 0))
        own = np.divide(dot - 1, rest, out=np.zeros(len(block)), where=rest > 1e-3)
        cosines[at] = -np.inf
        other = cosines.max(axis=1)
        value = (own - other) / np.maximum(1 - np.minimum(own, other), 1e-9)
        total += float(value[rest > 1e-3].sum())
    return total / len(rows)


def score_partition(rows: NDArray[np.float32], labels: NDArray[np.int64], graph: KNNGraph) -> float:
    """Return modularity + simplified silhouette of a partition of unit rows."""
    k = int(labels.max()) + 1
    return modularity(labels, graph, k) + silhouette(rows, labels, group_sums(rows, labels, k))


def candidate_partitions(
    rows: NDArray[np.float32],
    n_clusters: int,
    graph: KNNGraph,
    *,
    families: Sequence[str] = FAMILIES,
    n_seeds: int = 1,
    n_mini: int | None = None,
    scored: bool = True,
    random_state: int = 0,
) -> Iterator[Partition]:
    """Yield partitions of unit rows (n, d), scored unless told not to: all families and seeds.

    Mini-clusters are made once a seed and shared by its linkages.
    """

    def made(family: str, centroids: Any, groups: Any, labels: Any) -> Partition:
        score = score_partition(rows, labels, graph) if scored else float("nan")
        return Partition(family, centroids, groups, labels, score)

    for family in families:
        check_in(family, FAMILIES, "family")
    linkages = [family for family in families if family != "kmeans"]
    n_mini = n_mini or default_n_mini(len(rows), n_clusters)
    for number in range(n_seeds):
        seed = seed_of(random_state, "partition", number)
        if "kmeans" in families:
            centroids, labels = spherical_kmeans(rows, n_clusters, random_state=seed)
            yield made("kmeans", centroids, np.arange(len(centroids)), labels)
        if not linkages:
            continue
        mini = mini_clusters(rows, n_mini, random_state=seed)
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


def sampled_rows(
    data: HeadData, most: int = 20_000, k: int = 10
) -> tuple[NDArray[np.float32], KNNGraph]:
    """Return unit rows of all spaces and their neighbour graph; of many rows, a random sample."""
    n = data.n_rows
    if n <= most:
        rows = np.ascontiguousarray(data.joint[slice(0, n)], dtype=np.float32)
        return rows, data.graph(k)
    picked = np.random.default_rng(data.seed("sample")).choice(n, most, replace=False)
    rows = np.ascontiguousarray(data.joint[np.sort(picked)], dtype=np.float32)
    return rows, KNNGraph.build(rows, k=k)


def start_partition(data: HeadData) -> NDArray[np.int64]:
    """Return labels (n,) of the best-scored candidate partition of the rows."""
    rows, graph = sampled_rows(data)
    found = best_partition(rows, data.n_clusters, graph, random_state=data.seed("start"))
    if len(rows) == data.n_rows:
        return found.labels
    blocks = [
        found.predict(data.joint[slice(start, start + BLOCK_ROWS)])
        for start in range(0, data.n_rows, BLOCK_ROWS)
    ]
    return np.concatenate(blocks)
