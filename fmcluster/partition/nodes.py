r"""Nodes: a neighbor graph made coarser, so that what partitions all rows sees a few thousand.

Rounds of heavy-edge matching (Karypis and Kumar, "A fast and high quality multilevel scheme for
partitioning irregular graphs", 1998): two nodes that are each other's best neighbor are joined,
best by the mean affinity :math:`W_{ab} / (n_a n_b)` of their rows, with
:math:`W_{ij} = e^{(s_ij - 1) / 0.1}` on the edges; of all that are, the nearer half. So dense
places lose nodes first, and small groups keep nodes of their own, as a random sample of the rows
would not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.partition.mini_clusters import grouped
from fmcluster.partition.refine import RefinementContext, affinities
from fmcluster.partition.scores import NodeEdges
from fmcluster.vectors.graph import KNNGraph

__all__ = ["affinities", "coarsen", "contracted", "node_context", "node_edges"]

Ints = NDArray[np.int64]

# Nodes whose best neighbor is taken by another try the next: four passes match all but a few.
PASSES = 4
# A round that joins fewer of the nodes than this would be one of hundreds.
FEW = 0.05
# Odd factors of a hash of 64 bits (those of MurmurHash3's last step).
MIX = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))


def coarsen(matrix: Any, n_nodes: int, *, sizes: NDArray[np.float64] | None = None) -> Ints:
    """Return the node 0..m-1 of each row, m at most `n_nodes` where edges allow it.

    Parameters
    ----------
    matrix : csr (n, n)
        Symmetric sums of affinities between rows, or nodes of them (`affinities`).
    n_nodes : int
        How many nodes to make; rows are nodes of their own where there are no more.
    sizes : (n,) float64, optional
        How many rows each stands for; one where None.
    """
    n = matrix.shape[0]
    node = np.arange(n)
    sizes = np.ones(n) if sizes is None else sizes
    while len(sizes) > n_nodes:
        pairs = _matched(matrix, sizes)
        if len(pairs[0]) < FEW * len(sizes):
            pairs = max(pairs, _mated(matrix, sizes), key=lambda found: len(found[0]))
        first, second, strength = pairs
        if len(first) == 0:
            break
        most = min(len(sizes) - n_nodes, -(-len(first) // 2))
        nearer = np.argsort(-strength, kind="stable")[:most]
        joined = np.arange(len(sizes))
        joined[second[nearer]] = first[nearer]
        new = np.unique(joined, return_inverse=True)[1].astype(np.int64).ravel()
        node, sizes = new[node], np.bincount(new, sizes).astype(np.float64)
        matrix = contracted(matrix, new)
    return node


def _edges(matrix: Any, sizes: NDArray[np.float64]) -> tuple[Ints, Ints, NDArray[np.float32]]:
    """Return both ends and the mean affinity of the edges between nodes, by first end."""
    owner = np.repeat(np.arange(len(sizes), dtype=matrix.indices.dtype), np.diff(matrix.indptr))
    apart = owner != matrix.indices  # a node's own edges join it with nobody
    owner, other = owner[apart], matrix.indices[apart]
    small = sizes.astype(np.float32)
    weight = matrix.data[apart]
    weight /= small[owner] * small[other]  # one product: alike from both ends, or none is mutual
    return owner, other, weight


def _heaviest(owner: Ints, other: Ints, weight: NDArray[np.float32]) -> Ints:
    """Return the heaviest edge of each node that has one; edges are sorted by `owner`.

    Of equally heavy ones that with the highest hash of both ends: were it the lowest neighbor, a
    thousand equal rows would point down one chain, and one pair a round be mutual.
    """
    at = _highest(owner, weight)
    tied = np.flatnonzero(np.diff(owner[at], prepend=-1) == 0)
    if len(tied):
        low, high = np.minimum(owner[at], other[at]), np.maximum(owner[at], other[at])
        key = low.astype(np.uint64) * MIX[0] + high.astype(np.uint64)
        for factor in MIX:
            key = (key ^ (key >> np.uint64(31))) * factor
        at = at[_highest(owner[at], key)]
        at = at[np.diff(owner[at], prepend=-1) != 0]
    return at


def _highest(owner: Ints, value: NDArray[Any]) -> Ints:
    """Return where the value is the highest of its owner's."""
    begins = np.flatnonzero(np.diff(owner, prepend=-1))
    highest = np.maximum.reduceat(value, begins)
    return np.flatnonzero(value == np.repeat(highest, np.diff(begins, append=len(owner))))


