r"""A k-means start that depends little on luck: the best of several k-means++ seedings.

The first centroid is a random row; each further one is a row drawn with probability proportional to
its squared distance from the nearest centroid so far (Arthur & Vassilvitskii, "k-means++", SODA
2007). Seedings are compared by k-means' own objective on a sample, and all rows are for the best.
Random starts cost more, because each runs over all rows, and leave clusters split and merged.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import kmeans_plusplus

from fmcluster.heads._lloyd import SEED_ROWS
from fmcluster.heads.kmeans import kmeans_of_all

SEEDINGS = 8
SEEDING_ROUNDS = 10


def plus_plus_centroids(
    rows: NDArray[np.float32],
    n_clusters: int,
    *,
    seed: int,
    max_iter: int = 50,
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
    kmeans = kmeans_of_all(rows, len(first), max_iter=n_iter)
    kmeans.train(rows, init_centroids=np.ascontiguousarray(first, np.float32))
    return kmeans.centroids, float(kmeans.obj[-1])
