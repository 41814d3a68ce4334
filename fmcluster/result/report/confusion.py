r"""Which clusters are taken for one another: what a person would merge, told by the probabilities.

Of rows i with probabilities :math:`p_i` over the clusters, two people who both label by these
differ between clusters a and b on

.. math:: m_{ab} = 2 \sum_i p_{ia} p_{ib}

rows. Only rows that could be in either count, those where both have a share of at least a tenth:
a head leaves a little of every row on a cluster near the mean of all, and many such rows would make
it everybody's neighbor. Pairs are compared by how much of the smaller cluster that is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmcluster.vectors.rows import BLOCK_ROWS

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# A row could be in a cluster that has this share of it; what is less is not told from nothing.
COULD_BE = 0.1
# On a fifth of the smaller one's rows two people would differ: then somebody should look.
MAY_BE_ONE = 0.2
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
    between : (m,) int64
        Rows that lie most in between.
    """

    a: int
    b: int
    rows: float
    overlap: float
    between: NDArray[np.int64] = field(repr=False, compare=False)

    @property
    def may_be_one(self) -> bool:
        """Whether a person should look if they are one."""
        return self.overlap >= MAY_BE_ONE


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
        Those worth a word, most overlapping first.
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
    rows, overlap = overlaps(result.proba if there.all() else result.proba[there])
    a, b = np.triu_indices(len(rows), 1)
    order = np.argsort(-overlap[a, b], kind="stable")
    chosen = [at for at in order.tolist() if rows[a[at], b[at]] >= LEAST_ROWS][:MOST_PAIRS]
    sizes = result.sizes
    pairs = []
    for at in chosen:
        one, other = sorted((int(a[at]), int(b[at])), key=lambda c: (-sizes[c], c))
        between = _between(result.proba, one, other)
        pairs.append(
            Confusion(one, other, float(rows[one, other]), float(overlap[one, other]), between)
        )
    return Confusions(rows, overlap, tuple(pairs))


def overlaps(proba: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rows in between and overlap (k, k) each, both 0 on the diagonal.

    Parameters
    ----------
    proba : (n, k)
        Probabilities of the rows.
    """
    k = proba.shape[1]
    rows, mass = np.zeros((k, k)), np.zeros(k)
    for start in range(0, len(proba), BLOCK_ROWS):
        block = proba[start : start + BLOCK_ROWS].astype(np.float64)
        mass += block.sum(axis=0)
        block[block < COULD_BE] = 0
        rows += 2 * block.T @ block
    np.fill_diagonal(rows, 0)
    return rows, rows / np.maximum(np.minimum.outer(mass, mass), 1e-12)


def _between(proba: NDArray[np.float32], a: int, b: int) -> NDArray[np.int64]:
    """Return the rows that could most be in either."""
    either = proba[:, a].astype(np.float64) * proba[:, b]
    rows = np.argsort(-either, kind="stable")[:MOST_BETWEEN]
    return rows[either[rows] > 0]
