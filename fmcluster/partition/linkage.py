"""Agglomerative clustering of a dense distance matrix whose leaves have sizes.

The nearest-neighbor chain (Murtagh, 1983; Müllner, arXiv:1109.2378) merges reciprocal nearest
neighbors, which is exact for reducible linkages such as average and Ward. Unlike scipy's, leaves
may stand for several rows each: sizes enter the Lance-Williams updates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmcluster.partition.mini_clusters import MiniClusters
from fmcluster.partition.scores import NodeEdges, edge_mass
from fmcluster.utils.validation import check_in
from fmcluster.vectors.graph import KNNGraph

LINKAGES = ("average", "ward", "graph")


def agglomerate(
    distance: NDArray[np.float64], sizes: NDArray[np.float64], ward: bool
) -> NDArray[np.int64]:
    """Agglomerate a dense distance matrix by Lance-Williams updates in O(m^2)."""
    m = len(sizes)
    d, size = distance.copy(), sizes.copy()
    np.fill_diagonal(d, np.inf)
    alive = np.ones(m, bool)
    chain: list[int] = []
    merges = np.empty((m - 1, 2), np.int64)
    heights = np.empty(m - 1)
    for t in range(m - 1):
        if not chain:
            chain.append(int(np.flatnonzero(alive)[0]))
        while True:
            a = chain[-1]
            b = int(d[a].argmin())
            # Ties go back along the chain, or it would never end.
            if len(chain) > 1 and d[a, chain[-2]] <= d[a, b]:
                b = chain[-2]
                break
            chain.append(b)
        chain = chain[:-2]
        merges[t], heights[t] = (a, b), d[a, b]
        na, nb = size[a], size[b]
        if ward:
            total = na + nb + size
            new = ((na + size) * d[a] + (nb + size) * d[b] - size * d[a, b]) / total
        else:
            new = (na * d[a] + nb * d[b]) / (na + nb)
        new[~alive] = np.inf
        new[[a, b]] = np.inf
        d[b], d[:, b] = new, new
        d[a], d[:, a] = np.inf, np.inf
        alive[a] = False
        size[b] = na + nb
    return in_order(merges, heights, m)


def in_order(merges: NDArray[np.int64], heights: NDArray[np.float64], m: int) -> NDArray[np.int64]:
    """Sort the chain's merges by height and number the clusters as scipy does."""
    order = np.argsort(heights, kind="stable")
    parent, number = np.arange(m), np.arange(m)
    out = np.empty_like(merges)
    for t, merge in enumerate(merges[order]):
        roots = []
        for leaf in merge:
            while parent[leaf] != leaf:
                parent[leaf] = parent[parent[leaf]]
                leaf = parent[leaf]
            roots.append(leaf)
        out[t] = sorted((number[roots[0]], number[roots[1]]))
        parent[roots[0]] = roots[1]
        number[roots[1]] = m + t
    return out


def cut_tree(tree: NDArray[np.int64], n_clusters: int) -> NDArray[np.int64]:
    """Return the cluster 0..k-1 of each leaf when `n_clusters` are left."""
    m = len(tree) + 1
    return merged(tree[: max(m - max(n_clusters, 1), 0)], m)


def merged(merges: NDArray[np.int64], n_leaves: int) -> NDArray[np.int64]:
    """Return the group 0..g-1 of each leaf after the first merges of a tree, (t, 2)."""
    m = n_leaves
    owner = np.arange(m + len(merges))
    owner[merges] = m + np.arange(len(merges))[:, None]
    while not np.array_equal(up := owner[owner], owner):
        owner = up
    return np.unique(owner[:m], return_inverse=True)[1].astype(np.int64).ravel()


def condensed_cut(
    tree: NDArray[np.int64], sizes: NDArray[np.float64], n_clusters: int, *, least: float
) -> NDArray[np.int64]:
    """Return the cluster 0..k-1 of each leaf, none of fewer than `least` rows.

    From the root down a branch of fewer rows is not split off but stays with its sibling
    (Campello, Moulavi and Sander 2013), so that a handful of odd rows takes no cluster from a
    small topic. Where the tree has no k such branches, `cut_tree` answers.
    """
    m = len(tree) + 1
    rows = np.concatenate([sizes, np.zeros(m - 1)])
    for t, pair in enumerate(tree):
        rows[m + t] = rows[pair].sum()
    cluster, found = np.zeros(2 * m - 1, np.int64), 1
    for t in range(m - 2, -1, -1):
        cluster[tree[t]] = cluster[m + t]
        if found < n_clusters and rows[tree[t]].min() >= least:
            cluster[tree[t][1]] = found
            found += 1
    return cluster[:m] if found == n_clusters else cut_tree(tree, n_clusters)


def merge_tree(
    mini: MiniClusters,
    linkage: str,
    graph: KNNGraph | NodeEdges | None = None,
    *,
    apart: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Merge mini-clusters bottom-up: (m - 1, 2) pairs of cluster numbers in order of merging.

    Numbers are as in scipy's linkage: 0..m-1 are mini-clusters, m + t is made by merge t. The
    sizes of the mini-clusters count, so ``average`` equals average linkage over all rows of them.
    Of several groups, `apart` (m,), each is merged whole before any two are joined.
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
            raise ValueError("linkage='graph' needs the neighbor graph: pass graph=...")
        density = edge_mass(mini.labels, len(sizes), graph) / pairs
        # Cosines order what no edge joins.
        distance = -density + 1e-9 * distance
    if apart is not None:
        # Ward's updates grow with sizes: far enough apart that no join of groups comes first.
        gap = len(sizes) * sizes.sum() * (np.ptp(distance) + 1e-9)
        distance = distance + gap * (apart[:, None] != apart)
    return agglomerate(distance, sizes, linkage == "ward")
