r"""How good a partition looks without labels: modularity, assortativity, simplified silhouette.

With :math:`A_{ab}` the share of edges between clusters a and b and :math:`m_a = \sum_b A_{ab}`,

.. math::

    \mathrm{score} = \sum_a (A_{aa} - m_a^2)
        + \frac1n \sum_i \frac{s_{i,own} - s_{i,other}}{1 - \min(s_{i,own}, s_{i,other})},

modularity (Newman and Girvan, 2004) plus the simplified silhouette of cosines s to centroids
(Hruschka et al., 2004), each row left out of its own centroid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmcluster.partition.mini_clusters import group_sums
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import BLOCK_ROWS, unit_rows

if TYPE_CHECKING:
    from fmcluster.partition.refine import RefinementContext


@dataclass(frozen=True)
class NodeEdges:
    """Neighbor edges between nodes that stand for several rows each.

    Attributes
    ----------
    first, second : (e,) int64
        Nodes; a pair comes once in each direction that has edges, a node may meet itself.
    counts : (e,) float64
        Edges between their rows.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    counts: NDArray[np.float64]


def edges_between(edges: KNNGraph | NodeEdges, rows: NDArray[np.int64]) -> NodeEdges:
    """Return the edges between some of the rows (or nodes), by their places among these."""
    if isinstance(edges, NodeEdges):
        first, second, counts = edges.first, edges.second, edges.counts
        n = int(max(first.max(initial=-1), second.max(initial=-1), rows.max(initial=-1))) + 1
    else:
        n = edges.n_rows
        first = np.repeat(np.arange(n), edges.k)
        second, counts = edges.indices.ravel().astype(np.int64), np.ones(n * edges.k)
    place = np.full(n, -1)
    place[rows] = np.arange(len(rows))
    kept = (place[first] >= 0) & (place[second] >= 0)
    return NodeEdges(place[first[kept]], place[second[kept]], counts[kept])


@dataclass(frozen=True)
class Candidate:
    """A partition and how good it looks.

    Attributes
    ----------
    name : str
        Its start and what refined it, ``average5+lda``.
    labels : (n,) int64
    modularity, assortativity, silhouette : float
    balanced : bool
        Whether balanced clusters were imposed.
    """

    name: str
    labels: NDArray[np.int64]
    modularity: float
    assortativity: float
    silhouette: float
    balanced: bool = False

    @property
    def score(self) -> float:
        """What partitions are weighed by; assortativity sees modularity's edges: it counts half."""
        return self.modularity + self.assortativity / 2 + self.silhouette


def score_candidate(
    context: RefinementContext,
    labels: NDArray[np.int64],
    n_clusters: int,
    name: str,
    *,
    balanced: bool = False,
) -> Candidate:
    """Score a partition of the rows of `context`."""
    mass = edge_mass(labels, n_clusters, context.edges)
    sums = group_sums(context.rows, labels, n_clusters, weights=context.weights)
    return Candidate(
        name,
        labels,
        modularity_of(mass),
        assortativity_of(mass),
        silhouette(context.rows, labels, sums, weights=context.weights),
        balanced,
    )


def even_rows(n_rows: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` evenly spaced rows, over which a score of all is averaged."""
    return np.arange(0, n_rows, -(-n_rows // most))


def edge_mass(
    labels: NDArray[np.int64], n_groups: int, edges: KNNGraph | NodeEdges
) -> NDArray[np.float64]:
    """Return the symmetric number of neighbor edges between groups, (n_groups, n_groups)."""
    if isinstance(edges, KNNGraph):
        pairs = (labels[:, None] * n_groups + labels[edges.indices]).ravel()
        counts = np.bincount(pairs, minlength=n_groups * n_groups)
    else:
        pairs = labels[edges.first] * n_groups + labels[edges.second]
        counts = np.bincount(pairs, edges.counts, minlength=n_groups * n_groups)
    mass = counts.reshape(n_groups, n_groups).astype(np.float64)
    return (mass + mass.T) / 2


def modularity(labels: NDArray[np.int64], graph: KNNGraph, n_clusters: int) -> float:
    """Return Newman's modularity of a partition on the (symmetrized) neighbor graph."""
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
    rows: NDArray[np.float32],
    labels: NDArray[np.int64],
    sums: NDArray[np.floating],
    *,
    weights: NDArray[np.float64] | None = None,
) -> float:
    """Return the mean simplified silhouette of unit rows against cluster sums (k, d).

    A row is left out of its own cluster's centroid, or small clusters would look tight merely by
    holding the row; a row alone in its cluster scores zero. Zero for a single cluster. A row may
    stand for several, as `weights` (n,) tells.
    """
    if len(sums) < 2:
        return 0.0
    sums = sums.astype(np.float64)
    square = (sums**2).sum(axis=1)
    centroids = unit_rows(sums)
    mass = np.ones(len(rows)) if weights is None else weights
    total = 0.0
    for start in range(0, len(rows), BLOCK_ROWS):
        block, own_of = rows[start : start + BLOCK_ROWS], labels[start : start + BLOCK_ROWS]
        w = mass[start : start + BLOCK_ROWS]
        cosines = block @ centroids.T
        at = np.arange(len(block)), own_of
        dot = np.einsum("ij,ij->i", block, sums[own_of])
        rest = np.sqrt(np.maximum(square[own_of] - 2 * w * dot + w * w, 0))
        # What is left of a cluster without a row may be nothing but rounding.
        own = np.divide(dot - w, rest, out=np.zeros(len(block)), where=rest > 1e-3)
        cosines[at] = -np.inf
        other = cosines.max(axis=1)
        value = (own - other) / np.maximum(1 - np.minimum(own, other), 1e-9)
        total += float((w * value)[rest > 1e-3].sum())
    return total / float(mass.sum())


def score_partition(rows: NDArray[np.float32], labels: NDArray[np.int64], graph: KNNGraph) -> float:
    """Return modularity + simplified silhouette of a partition of unit rows."""
    k = int(labels.max()) + 1
    return modularity(labels, graph, k) + silhouette(rows, labels, group_sums(rows, labels, k))
