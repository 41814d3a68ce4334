r"""The merge tree through a given partition: below it parts of its clusters, above it unions.

Every cluster is cut into leaves, which Ward's linkage merges until each cluster is whole; then it
merges the clusters. (Average linkage scores higher and is right less often, .67 to .73 on parts of
five sets, for it splits off odd rows first; long tails are the exception.) Cutting the tree at k
gives nested partitions: one of more clusters splits those of one of fewer and crosses none. Each is
scored as partitions are everywhere,

.. math:: U(k) = \mathrm{modularity} + \mathrm{simplified\ silhouette},

(`fmcluster.partition.scores`). The numbers worth looking at are the knees of U over log k: where
it lies highest above its chord,

.. math:: P(k) = U(k) - \tfrac12 \big(U(k / r) + U(k r)\big).

A maximum is a knee, and so is the number after which ever more clusters gain less: the four
sections of a newspaper whose seventy topics score higher.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmcluster.partition.linkage import cut_tree, merge_tree, merged
from fmcluster.partition.mini_clusters import MiniClusters, group_sums, smooth_rows
from fmcluster.partition.scores import edge_mass, even_rows, modularity_of, silhouette
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import unit_rows

# Rows that the silhouette is averaged over: its error falls with their root, its cost with them.
SCORED_ROWS = 5_000
# Times that rows are averaged with their neighbors before Ward's merges: at twice, cuts at the true
# number are right most often (on five sets .73, of rows once averaged .72).
SMOOTHINGS = 2
# Numbers on the curve: every whole one up to 18, then 8 % apart up to 200.
POINTS = 60
# r: numbers closer than that are one answer, and knees of less than that are chance.
REACH = 1.5
# Least height of a knee; on rows of one Gaussian there is none.
LEAST_KNEE = 0.02


@dataclass(frozen=True)
class Hierarchy:
    """Nested partitions of rows.

    Attributes
    ----------
    leaves : (n,) int64
        Leaf 0..m-1 of each row.
    cluster_of_leaf : (m,) int64
        Cluster 0..k-1 of each leaf in the partition that the tree goes through.
    inner : (m - k, 2) int64
        Merges of leaves into clusters; leaves are 0..m-1 and m + t is made by merge t.
    upper : (k - 1, 2) int64
        Merges of clusters; clusters are 0..k-1 and k + t is made by merge t.
    score : callable
        Scores the groups (m,) of leaves.
    """

    leaves: NDArray[np.int64]
    cluster_of_leaf: NDArray[np.int64]
    inner: NDArray[np.int64]
    upper: NDArray[np.int64]
    score: Callable[[NDArray[np.int64]], float]

    @property
    def n_clusters(self) -> int:
        """Clusters of the partition that the tree goes through."""
        return len(self.upper) + 1

    @property
    def n_leaves(self) -> int:
        """Leaves, the finest level."""
        return len(self.cluster_of_leaf)

    def cut(self, n_clusters: int) -> NDArray[np.int64]:
        """Return the group 0..n_clusters-1 of each leaf."""
        if n_clusters <= self.n_clusters:
            return cut_tree(self.upper, n_clusters)[self.cluster_of_leaf]
        return merged(self.inner[: max(self.n_leaves - n_clusters, 0)], self.n_leaves)

    def curve(self, finest: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return numbers of clusters up to `finest`, the partition's own among them, and scores."""
        ks = [*spaced(2, min(finest, self.n_leaves), POINTS), self.n_clusters]
        grid = np.unique(ks)
        return grid, np.array([self.score(self.cut(int(k))) for k in grid])


