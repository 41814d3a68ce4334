r"""Spherical k-means in memory, over faiss, and a start of it that depends little on luck.

The start is the best of several k-means++ seedings: the first centroid is a random row, each
further one is drawn with probability proportional to its squared distance from the nearest centroid
so far (Arthur & Vassilvitskii, "k-means++", SODA 2007). Seedings are compared by k-means' own
objective on a sample, and all rows are for the best. Random starts cost more, because each runs
over all rows, and leave clusters split and merged.

Where Accelerate gives a GPU and there is work enough, `kmeans_torch` makes the rounds there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import kmeans_plusplus

from fmcluster.utils import distributed
from fmcluster.utils.random import seed_of
from fmcluster.vectors.faiss_index import faiss_module
from fmcluster.vectors.rows import BLOCK_ROWS, unit_rows

# Rows per cluster that starts are compared on: what faiss itself trains on by default.
SEED_ROWS = 256
# More seedings cost a sampled run each; fewer leave clusters split and merged (the module's tests).
SEEDINGS = 8
# Rounds after which k-means is at rest: of the digits in 10 or 80 clusters, to the last digit.
ROUNDS = 50
# Rounds where centroids stand for the rows near them, wherever they come to rest: of the digits, 99
# to 100 % of the objective at rest.
ROUGH_ROUNDS = 20
# Rounds for mini-clusters, which are joined again: of the digits in 80 clusters, 99.6 %.
MINI_ROUNDS = 10
# Random starts of which the best is taken: of the digits in 10 clusters one start may be 4 % below
# the best, the best of four 0.5 %.
N_INIT = 4
# Enough rounds to rank seedings on a sample; the best one goes on over all rows.
SEEDING_ROUNDS = 10


def plus_plus_centroids(
    rows: NDArray[np.float32],
    n_clusters: int,
    *,
    seed: int,
    max_iter: int = ROUNDS,
    compare_all: bool = False,
) -> NDArray[np.float32]:
    """Return unit centroids (k, d) of unit rows (n, d).

    With `compare_all` every seeding runs to its end over all rows: for rows of few dimensions,
    where that costs little and two ends may differ in the fourth digit of the objective.
    """
    rows = np.ascontiguousarray(rows, np.float32)
    generator = np.random.default_rng(seed)
    size = len(rows) if compare_all else min(len(rows), SEED_ROWS * n_clusters)
    sample = rows[np.sort(generator.choice(len(rows), size, replace=False))]
    tried = []
    for _ in range(SEEDINGS):
        draw = int(generator.integers(2**31 - 1))
        first, _ = kmeans_plusplus(sample, n_clusters, random_state=draw)
        tried.append(_rounds(sample, first, max_iter if compare_all else SEEDING_ROUNDS))
    best, _ = max(tried, key=lambda one: one[1])
    return best if compare_all else _rounds(rows, best, max_iter)[0]


def _rounds(
    rows: NDArray[np.float32], first: NDArray[np.float32], n_iter: int
) -> tuple[NDArray[np.float32], float]:
    """Return centroids after `n_iter` rounds from `first`, and their objective."""
    return _trained(rows, len(first), max_iter=n_iter, first=first)


def _trained(
    rows: NDArray[np.float32],
    n_clusters: int,
    *,
    max_iter: int,
    n_init: int = 1,
    seed: int = 0,
    rows_per_cluster: int | None = None,
    first: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], float]:
    """Return the centroids of the best start and their objective, of all unit rows by default.

    Where none is given to begin with, `n_init` starts are random rows.
    """
    device = distributed.gpu()
    if device is not None:
        from fmcluster.partition import kmeans_torch as on_gpu

        size = min(len(rows), (rows_per_cluster or len(rows)) * n_clusters)
        if on_gpu.has_work(device, size, rows.shape[1], n_clusters):
            if size < len(rows):
                generator = np.random.default_rng(seed_of(seed, "rows"))
                rows = rows[np.sort(generator.choice(len(rows), size, replace=False))]
            starts = [first] if first is not None else []
            starts = starts or on_gpu.random_starts(rows, n_clusters, n_init, seed)
            return on_gpu.rounds_on(device, rows, starts, max_iter=max_iter, seed=seed)
    # faiss' own habit is to train on `SEED_ROWS` a cluster; given centroids make the seed moot.
    kmeans = faiss_module().Kmeans(
        rows.shape[1],
        int(n_clusters),
        niter=int(max_iter),  # numpy's integers are none to it
        nredo=int(n_init),
        spherical=True,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=rows_per_cluster or len(rows) // n_clusters + 1,
    )
    if first is None:
        kmeans.train(np.ascontiguousarray(rows))
    else:
        kmeans.train(rows, init_centroids=np.ascontiguousarray(first, np.float32))
    return kmeans.centroids, float(kmeans.obj[-1])


def spherical_kmeans(
    X: NDArray[np.float32],
    n_clusters: int,
    *,
    n_init: int = 1,
    max_iter: int = ROUNDS,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Return unit centroids (k, d) of unit rows `X` (n, d): the best of `n_init` starts."""
    return _trained(X, n_clusters, max_iter=max_iter, n_init=n_init, seed=seed)[0]


def kmeans_partition(
    rows: NDArray[np.float32],
    n_clusters: int,
    *,
    max_iter: int = ROUGH_ROUNDS,
    seed: int = 0,
    rows_per_cluster: int = SEED_ROWS,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return spherical k-means of unit rows as a partition; clusters that are empty are dropped.

    Centroids are learned from at most `rows_per_cluster` rows per cluster.

    Returns
    -------
    centroids : (m, d) float32, m <= n_clusters
    labels : (n,) int64
    """
    n_clusters = min(n_clusters, len(rows))
    found, _ = _trained(
        rows,
        n_clusters,
        max_iter=max_iter,
        seed=seed_of(seed, "kmeans", n_clusters),
        rows_per_cluster=rows_per_cluster,
    )
    centroids = unit_rows(found)
    used, labels = np.unique(nearest_centroid(rows, centroids), return_inverse=True)
    return centroids[used], labels.astype(np.int64).ravel()


def nearest_centroid(
    rows: NDArray[np.float32], centroids: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Return the index of the centroid with the largest cosine to each unit row."""
    device = distributed.gpu()
    if device is not None:
        from fmcluster.partition import kmeans_torch as on_gpu

        if on_gpu.has_work(device, len(rows), rows.shape[1], len(centroids)):
            return on_gpu.nearest_on(device, rows, centroids)
    out = np.empty(len(rows), np.int64)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        out[start : start + BLOCK_ROWS] = (block @ centroids.T).argmax(axis=1)
    return out


def median_margin(cosines: NDArray[Any]) -> float:
    """Return the median gap between a row's best and second best score: the softmax's unit."""
    if cosines.shape[1] < 2:
        return 1.0
    top = np.partition(cosines, -2, axis=1)[:, -2:]
    return max(float(np.median(top[:, 1] - top[:, 0])), 1e-6)
