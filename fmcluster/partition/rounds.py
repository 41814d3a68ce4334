r"""Rounds of spherical k-means over rows in memory: assign, move, normalize.

.. math:: a_i = \arg\max_k \langle x_i, c_k \rangle, \quad
          c_k \leftarrow \frac{\sum_{i: a_i = k} x_i}{\|\sum_{i: a_i = k} x_i\|}

Cosines are matrix products of blocks that stay in the cache, on a thread each with one BLAS thread;
sums are kept in float64 and only rows that changed their cluster are moved between them, in one
order. So a seed gives the same bits for any number of threads. Rounds end where no row moves.

A row's cosine to a centroid changes by at most the length of the centroid's step. So a row whose
own cosine less its centroid's steps since is above its second best plus the longest steps of the
others has not moved, and is not looked at (Hamerly, "Making k-means even faster", SDM 2010, there
for distances). The answer is that of all products. On the GPU that Accelerate gives, `rounds_torch`
makes them all.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from fmcluster.utils import distributed
from fmcluster.utils.random import seed_of
from fmcluster.utils.stopping import carried, check_stopped
from fmcluster.utils.threads import n_threads
from fmcluster.vectors.faiss_index import one_blas_thread
from fmcluster.vectors.rows import BLOCK_ROWS, unit_rows

# Rows of a product: 2,048 were the fastest of 256 to 8,192, and as many fewer as there are more
# centroids, down to where the product starves.
PRODUCT_ROWS, LEAST_ROWS = 2_048, 256
PRODUCT_VALUES = 2**20
# Centroids of a product: the cosines of all would not fit in memory where there are 100,000.
PRODUCT_COLUMNS = 4_096
# Products of fewer multiplications are done before a second thread, or a GPU, is awake.
THREAD_WORK, GPU_WORK = 2**26, 2**33
# Rows that fail their bounds are tried with their true cosine first where they are fewer: it costs
# a fifth of the products of 100 centroids.
TIGHTEN_SHARE = 0.7
# What float32 may add to a cosine and to the bounds of a hundred rounds.
ROUNDING = np.float32(1e-5)
# Share of a unit that tells a re-seeded centroid from the one it was split off.
SPLIT_NOISE = 1e-2

Ints = NDArray[np.int64]
Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Round:
    """Sums of one pass over all rows.

    Attributes
    ----------
    sums : (k, d) float64
        Of the rows of each cluster.
    counts : (k,) float64
        Its rows.
    objective : float
        Sum of the rows' cosines to their centroids.
    """

    sums: NDArray[np.float64]
    counts: NDArray[np.float64]
    objective: float


def assigned(rows: Rows, centroids: Rows) -> tuple[Ints, Rows]:
    """Return the nearest centroid (n,) of each unit row, and its cosine (n,).

    Parameters
    ----------
    rows : (n, d) float32
        Unit rows.
    centroids : (k, d) float32
        Unit rows.
    """
    with one_blas_thread():
        labels, cosines, _ = _two_best(rows, centroids, slice(None), second=False)
    return labels, cosines


def _two_best(
    rows: Rows, centroids: Rows, some: Ints | slice, *, second: bool = True
) -> tuple[Ints, Rows, Rows]:
    """Return the nearest centroid of some rows, its cosine, and the second best cosine."""
    n, k = len(rows) if isinstance(some, slice) else len(some), len(centroids)
    labels, best, other = np.empty(n, np.int64), np.empty(n, np.float32), np.empty(n, np.float32)
    size = int(np.clip(PRODUCT_VALUES // min(k, PRODUCT_COLUMNS), LEAST_ROWS, PRODUCT_ROWS))

    def block(start: int) -> None:
        part = slice(start, start + size)
        own = rows[part] if isinstance(some, slice) else rows[some[part]]
        labels[part], best[part], other[part] = _nearest(own, centroids, second=second)

    starts = range(0, n, size)
    n_workers = min(n_threads(), len(starts)) if n * rows.shape[1] * k >= THREAD_WORK else 1
    if n_workers < 2:
        for start in starts:
            block(start)
    else:
        with ThreadPoolExecutor(n_workers) as pool:
            list(pool.map(carried(_alone(block)), starts))
    return labels, best, other


def _alone(work: Callable[[int], None]) -> Callable[[int], None]:
    """Return `work` with one BLAS thread: a BLAS on OpenMP keeps a count for each thread."""

    def run(start: int) -> None:
        with one_blas_thread():
            work(start)

    return run


def _nearest(rows: Rows, centroids: Rows, *, second: bool) -> tuple[Ints, Rows, Rows]:
    """Return labels, cosines and second best cosines of few rows, some centroids at a time."""
    m = len(rows)
    at, best = np.zeros(m, np.int64), np.full(m, -np.inf, np.float32)
    other = best.copy()
    every = np.arange(m)
    for first in range(0, len(centroids), PRODUCT_COLUMNS):
        cosines = rows @ centroids[first : first + PRODUCT_COLUMNS].T
        place = cosines.argmax(axis=1)
        found = cosines[every, place]
        if second:
            cosines[every, place] = -np.inf
            np.maximum(other, cosines.max(axis=1), out=other)
            np.maximum(other, np.minimum(best, found), out=other)
        nearer = found > best
        at[nearer], best[nearer] = place[nearer] + first, found[nearer]
    return at, best, other


def next_centroids(found: Round, *, seed: int) -> Rows:
    """Return the new unit centroids (k, d); empty clusters split off the largest ones."""
    centroids = unit_rows(found.sums)
    counts = found.counts.copy()
    generator = np.random.default_rng(seed)
    for cluster in np.flatnonzero(counts == 0):
        largest = int(counts.argmax())
        noise = SPLIT_NOISE * generator.normal(size=centroids.shape[1])
        centroids[cluster] = unit_rows((centroids[largest] + noise)[None])[0]
        counts[cluster] = counts[largest] = counts[largest] / 2
    return centroids


def rounds(rows: Rows, first: Rows, n_rounds: int, *, seed: int = 0) -> tuple[Rows, float, int]:
    """Return unit centroids (k, d) after at most `n_rounds`, their objective, the rounds taken.

    The objective is the sum of the rows' cosines to the centroids, of the last assignment.

    Parameters
    ----------
    rows : (n, d) float32
        Unit rows.
    first : (k, d) float32
        Where the rounds begin, k at most n.
    n_rounds : int
        At least one.
    seed : int
        Of the directions that empty clusters take.
    """
    device = distributed.gpu()
    worth = rows.size * len(first) * n_rounds >= GPU_WORK
    if device is not None and worth and distributed.has_room(device, 5 * rows.nbytes):
        from fmcluster.partition.rounds_torch import rounds_on

        return rounds_on(device, rows, first, n_rounds, seed=seed)
    centroids = np.ascontiguousarray(first, np.float32)
    sums, counts = np.zeros(first.shape), np.zeros(len(first))
    labels = np.full(len(rows), -1)
    bounds = _Bounds(rows)
    with one_blas_thread():
        for taken in range(1, n_rounds + 1):
            check_stopped()
            some, found = bounds.look(labels, centroids)
            changed = found != labels[some]
            moved = (np.arange(len(rows)) if isinstance(some, slice) else some)[changed]
            if not len(moved):
                break
            new = found[changed]
            _move(sums, counts, rows, moved, labels[moved], new)
            labels[moved] = new
            before, centroids = (
                centroids,
                next_centroids(Round(sums, counts, 0.0), seed=seed_of(seed, "empty", taken)),
            )
            bounds.step(labels, centroids - before)
    return centroids, float(np.linalg.norm(sums, axis=1).sum()), taken


class _Bounds:
    """What each row's cosines to its own and to the nearest other centroid are at most apart.

    Parameters
    ----------
    rows : (n, d) float32
        Unit rows.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        # At least the row's cosine to its own centroid, at most that to any other.
        self.own = np.full(len(rows), -np.inf, np.float32)
        self.other = np.full(len(rows), np.inf, np.float32)

    def look(self, labels: Ints, centroids: Rows) -> tuple[Ints | slice, Ints]:
        """Return the rows that may have moved, and their nearest centroids."""
        some = np.flatnonzero(self.own < self.other + ROUNDING)
        if len(some) < TIGHTEN_SHARE * len(self.rows):
            # Its true cosine to its own centroid settles most of the rest.
            for start in range(0, len(some), BLOCK_ROWS):
                part = some[start : start + BLOCK_ROWS]
                self.own[part] = np.einsum("nd,nd->n", self.rows[part], centroids[labels[part]])
            some = some[self.own[some] < self.other[some] + ROUNDING]
        where = slice(None) if len(some) == len(self.rows) else some
        found, self.own[where], self.other[where] = _two_best(self.rows, centroids, where)
        return where, found

    def step(self, labels: Ints, steps: Rows) -> None:
        """Widen the bounds by how far the centroids went."""
        length = np.linalg.norm(steps, axis=1)
        self.own -= length[labels]
        farthest = int(length.argmax())
        rest = np.delete(length, farthest).max(initial=0.0)
        self.other += np.where(labels == farthest, rest, length[farthest])


def _move(
    sums: NDArray[np.float64],
    counts: NDArray[np.float64],
    rows: Rows,
    moved: Ints,
    old: Ints,
    new: Ints,
) -> None:
    """Take the rows `moved` out of the sums of their old clusters, -1 for none, into the new."""
    k = len(sums)
    for start in range(0, len(moved), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        some, was = moved[part], np.flatnonzero(old[part] >= 0)
        cluster = np.concatenate([new[part], old[part][was]])
        sign = np.repeat(np.array([1, -1], np.float32), [len(some), len(was)])
        place = np.concatenate([np.arange(len(some)), was])
        sums += csr_matrix((sign, (cluster, place)), (k, len(some))) @ rows[some]
        counts += np.bincount(cluster, sign, minlength=k)