def build_hierarchy(
    rows: NDArray[np.float32],
    leaves: NDArray[np.int64],
    cluster_of_leaf: NDArray[np.int64],
    graph: KNNGraph,
) -> Hierarchy:
    """Return the tree through a partition.

    Parameters
    ----------
    rows : (n, d) float32
        Unit rows.
    leaves : (n,) int64
        Leaf 0..m-1 of each row.
    cluster_of_leaf : (m,) int64
        Cluster 0..k-1 of each leaf, none without a leaf.
    graph : KNNGraph
        Their neighbors.
    """
    of_leaf = cluster_of_leaf
    k, m, labels = int(of_leaf.max()) + 1, len(of_leaf), of_leaf[leaves]
    smoothed = smooth_rows(rows, graph, SMOOTHINGS)
    inner = upper = np.empty((0, 2), np.int64)
    if m > k:
        inner = merge_tree(_groups(smoothed, leaves, m), "ward", apart=of_leaf)[: m - k]
    if k > 1:
        upper = merge_tree(_groups(smoothed, labels, k), "ward")
    return Hierarchy(leaves, of_leaf, inner, upper, _scorer(rows, leaves, m, graph))


def hierarchy_of_graph(
    labels: NDArray[np.int64], proba: NDArray[np.float32], graph: KNNGraph
) -> Hierarchy:
    """Return the tree above a partition where no rows are at hand, scored by modularity alone.

    Parameters
    ----------
    labels : (n,) int64
        The partition, 0..k-1.
    proba : (n, k) float32
        Probabilities of its clusters: what is confused is joined first where no edge tells.
    graph : KNNGraph
        Neighbors of the rows.
    """
    k = proba.shape[1]
    mass = edge_mass(labels, k, graph)

    def score(groups: NDArray[np.int64]) -> float:
        member = np.zeros((int(groups.max()) + 1, k))
        member[groups, np.arange(k)] = 1
        return modularity_of(member @ mass @ member.T)

    upper = np.empty((0, 2), np.int64)
    if k > 1:
        upper = merge_tree(_groups(proba, labels, k), "graph", graph)
    return Hierarchy(labels, np.arange(k), np.empty((0, 2), np.int64), upper, score)


def knees(ks: NDArray[np.int64], scores: NDArray[np.float64], own: int) -> list[int]:
    """Return the numbers worth looking at, ascending: `own` and every knee that is not near it.

    Parameters
    ----------
    ks, scores : (p,) arrays
        The curve, `own` among its numbers; ascending.
    own : int
        The number that was chosen.
    """
    at, reach = np.log(ks), np.log(REACH)
    height = scores - (np.interp(at - reach, at, scores) + np.interp(at + reach, at, scores)) / 2
    # Beyond the ends there is no chord.
    height[(ks < REACH * ks[0]) | (ks * REACH > ks[-1])] = -np.inf
    found = [own]
    for place in np.argsort(-height, kind="stable"):
        if height[place] < LEAST_KNEE:
            break
        around = np.abs(at - at[place]) <= reach
        if height[place] < height[around].max():
            continue
        if min(abs(np.log(other) - at[place]) for other in found) >= reach:
            found.append(int(ks[place]))
    return sorted(found)


def spaced(low: int, high: int, n: int) -> list[int]:
    """Return at most `n` whole numbers of low..high, spaced geometrically; none if low > high."""
    if low > high:
        return []
    return [int(k) for k in np.unique(np.geomspace(low, high, n).round())]


def _scorer(
    rows: NDArray[np.float32], leaves: NDArray[np.int64], m: int, graph: KNNGraph
) -> Callable[[NDArray[np.int64]], float]:
    """Return what scores groups of leaves; what all of them need is gathered once."""
    shown = even_rows(len(rows), SCORED_ROWS)
    some, leaf = rows[shown], leaves[shown]
    sums, mass = group_sums(rows, leaves, m), edge_mass(leaves, m, graph)

    def score(groups: NDArray[np.int64]) -> float:
        member = np.zeros((int(groups.max()) + 1, m))
        member[groups, np.arange(m)] = 1.0
        compact = silhouette(some, groups[leaf], member @ sums)
        return modularity_of(member @ mass @ member.T) + compact

    return score


def _groups(rows: NDArray[np.float32], labels: NDArray[np.int64], k: int) -> MiniClusters:
    """Return groups of rows as linkages take them; one without rows is far from all."""
    sums = group_sums(rows, labels, k)
    sizes = np.maximum(np.bincount(labels, minlength=k), 1).astype(np.float64)
    return MiniClusters(unit_rows(sums), labels, sums, sizes)
