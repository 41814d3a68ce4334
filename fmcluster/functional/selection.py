r"""Which rows to label: greedy cover of the data, as functions of arrays.

Facility location, the objective of MaxHerding (Bae et al., "Generalized coverage for more robust
low-budget active learning", ECCV 2024):

.. math:: \max_{|S| = b} \sum_t u_t \max_{s \in S} \kappa_t(s), \qquad
          \kappa_t(s) = \max\{0,\; 1 - d^2(s, t) / r_t^2\},

with our choice of kernel: the radius :math:`r_t` of target t is its distance to the row in rank
n / b, so that b picks can just cover everything, or in rank 40 where labels are many. The kernel is
then sparse, has no bandwidth to tune, adapts to the budget *and* to the density around each target,
and a hub that is vaguely near everything covers nothing. The objective is submodular: lazy greedy
is exact greedy (Minoux 1978), within 1 - 1/e of the best set (Nemhauser et al. 1978).
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from fmcluster.functional.softmax import BLOCK_ROWS

Ints = NDArray[np.int64]
Floats = NDArray[Any]


def support_kernel(indices: NDArray[Any], similarities: Floats) -> csr_matrix:
    """Return the kernel (candidates, targets) of a cosine neighbor graph; a row covers itself.

    Parameters
    ----------
    indices, similarities : (n, m)
        Each target's m nearest other rows and their cosines, nearest first; the last one sets the
        target's radius.
    """
    n, m = indices.shape
    squared = np.maximum(2 - 2 * similarities.astype(np.float64), 0)
    radius = np.maximum(squared[:, -1:], 1e-12)
    # Exact duplicates of a target cover it fully even where its radius is zero.
    value = np.where(squared <= 1e-12, 1.0, 1 - squared / radius).clip(0, 1).astype(np.float32)
    targets = np.repeat(np.arange(n), m)
    rows = np.concatenate([indices.ravel().astype(np.int64), np.arange(n)])
    columns = np.concatenate([targets, np.arange(n)])
    values = np.concatenate([value.ravel(), np.ones(n, np.float32)])
    kernel = csr_matrix((values, (rows, columns)), shape=(n, n))
    kernel.eliminate_zeros()
    return kernel


def ball_kernel(indices: NDArray[Any], similarities: Floats, radius: float) -> csr_matrix:
    """Return the 0/1 kernel of ProbCover: who lies within distance `radius` of whom."""
    n, m = indices.shape
    near = (2 - 2 * similarities.astype(np.float64)).ravel() <= radius**2
    rows = np.concatenate([indices.ravel()[near].astype(np.int64), np.arange(n)])
    columns = np.concatenate([np.repeat(np.arange(n), m)[near], np.arange(n)])
    return csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(n, n))


def greedy_cover(
    kernel: csr_matrix,
    budget: int,
    *,
    taken: Ints | None = None,
    importance: Floats | None = None,
) -> Ints:
    """Return `budget` candidates in the order greedy facility location picks them.

    Parameters
    ----------
    kernel : (n, n) CSR, row s holding how well candidate s covers each target
        In [0, 1].
    budget : int
        Number of picks; at most the rows not `taken`.
    taken : (l,) int, optional
        Rows that cover already and are not picked again.
    importance : (n,) float, optional
        Non-negative weight of each target; ones otherwise.
    """
    n = kernel.shape[0]
    weight = np.ones(n) if importance is None else np.asarray(importance, dtype=np.float64)
    covered = np.zeros(n)
    pointers, columns, values = kernel.indptr, kernel.indices, kernel.data

    def gain(row: int) -> float:
        where = slice(pointers[row], pointers[row + 1])
        target = columns[where]
        return float((weight[target] * np.maximum(values[where] - covered[target], 0)).sum())

    def cover(row: int) -> None:
        where = slice(pointers[row], pointers[row + 1])
        target = columns[where]
        covered[target] = np.maximum(covered[target], values[where])

    blocked = np.zeros(n, bool)
    for row in np.asarray([] if taken is None else taken, dtype=np.int64):
        cover(int(row))
        blocked[row] = True
    # The gain before any cover is an upper bound for ever, so that one product starts the heap.
    bound = np.asarray(kernel @ weight).ravel()
    heap = [(-float(bound[row]), int(row)) for row in np.flatnonzero(~blocked)]
    heapq.heapify(heap)
    picks: list[int] = []
    while len(picks) < budget and heap:
        _, row = heapq.heappop(heap)
        fresh = gain(row)
        # Ties go to the smaller row number, so that the order is one order.
        if heap and (-fresh, row) > heap[0]:
            heapq.heappush(heap, (-fresh, row))
            continue
        picks.append(row)
        cover(row)
    return np.array(picks, dtype=np.int64)


def k_center(x: Any, budget: int, *, taken: Ints, block: int = BLOCK_ROWS) -> Ints:
    """Return rows picked by farthest-first traversal (Gonzalez 1985; the core-set of Sener 2018).

    Parameters
    ----------
    x : (n, d) rows
        Read in blocks.
    taken : (l,) int
        Rows that count as centers already; without any, the row nearest the mean is the first.
    """
    n = x.shape[0]
    nearest = np.full(n, np.inf)

    def visit(center: Floats) -> None:
        for start in range(0, n, block):
            part = np.asarray(x[start : start + block], dtype=np.float32)
            gap = ((part - center) ** 2).sum(axis=1)
            nearest[start : start + block] = np.minimum(nearest[start : start + block], gap)

    picks: list[int] = []
    for row in taken:
        visit(np.asarray(x[int(row)], dtype=np.float32).reshape(-1))
    nearest[taken] = -1
    if len(taken) == 0:
        mean = sum(np.asarray(x[i : i + block], np.float32).sum(axis=0) for i in range(0, n, block))
        visit(np.asarray(mean) / n)
        picks.append(int(nearest.argmin()))
        nearest[:] = np.inf
        visit(np.asarray(x[picks[0]], dtype=np.float32).reshape(-1))
        nearest[picks[0]] = -1
    while len(picks) < budget:
        row = int(nearest.argmax())
        picks.append(row)
        visit(np.asarray(x[row], dtype=np.float32).reshape(-1))
        nearest[[row, *picks]] = -1
    return np.array(picks[:budget], dtype=np.int64)


def best_per_cluster(
    clusters: Ints, score: Floats, budget: int, *, taken: Ints | None = None
) -> Ints:
    """Return the highest-scoring free row of each cluster, round after round.

    Clusters with fewest `taken` rows come first, larger ones before smaller ones (TypiClust's
    order, Hacohen et al., ICML 2022).
    """
    n_clusters = int(clusters.max()) + 1
    free = np.ones(len(clusters), bool)
    held = np.zeros(n_clusters, np.int64)
    if taken is not None and len(taken):
        free[taken] = False
        held = np.bincount(clusters[taken], minlength=n_clusters)
    size = np.bincount(clusters, minlength=n_clusters)
    rows = np.flatnonzero(free)
    rows = rows[np.lexsort((rows, -score[rows], clusters[rows]))]
    first = np.searchsorted(clusters[rows], clusters[rows])
    turn = np.arange(len(rows)) - first + held[clusters[rows]]
    order = np.lexsort((rows, -size[clusters[rows]], turn))
    return rows[order[:budget]].astype(np.int64)


def quotas(prior: Floats, budget: int, available: Ints, held: Ints) -> Ints:
    """Split `budget` over clusters: one each, rarest first, then in proportion to sqrt(prior).

    Parameters
    ----------
    prior : (k,)
        Estimated cluster shares.
    available, held : (k,) int
        Rows of each cluster still free, and already labeled.
    """
    target = np.sqrt(np.maximum(np.asarray(prior, dtype=np.float64), 1e-12))
    given = np.zeros(len(target), np.int64)
    for _ in range(int(min(budget, available.sum()))):
        have = given + held
        open_ = available > given
        # Highest quotient (Webster's method); clusters without any label come before all others.
        quotient = np.where(have == 0, 1e6 / target, target / (have + 0.5))
        given[int(np.where(open_, quotient, -1).argmax())] += 1
    return given
