"""Mini-clusters: many small clusters of unit rows (spherical k-means), which linkages merge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmcluster.partition.kmeans import kmeans_partition
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import GATHER_ROWS, unit_rows

# Values that a sum over groups copies to float64 at a time: 128 MiB.
SUM_VALUES = 2**24
# Linkages decide more the more mini-clusters there are, and cost their square.
MINI_PER_CLUSTER = 8
# At least so many, where rows allow it: a linkage of 64 takes no time.
LEAST_MINI = 64


@dataclass(frozen=True)
class MiniClusters:
    """Many small clusters of unit rows: what the linkages merge.

    Attributes
    ----------
    centroids : (m, d) float32
        Unit rows.
    labels : (n,) int64
        Mini-cluster of each row, none empty.
    sums : (m, d) float64
        Sum of the unit rows of each.
    sizes : (m,) float64
        Rows of each.
    """

    centroids: NDArray[np.float32]
    labels: NDArray[np.int64]
    sums: NDArray[np.float64]
    sizes: NDArray[np.float64]


def group_sums(
    X: NDArray[np.floating],
    labels: NDArray[np.int64],
    n_groups: int,
    *,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the (weighted) sum of the rows of each group, (n_groups, d) float64."""
    from scipy.sparse import csr_matrix

    n = len(labels)
    mass = np.ones(n) if weights is None else weights
    member = csr_matrix((mass, (labels, np.arange(n))), shape=(n_groups, n))
    # The product copies X in eight bytes a value: of many rows, some columns at a time.
    width = max(1, SUM_VALUES // max(n, 1))
    sums = [member @ X[:, at : at + width] for at in range(0, X.shape[1], width)]
    return np.concatenate(sums, axis=1, dtype=np.float64)


def smooth_rows(
    rows: NDArray[np.float32], graph: KNNGraph, n_steps: int = 1
) -> NDArray[np.float32]:
    """Average each unit row with the mean of its neighbors, `n_steps` times.

    Where neighbors are mostly of the row's own cluster this draws clusters together, which
    helps average linkage most; where they are not it blurs. Apart from the refinement's diffusion,
    whose near neighbors weigh more: here all weigh alike, and no sparse matrix is made.
    """
    for _ in range(n_steps):
        moved = np.empty_like(rows)
        for start in range(0, len(rows), GATHER_ROWS):
            block = slice(start, start + GATHER_ROWS)
            moved[block] = rows[block] + rows[graph.indices[block]].mean(axis=1)
        rows = unit_rows(moved)
    return rows


def default_n_mini(n_rows: int, n_clusters: int) -> int:
    """Return how many mini-clusters to merge: eight a cluster, more where n allows it."""
    return int(min(max(MINI_PER_CLUSTER * n_clusters, LEAST_MINI), max(n_rows // 2, n_clusters)))


def mini_clusters(
    rows: NDArray[np.float32],
    n_mini: int,
    *,
    seed: int = 0,
    max_iter: int = 10,
    weights: NDArray[np.float64] | None = None,
) -> MiniClusters:
    """Cut unit rows (n, d) into about `n_mini`; rows may stand for several each, by `weights`."""
    centroids, labels = kmeans_partition(rows, n_mini, seed=seed, max_iter=max_iter)
    return grouped(rows, labels, weights=weights, centroids=centroids)


def grouped(
    rows: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    weights: NDArray[np.float64] | None = None,
    centroids: NDArray[np.float32] | None = None,
) -> MiniClusters:
    """Return the groups 0..m-1 of unit rows (n, d) as mini-clusters, around their unit means."""
    m = int(labels.max()) + 1 if centroids is None else len(centroids)
    sums = group_sums(rows, labels, m, weights=weights)
    sizes = np.bincount(labels, weights, minlength=m).astype(np.float64)
    return MiniClusters(unit_rows(sums) if centroids is None else centroids, labels, sums, sizes)
