"""Every row's nearest other rows, exactly, by matrix products.

Cosines of a block of rows with all rows are one matrix product; what costs is to find the k largest
of each row. Split a row's n cosines into G > k groups: the k-th largest of the groups' maxima is at
most the k-th largest cosine, and few cosines reach it, so that only those are sorted. Maxima of
groups stand in for top k in Chern et al., "TPU-KNN: k nearest neighbor search at peak FLOP/s"
(NeurIPS 2022), which keeps one value a group; as a bound they lose nothing.

`faiss_index.true_neighbors` is apart: it compares a few queries with rows that are streamed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Cosines held at a time: larger blocks leave the cache, smaller ones starve the product.
BLOCK_BYTES = 2**26
# With four groups a neighbor, a sixth more cosines than are wanted reach the bound.
GROUPS_PER_NEIGHBOR = 4
# Among duplicates all reach the bound: above so many per neighbor they are partitioned first.
CROWD = 8


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
    groups = min(n, GROUPS_PER_NEIGHBOR * k)
    depth = -(-n // groups)
    size = int(np.clip(BLOCK_BYTES // (4 * n), 1, n))
    indices, similarities = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    # The last groups may be short of one: minus infinity fills them up.
    room = np.full((size, depth * groups), -np.inf, np.float32)
    reached = np.empty(room.shape, bool)
    for start in range(0, n, size):
        stop = min(start + size, n)
        cosines = room[: stop - start]
        np.matmul(x[start:stop], x.T, out=cosines[:, :n])
        cosines[np.arange(stop - start), np.arange(start, stop)] = -np.inf
        # Group j holds columns j, j + G, ...: rows that are stored in order do not crowd in one.
        best = cosines.reshape(len(cosines), depth, groups).max(axis=1)
        bound = np.partition(best, groups - k, axis=1)[:, groups - k]
        mask = np.greater_equal(cosines, bound[:, None], out=reached[: stop - start])
        indices[start:stop], similarities[start:stop] = _largest(cosines, mask, k)
    return indices, np.clip(similarities, -1.0, 1.0, out=similarities)


def _largest(
    values: NDArray[np.float32], reached: NDArray[np.bool_], k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return places and values (m, k) of each row's `k` largest, which are among `reached`."""
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
    column = np.zeros(kept.shape, np.int32)
    kept[row, place], column[row, place] = values.ravel()[flat], flat - row * width
    order = np.argsort(-kept, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(column, order, 1), np.take_along_axis(kept, order, 1)


def _places(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the flattened mask holds, and how many of those come before each row (m + 1)."""
    flat = np.flatnonzero(mask)
    return flat, np.searchsorted(flat, np.arange(len(mask) + 1) * mask.shape[1])
