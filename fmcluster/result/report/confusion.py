r"""Which clusters are taken for one another, by the probabilities, and which of them may be one.

Of rows i with probabilities :math:`p_i` over the clusters, two people who both label by these
differ between clusters a and b on

.. math:: m_{ab} = 2 \sum_i p_{ia} p_{ib}

rows. Only rows that could be in either count, those where both have a share of at least a tenth:
a head leaves a little of every row on a cluster near the mean of all, and many such rows would make
it everybody's neighbor. Pairs are compared by how much of the smaller cluster that is.

Doubt about the rows at a border does not say that there is none: by the classes, most of the pairs
with many such rows were two (benchmarks/results/report.md). What may be one is told by the
neighbors of all rows, with :math:`e_{ab}` those of the rows of a that lie in b or the reverse,

.. math:: s_{ab} = \max\left(\frac{e_{ab}}{\sum_c e_{ac}}, \frac{e_{ab}}{\sum_c e_{bc}}\right),

as a cut is measured by Shi and Malik, "Normalized cuts and image segmentation" (PAMI 2000).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.utils.blocks import picked, row_blocks
from fmcluster.vectors.rows import BLOCK_ROWS

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# A row could be in a cluster that has this share of it; what is less is not told from nothing.
COULD_BE = 0.1
# So many of the neighbors of one cluster's rows lie in the other: then somebody should look. By
# the classes of eight sets half of such pairs were one, of those with fewer most were two.
MAY_BE_ONE = 0.35
# Neighbors of a row that are asked; those further away are of other clusters anyway.
NEAREST = 15
# Pairs that a page lists, and the clusters beside a card.
MOST_PAIRS, BESIDE = 12, 3
# Fewer rows than that two people would differ on are no confusion worth a word.
LEAST_ROWS = 0.5
# Rows in between that are shown of a pair.
MOST_BETWEEN = 4


@dataclass(frozen=True)
class Confusion:
    """Two clusters that are taken for one another.

    Attributes
    ----------
    a, b : int
        The clusters, the larger one first.
    rows : float
        On how many rows two people would differ between them.
    overlap : float
        That for the size of the smaller one.
    shared : float
        Share of the neighbors of one cluster's rows, whichever has more, that lie in the other;
        without a neighbor graph the overlap stands for it.
    between : (m,) int64
        Rows that lie most in between.
    """

    a: int
    b: int
    rows: float
    overlap: float
    shared: float
    between: NDArray[np.int64] = field(repr=False, compare=False)

    @property
    def may_be_one(self) -> bool:
        """Whether a person should look if they are one."""
        return self.shared >= MAY_BE_ONE


@dataclass(frozen=True)
class Confusions:
    """All pairs of clusters.

    Attributes
    ----------
    rows : (k, k) float64
        On how many rows two people would differ between two clusters; 0 on the diagonal.
    overlap : (k, k) float64
        See `Confusion`.
    pairs : tuple of Confusion
        Those worth a word: that may be one, then those that overlap most.
    """

    rows: NDArray[np.float64]
    overlap: NDArray[np.float64]
    pairs: tuple[Confusion, ...] = ()

    def of(self, cluster: int) -> list[tuple[int, float]]:
        """Return the clusters that one is taken for most, and on how many rows."""
        order = np.argsort(-self.overlap[cluster], kind="stable")[:BESIDE]
        rows = self.rows[cluster]
        return [(int(other), float(rows[other])) for other in order if rows[other] >= LEAST_ROWS]


def find_confusions(result: ClusterResult) -> Confusions:
    """Return which clusters of a result are taken for one another."""
    there = result.labels >= 0
    rows, overlap = overlaps(picked(result.proba, np.flatnonzero(there)))
    near = None if result.graph is None else result.graph.indices[:, :NEAREST]
    shared = overlap if near is None else shared_neighbors(result.labels, near, len(rows))
    a, b = np.triu_indices(len(rows), 1)
    one = shared[a, b] >= MAY_BE_ONE
    order = np.lexsort((-overlap[a, b], np.where(one, -shared[a, b], 0.0)))
    worth = one | (rows[a, b] >= LEAST_ROWS)
    chosen = [at for at in order.tolist() if worth[at]][:MOST_PAIRS]
    sizes = result.sizes
    pairs = []
    for at in chosen:
        one_, other = sorted((int(a[at]), int(b[at])), key=lambda c: (-sizes[c], c))
        between = _between(result, near, one_, other)
        count, doubt, near_by = (float(each[one_, other]) for each in (rows, overlap, shared))
        pairs.append(Confusion(one_, other, count, doubt, near_by, between))
    return Confusions(rows, overlap, tuple(pairs))


def shared_neighbors(
    labels: NDArray[np.int64], neighbors: NDArray[np.integer], n_clusters: int
) -> NDArray[np.float64]:
    """Return the share (k, k) of neighbors that two clusters have in one another, 0 for itself.

    Parameters
    ----------
    labels : (n,) int64
        -1 for rows in none, which count for nothing.
    neighbors : (n, m)
        Row numbers; -1 for none.
    n_clusters : int
    """
    k = n_clusters
    edges = np.zeros(k * k)
    for start in range(0, len(labels), BLOCK_ROWS):
        block = neighbors[start : start + BLOCK_ROWS]
        own = np.repeat(labels[start : start + len(block)], block.shape[1])
        other = np.where(block.ravel() < 0, -1, labels[block.ravel()])
        there = (own >= 0) & (other >= 0)
        edges += np.bincount(own[there] * k + other[there], minlength=k * k)
    both = edges.reshape(k, k) + edges.reshape(k, k).T
    share = both / np.maximum(both.sum(axis=1, keepdims=True), 1)
    share = np.maximum(share, share.T)
    np.fill_diagonal(share, 0)
    return share


def overlaps(proba: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rows in between and overlap (k, k) each, both 0 on the diagonal.

    Parameters
    ----------
    proba : (n, k)
        Probabilities of the rows.
    """
    k = proba.shape[1]
    rows, mass = np.zeros((k, k)), np.zeros(k)
    for part in row_blocks(proba):
        block = proba[part].astype(np.float64)
        mass += block.sum(axis=0)
        block[block < COULD_BE] = 0
        rows += 2 * block.T @ block
    np.fill_diagonal(rows, 0)
    return rows, rows / np.maximum(np.minimum.outer(mass, mass), 1e-12)


def _between(result: ClusterResult, near: NDArray[Any] | None, a: int, b: int) -> NDArray[np.int64]:
    """Return the rows that could most be in either, or else that lie nearest to the other."""
    either = result.proba[:, a].astype(np.float64) * result.proba[:, b]
    if near is not None and either.max(initial=0) == 0:
        inside = np.flatnonzero((result.labels == a) | (result.labels == b))
        other = np.where(result.labels[inside] == a, b, a)[:, None]
        found = (near[inside] >= 0) & (result.labels[near[inside]] == other)
        either[inside] = found.mean(axis=1)
    rows = np.argsort(-either, kind="stable")[:MOST_BETWEEN]
    return rows[either[rows] > 0]
