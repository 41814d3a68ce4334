r"""Nodes: a neighbor graph made coarser, so that what partitions all rows sees a few thousand.

Rounds of heavy-edge matching (Karypis and Kumar, "A fast and high quality multilevel scheme for
partitioning irregular graphs", 1998): two nodes that are each other's best neighbor are joined,
best by the mean affinity :math:`W_{ab} / (n_a n_b)` of their rows, with
:math:`W_{ij} = e^{(s_ij - 1) / 0.1}` on the edges; of all that are, the nearer half. So dense
places lose nodes first, and small groups keep nodes of their own, as a random sample of the rows
would not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.partition.mini_clusters import grouped
from fmcluster.partition.scores import NodeEdges

if TYPE_CHECKING:
    from fmcluster.partition.refine import RefinementContext
    from fmcluster.vectors.graph import KNNGraph

Ints = NDArray[np.int64]

# Cosines this far apart differ e-fold, as in the smoothing matrix of refinements.
WIDTH = 0.1
# Nodes whose best neighbor is taken by another try the next: four passes match all but a few.
PASSES = 4


def affinities(graph: KNNGraph) -> Any:
    """Return the symmetric affinities of rows that an edge joins, csr (n, n)."""
    matrix = graph.to_csr(symmetric=True)
    matrix.data -= 1
    matrix.data /= WIDTH
    np.exp(matrix.data, out=matrix.data)
    return matrix


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
        partner, strength = _matched(matrix, sizes)
        first = np.flatnonzero(partner > np.arange(len(sizes)))
        if len(first) == 0:
            break
        most = min(len(sizes) - n_nodes, -(-len(first) // 2))
        first = first[np.argsort(-strength[first], kind="stable")[:most]]
        joined = np.arange(len(sizes))
        joined[partner[first]] = first
        new = np.unique(joined, return_inverse=True)[1].astype(np.int64).ravel()
        node, sizes = new[node], np.bincount(new, sizes).astype(np.float64)
        matrix = contracted(matrix, new)
    return node


def _matched(matrix: Any, sizes: NDArray[np.float64]) -> tuple[Ints, NDArray[np.float64]]:
    """Return the partner of each node, itself where it has none, and the affinity to it."""
    m = len(sizes)
    owner = np.repeat(np.arange(m, dtype=matrix.indices.dtype), np.diff(matrix.indptr))
    apart = owner != matrix.indices  # a node's own edges join it with nobody
    owner, other = owner[apart], matrix.indices[apart]
    small = sizes.astype(np.float32)
    weight = matrix.data[apart]
    weight /= small[owner] * small[other]  # one product: alike from both ends, or none is mutual
    partner, strength = np.arange(m), np.zeros(m)
    for turn in range(PASSES):
        if turn:
            open_ = (partner[owner] == owner) & (partner[other] == other)
            owner, other, weight = owner[open_], other[open_], weight[open_]
        if len(owner) == 0:
            break
        # Edges are sorted by owner, then by partner: the first of the heaviest is the lowest.
        begins = np.flatnonzero(np.diff(owner, prepend=-1))
        heaviest = np.repeat(
            np.maximum.reduceat(weight, begins), np.diff(begins, append=len(owner))
        )
        at = np.flatnonzero(weight == heaviest)
        at = at[np.diff(owner[at], prepend=-1) != 0]
        best = np.full(m, -1)
        best[owner[at]] = other[at]
        nodes = owner[at]
        mutual = best[other[at]] == nodes
        partner[nodes[mutual]] = other[at][mutual]
        strength[nodes[mutual]] = weight[at][mutual]
    return partner, strength


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
    from scipy.sparse import csr_matrix, diags

    from fmcluster.partition.refine import RefinementContext

    n = len(node)
    if node[-1] == n - 1:  # each is one of its own
        return context
    mass = np.ones(n) if context.weights is None else context.weights
    groups = grouped(context.rows, node, weights=context.weights)
    sizes = groups.sizes
    nodes = RefinementContext(groups.centroids, context.graph, context.seed, weights=sizes)
    moved = contracted(diags(mass) @ context.smoothing, node)
    nodes.smoothing = (diags(1 / sizes) @ moved).tocsr().astype(np.float32)
    near = context.near.indices
    pointers = np.arange(0, near.size + 1, near.shape[1])
    ones = csr_matrix((np.repeat(mass, near.shape[1]), near.ravel(), pointers), shape=(n, n))
    counts = contracted(ones, node).tocoo()
    nodes.affinity = contracted(context.affinity, node)
    nodes.edges = NodeEdges(counts.row.astype(np.int64), counts.col.astype(np.int64), counts.data)
    return nodes