def _matched(matrix: Any, sizes: NDArray[np.float64]) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """Return pairs of nodes that are each other's best, lower and higher, and their affinity."""
    m = len(sizes)
    owner, other, weight = _edges(matrix, sizes)
    partner, strength = np.arange(m), np.zeros(m)
    for turn in range(PASSES):
        if turn:
            open_ = (partner[owner] == owner) & (partner[other] == other)
            owner, other, weight = owner[open_], other[open_], weight[open_]
        if len(owner) == 0:
            break
        at = _heaviest(owner, other, weight)
        best = np.full(m, -1)
        best[owner[at]] = other[at]
        at = at[best[other[at]] == owner[at]]
        partner[owner[at]] = other[at]
        strength[owner[at]] = weight[at]
    first = np.flatnonzero(partner > np.arange(m))
    return first, partner[first], strength[first]


def _mated(matrix: Any, sizes: NDArray[np.float64]) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """Return what half of the nodes would join, of the other half, and who they are.

    A hub that is the best of many is the partner of one: rounds of pairs would take a round each.
    """
    owner, other, weight = _edges(matrix, sizes)
    if len(owner) == 0:
        return owner, other, weight.astype(np.float64)
    hosts = np.random.default_rng(len(sizes)).random(len(sizes)) < 0.5
    at = _heaviest(owner, other, weight)
    at = at[hosts[other[at]] & ~hosts[owner[at]]]
    return other[at], owner[at], weight[at].astype(np.float64)


def contracted(matrix: Any, node: Ints) -> Any:
    """Return the sums of a sparse (n, n) matrix between nodes, csr (m, m)."""
    from scipy.sparse import csr_matrix

    n, m = len(node), int(node.max()) + 1
    member = csr_matrix((np.ones(n, matrix.dtype), (node, np.arange(n))), shape=(m, n))
    summed = (member @ matrix @ member.T).tocsr()
    summed.sort_indices()
    return summed


def node_context(context: RefinementContext, node: Ints) -> RefinementContext:
    """Return the context of the nodes that `coarsen` made of the rows of `context`.

    Their unit means weigh as many rows as they stand for; what joins two nodes is the sum of what
    joins their rows.
    """
    from scipy.sparse import diags

    n = len(node)
    if node[-1] == n - 1:  # each is one of its own
        return context
    mass = np.ones(n) if context.weights is None else context.weights
    groups = grouped(context.rows, node, weights=context.weights)
    sizes = groups.sizes
    nodes = RefinementContext(groups.centroids, context.graph, context.seed, weights=sizes)
    moved = contracted(diags(mass) @ context.smoothing, node)
    nodes.smoothing = (diags(1 / sizes) @ moved).tocsr().astype(np.float32)
    nodes.affinity = contracted(context.affinity, node)
    nodes.edges = node_edges(context.near, node, weights=context.weights)
    return nodes


def node_edges(
    graph: KNNGraph, node: Ints, *, weights: NDArray[np.float64] | None = None
) -> NodeEdges:
    """Return how many edges of a graph of rows join nodes, as heavy as the rows they begin at."""
    from scipy.sparse import csr_matrix

    n, k = graph.n_rows, graph.k
    mass = np.ones(n) if weights is None else weights
    pointers = np.arange(0, n * k + 1, k)
    ones = csr_matrix((np.repeat(mass, k), graph.indices.ravel(), pointers), shape=(n, n))
    counts = contracted(ones, node).tocoo()
    return NodeEdges(counts.row.astype(np.int64), counts.col.astype(np.int64), counts.data)
