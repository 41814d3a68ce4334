r"""Lloyd's rounds over rows in memory, larger than it, or spread over processes.

Each round, every process reads its own blocks, assigns their rows and sums them by cluster; the
k x d sums and the k counts are added over processes, so that all of them hold the same centroids:

.. math:: c_k \leftarrow \frac{\sum_{i: a_i = k} x_i}{\|\sum_{i: a_i = k} x_i\|}, \quad
          a_i = \arg\max_k \langle x_i, c_k \rangle

Blocks are dealt in turn (block b to process b mod W) and their sums added in float64, so one
process and several agree up to rounding. Clusters that lose all rows take over a part of the
largest one. Above `TWO_LEVEL` clusters a coarse partition is made first and each part is split by
itself. The start is k-means of a random sample, the best of several by its own objective: on six
sets that fit in memory the end is that of whole runs over all rows, in a fifth to a half of their
time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from fmcluster.partition.kmeans import SEED_ROWS, SEEDING_ROUNDS, spherical_kmeans
from fmcluster.utils import distributed
from fmcluster.utils.progress import bar
from fmcluster.utils.random import seed_of
from fmcluster.utils.stopping import check_stopped
from fmcluster.vectors.faiss_index import faiss_module
from fmcluster.vectors.rows import BLOCK_ROWS, all_unit_rows, sample_indices, unit_rows

# Rows that take less are scaled to unit length once and held, others block by block each round.
HELD_BYTES = 2**28
# Most memory that the starting sample takes, whatever the number of clusters.
SEED_BYTES = 2**30
# Least gain of a round, of what is left to gain: every further round is a pass over all rows.
TOLERANCE = 1e-5
# Share of a unit that tells a re-seeded centroid from the one it was split off.
SPLIT_NOISE = 1e-2
# Above it a round over all centroids costs more than two rounds over roots of them.
TWO_LEVEL = 100_000


@dataclass(frozen=True)
class Round:
    """Sums of one pass over all rows of all processes."""

    sums: NDArray[np.float64]
    counts: NDArray[np.float64]
    objective: float

    def is_at_rest(self, before: float) -> bool:
        """Return whether the objective gained next to nothing since it was `before`.

        Measured by what rows lack of cosine one: of embeddings that all point one way, everything
        that is to be learned is a small part of the objective.
        """
        return self.objective - before <= TOLERANCE * max(self.counts.sum() - self.objective, 0)


class UnitRows(np.ndarray[Any, Any]):
    """Rows that are known to be of length one."""


def held(X: Any) -> Any:
    """Return the rows at unit length where they take little memory, else `X` as it is.

    Rows that are read on demand have no room, however few they are.
    """
    is_large = 4 * X.shape[0] * X.shape[1] > HELD_BYTES
    if isinstance(X, UnitRows) or is_large or not getattr(X, "in_memory", True):
        return X
    return all_unit_rows(X).view(UnitRows)


def own_blocks(X: Any, size: int | None = None) -> Iterator[NDArray[np.float32]]:
    """Yield this process's blocks of unit rows, of `size` rows (default `BLOCK_ROWS`)."""
    size = size or BLOCK_ROWS
    for number in distributed.my_share(-(-X.shape[0] // size)):
        block = np.asarray(X[number * size : (number + 1) * size])
        yield block if isinstance(X, UnitRows) else unit_rows(block)


def seed_centroids(X: Any, n_clusters: int, *, seed: int, n_init: int = 1) -> NDArray[np.float32]:
    """Return starting centroids: k-means of a random sample, the same on all processes."""
    room = max(SEED_BYTES // (4 * X.shape[1]), 2 * n_clusters)
    # A block at least: of few clusters it costs nothing, and small ones are in it.
    rows = sample_indices(X, min(max(SEED_ROWS * n_clusters, BLOCK_ROWS), room), seed)
    sample = unit_rows(np.asarray(X[rows]))
    return spherical_kmeans(sample, n_clusters, n_init=n_init, max_iter=SEEDING_ROUNDS, seed=seed)


def one_round(X: Any, centroids: NDArray[np.float32]) -> Round:
    """Assign and sum all rows; only k x d sums, k counts and one number cross processes."""
    device = distributed.gpu()
    if device is not None:
        from fmcluster.partition import kmeans_torch as on_gpu

        # Of what goes there at a time: rows that are held in one piece, others block by block.
        whole = -(-X.shape[0] // distributed.world_size())
        size = whole if isinstance(X, UnitRows) else min(BLOCK_ROWS, X.shape[0])
        if on_gpu.has_work(device, size, X.shape[1], len(centroids)):
            packed = distributed.sum_over_ranks(
                on_gpu.packed_sums(device, own_blocks(X, size), centroids)
            )
            return Round(packed[:, :-2], packed[:, -2], float(packed[:, -1].sum()))
    faiss = faiss_module()
    index = faiss.IndexFlatIP(centroids.shape[1])
    index.add(np.ascontiguousarray(centroids))
    packed = np.zeros((len(centroids), centroids.shape[1] + 2))
    for block in own_blocks(X):
        cosines, found = index.search(block, 1)
        labels = found.ravel()
        member = csr_matrix(
            (np.ones(len(labels), np.float32), (labels, np.arange(len(labels)))),
            shape=(len(centroids), len(labels)),
        )
        packed[:, :-2] += member @ block
        packed[:, -2] += np.bincount(labels, minlength=len(centroids))
        packed[:, -1] += np.bincount(labels, cosines.ravel(), minlength=len(centroids))
    packed = distributed.sum_over_ranks(packed)
    return Round(packed[:, :-2], packed[:, -2], float(packed[:, -1].sum()))


def lloyd(
    X: Any, n_clusters: int, *, n_init: int = 1, max_iter: int = 50, seed: int = 0
) -> tuple[NDArray[np.float32], int]:
    """Return unit centroids (k, d) and the rounds taken over all rows.

    Parameters
    ----------
    X : array-like with shape and slices
        Rows, read block by block each round; every process gives the same.
    n_clusters : int
        Number of clusters.
    n_init : int
        Starts that are compared on the sample.
    max_iter : int
        Rounds at most; fewer once one gains less than 1e-5 of what rows lack of cosine one.
    seed : int
        Of the start.
    """
    if n_clusters > TWO_LEVEL:
        return two_level(X, n_clusters, max_iter=max_iter, seed=seed)
    X = held(X)
    centroids = seed_centroids(X, n_clusters, seed=seed, n_init=n_init)
    before, rounds = -np.inf, 0
    with bar(total=max_iter, description="k-means", unit="rounds") as shown:
        for rounds in range(1, max_iter + 1):
            check_stopped()
            found = one_round(X, centroids)
            centroids = next_centroids(found, seed=seed_of(seed, "empty", rounds))
            shown.update(1)
            if found.is_at_rest(before):
                break
            before = found.objective
    return centroids, rounds


def next_centroids(found: Round, *, seed: int) -> NDArray[np.float32]:
    """Return the new centroids; empty clusters split off the largest ones."""
    centroids = unit_rows(found.sums)
    counts = found.counts.copy()
    generator = np.random.default_rng(seed)
    for cluster in np.flatnonzero(counts == 0):
        largest = int(counts.argmax())
        noise = SPLIT_NOISE * generator.normal(size=centroids.shape[1])
        centroids[cluster] = unit_rows((centroids[largest] + noise)[None])[0]
        counts[cluster] = counts[largest] = counts[largest] / 2
    return centroids


def two_level(
    X: Any, n_clusters: int, *, max_iter: int, seed: int
) -> tuple[NDArray[np.float32], int]:
    """Split coarsely, then every part by itself, with clusters given out by the parts' sizes.

    Returns the centroids (k, d) and the rounds of the coarse split.
    """
    n_parts = int(np.sqrt(n_clusters))
    coarse, rounds = lloyd(X, n_parts, max_iter=max_iter, seed=seed)
    faiss = faiss_module()
    index = faiss.IndexFlatIP(coarse.shape[1])
    index.add(coarse)
    owner = np.zeros(X.shape[0], np.int32)
    for start in range(0, X.shape[0], BLOCK_ROWS):
        block = unit_rows(np.asarray(X[start : start + BLOCK_ROWS]))
        owner[start : start + len(block)] = index.search(block, 1)[1].ravel()
    sizes = np.bincount(owner, minlength=n_parts)
    share = _apportion(sizes, n_clusters)
    fine = np.zeros((n_clusters, X.shape[1]))
    first = np.concatenate([[0], np.cumsum(share)])
    for part in distributed.my_share(n_parts):
        if share[part] == 0:
            continue
        rows = X[np.flatnonzero(owner == part)]
        fine[first[part] : first[part + 1]] = seed_centroids(
            np.asarray(rows), int(share[part]), seed=seed_of(seed, "part", part)
        )
    return unit_rows(distributed.sum_over_ranks(fine)), rounds


def _apportion(sizes: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Give out `total` clusters by size, each part at least one and at most its rows."""
    wanted = total * sizes / sizes.sum()
    share = np.minimum(np.maximum(np.floor(wanted), sizes > 0), sizes).astype(np.int64)
    for part in np.argsort(-(wanted - share), kind="stable"):
        room = min(int(sizes[part] - share[part]), int(total - share.sum()))
        share[part] += max(0, min(room, int(np.ceil(wanted[part] - share[part]))))
    while share.sum() > total:
        share[int(share.argmax())] -= 1
    while share.sum() < total:
        share[int((sizes - share).argmax())] += 1
    return share
