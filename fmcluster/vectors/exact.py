"""Every row's nearest rows, exactly, by matrix products: for graphs, queries and the truth.

Cosines of a block of rows with all rows are one matrix product; what costs is to find the k largest
of each row. Split a row's n cosines into G > k groups: the k-th largest of the groups' maxima is at
most the k-th largest cosine, and few cosines reach it, so that only those are sorted. Maxima of
groups stand in for top k in Chern et al., "TPU-KNN: k nearest neighbor search at peak FLOP/s"
(NeurIPS 2022), which keeps one value a group; as a bound they lose nothing.

Blocks take a thread each with one BLAS thread, so that the answer is the same for any number of
threads. Where Accelerate gives a GPU, `exact_torch` does the same there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fmcluster.utils import distributed
from fmcluster.utils.progress import bar
from fmcluster.utils.stopping import in_threads
from fmcluster.vectors.faiss_index import one_blas_thread

# Cosines that a thread holds at a time: larger blocks leave the cache, smaller ones starve the
# product (16 to 128 MiB took the same within a tenth).
BLOCK_BYTES = 2**25
# With four groups a neighbor, a sixth more cosines than are wanted reach the bound.
GROUPS_PER_NEIGHBOR = 4
# Maxima of fewer groups than a few registers hold side by side are slow.
LEAST_GROUPS = 64
# Among duplicates all reach the bound: above so many per neighbor they are partitioned first.
CROWD = 8
# Blocks of all threads take a gigabyte.
MOST_THREADS = 32
# Products of fewer multiplications are done before a GPU is awake.
GPU_WORK = 2**33

Found = tuple[NDArray[np.float32], NDArray[np.int64]]


def nearest_rows(x: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return (indices, cosines), each (n, k), of every row's `k` nearest other rows.

    Parameters
    ----------
    x : (n, d) float32
        Unit rows, fewer than 2**31.
    k : int
        In 1..n-1.
    """
    n = len(x)
    cosines, indices = np.empty((n, k), np.float32), np.empty((n, k), np.int32)
    with bar(total=n, description="neighbors") as shown:

        def keep(rows: slice, found: Found) -> None:
            cosines[rows], indices[rows] = found
            shown.update(rows.stop - rows.start)

        _search(x, x, k, keep, others=True)
    return indices, np.clip(cosines, -1.0, 1.0, out=cosines)


def nearest_to(queries: NDArray[np.float32], x: NDArray[np.float32], k: int) -> Found:
    """Return (cosines, indices), each (m, k), of the `k` nearest of unit rows `x`, nearest first.

    Parameters
    ----------
    queries : (m, d) float32
        Unit rows.
    x : (n, d) float32
        Unit rows.
    k : int
        In 1..n.
    """
    cosines = np.empty((len(queries), k), np.float32)
    indices = np.empty((len(queries), k), np.int64)

    def keep(rows: slice, found: Found) -> None:
        cosines[rows], indices[rows] = found

    _search(queries, x, k, keep, others=False)
    return cosines, indices


def _search(
    queries: NDArray[np.float32],
    x: NDArray[np.float32],
    k: int,
    keep: Callable[[slice, Found], None],
    *,
    others: bool,
) -> None:
    """Hand the nearest rows of each block to `keep`; with `others` never the row itself."""
    device = distributed.gpu()
    if device is not None and len(queries) * x.size >= GPU_WORK:
        from fmcluster.vectors.exact_torch import search_on

        if search_on(device, queries, x, k, keep, others=others):
            return
    m, n = len(queries), len(x)
    size = int(np.clip(BLOCK_BYTES // (4 * n), 1, max(m, 1)))

    def block(start: int) -> tuple[slice, Found]:
        rows = slice(start, min(start + size, m))
        return rows, nearest_among(queries[rows], x, k, first=start if others else None)

    with one_blas_thread():
        for rows, found in in_threads(block, range(0, m, size), most=MOST_THREADS):
            keep(rows, found)


def nearest_among(
    queries: NDArray[np.float32], x: NDArray[np.float32], k: int, *, first: int | None
) -> Found:
    """Return (cosines, indices) of the nearest of `x`, but for row `first` + i of query i."""
    m, n = len(queries), len(x)
    groups = min(n, max(GROUPS_PER_NEIGHBOR * k, LEAST_GROUPS))
    depth = -(-n // groups)
    # The last groups may be short of one: minus infinity fills them up.
    cosines = np.empty((m, depth * groups), np.float32)
    cosines[:, n:] = -np.inf
    np.matmul(queries, x.T, out=cosines[:, :n])
    if first is not None:
        cosines[np.arange(m), np.arange(first, first + m)] = -np.inf
    # Group j holds columns j, j + G, ...: rows that are stored in order do not crowd in one.
    best = cosines.reshape(m, depth, groups).max(axis=1)
    bound = np.partition(best, groups - k, axis=1)[:, groups - k]
    return _largest(cosines, cosines >= bound[:, None], k)


def _largest(values: NDArray[np.float32], reached: NDArray[np.bool_], k: int) -> Found:
    """Return values and places (m, k) of each row's `k` largest, which are among `reached`."""
    m, width = values.shape
    flat, first = _places(reached)
    crowded = np.flatnonzero(np.diff(first) > CROWD * k)
    if len(crowded):  # as among duplicates, where everything may reach the bound
        top = np.argpartition(-values[crowded], k - 1, axis=1)[:, :k]
        reached[crowded] = False
        reached[crowded[:, None], top] = True
        flat, first = _places(reached)
    row = flat // width
    place = np.arange(len(flat)) - first[row]
    kept = np.full((m, int(np.diff(first).max())), -np.inf, np.float32)
    column = np.zeros(kept.shape, np.int64)
    kept[row, place], column[row, place] = values.ravel()[flat], flat - row * width
    order = np.argsort(-kept, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(kept, order, 1), np.take_along_axis(column, order, 1)


def _places(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the flattened mask holds, and how many of those come before each row (m + 1)."""
    flat = np.flatnonzero(mask)
    return flat, np.searchsorted(flat, np.arange(len(mask) + 1) * mask.shape[1])
