r"""Base partitions of the same rows, and how much to believe each algorithm that made them.

The level of a confidence cannot be seen from the partition that it belongs to. It shows in how far
partitions made in other ways agree (consensus clustering): three algorithms (k-means, average
linkage, Ward linkage), each on all dimensions and on half of them, of the first space and of all
spaces joined. An algorithm counts by its stability :math:`\bar s_f`, the mean agreement among its
own members,

.. math:: w_f \propto \exp(\bar s_f / 0.15),

because an algorithm that cannot reproduce itself says nothing about another partition: average
linkage falls apart on balanced data and k-means on long tails, and each shows it so. All agreements
are after Hungarian alignment.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.assignment import agreement
from fmcluster.partition.kmeans import spherical_kmeans
from fmcluster.partition.mini_clusters import MINI_PER_CLUSTER
from fmcluster.utils.random import seed_of
from fmcluster.vectors.rows import iter_blocks, unit_rows

# Partitions are fitted on a sample and assign all rows: linkages need mini-clusters, not rows.
FIT_ROWS = 12_000
# An agreement is a share of rows: of so many its error is under half a point.
STABILITY_ROWS = 20_000
# Lower leaves one algorithm's errors unopposed, higher lets unstable ones count alike.
STABILITY_SCALE = 0.15
# k-means of few rows shows its instability; of most rows it repeats itself.
SHARE_OF_BOOTSTRAP = 0.3
# Restarts where they are cheap: a poor start of k-means must not look like instability.
KMEANS_WORK = 1_000_000
# Mini-clusters, beside those a cluster: a linkage of 1,500 takes a second.
LEAST_MINI, MOST_MINI = 200, 1_500

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class BasePartition:
    """One partition that assigns any row: nearest centroid, then the cluster of that centroid.

    Attributes
    ----------
    algorithm : {"kmeans", "average", "ward"}
    space : int
        0 is the first space, 1 all spaces joined.
    columns : (d',) int or slice
        Dimensions that it sees.
    centroids : (r, d') float32
    cluster : (r,) int64
        Cluster of each centroid.
    """

    algorithm: str
    space: int
    columns: Any
    centroids: Floats
    cluster: Labels

    def assign(self, block: Floats) -> Labels:
        """Return the cluster of each row of a block of unit rows of its space."""
        rows = unit_rows(block[:, self.columns])
        return self.cluster[(rows @ self.centroids.T).argmax(axis=1)]


def n_mini_clusters(n_rows: int, n_clusters: int) -> int:
    """Return how many mini-clusters describe the rows: eight a cluster, at least four rows each."""
    wanted = min(max(MINI_PER_CLUSTER * n_clusters, LEAST_MINI), max(MOST_MINI, 2 * n_clusters))
    return min(n_rows, max(n_clusters, min(wanted, n_rows // 4)))


def _linkage_clusters(centroids: Floats, n_clusters: int, method: str) -> Labels:
    """Cut the linkage of mini-cluster centroids into `n_clusters`."""
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(centroids) <= n_clusters:
        return np.arange(len(centroids))
    # Apart from `partition.linkage`: centroids count once, by Euclidean distances; through that
    # tree single confidences moved by up to 0.08 (1,000 rows of cifar10_test).
    tree = linkage(centroids.astype(np.float64), method)
    return fcluster(tree, n_clusters, "maxclust").astype(np.int64) - 1


def fit_base_partitions(
    X: Any, space: int, n_clusters: int, random_state: int
) -> list[BasePartition]:
    """Fit seven partitions of a sample of one space `X` (n, d)."""
    rng = np.random.default_rng(seed_of(random_state, "references", space))
    n_rows, n_dims = X.shape
    rows = np.sort(rng.choice(n_rows, min(n_rows, FIT_ROWS), replace=False))
    sample = unit_rows(np.asarray(X[rows]))
    every: Any = slice(None)
    # Sorted: the order of dimensions must not matter to the sums.
    half = np.sort(rng.choice(n_dims, max(1, n_dims // 2), replace=False))
    size = min(len(sample), max(n_clusters, int(SHARE_OF_BOOTSTRAP * len(sample))))
    bootstrap = np.sort(rng.choice(len(sample), size, replace=False))
    found = []
    views: tuple[tuple[Any, Any], ...] = ((every, None), (half, None), (every, bootstrap))
    for number, (columns, use) in enumerate(views):
        part = sample[:, columns] if use is None else sample[use]
        centroids = spherical_kmeans(
            unit_rows(part),
            n_clusters,
            # At most the starts of the `kmeans` head.
            n_init=int(np.clip(KMEANS_WORK // (len(part) * n_clusters), 1, 4)),
            # Fewer rounds would look like instability; those after it move few rows.
            max_iter=20,
            seed=seed_of(random_state, "kmeans", space, number),
        )
        found.append(BasePartition("kmeans", space, columns, centroids, np.arange(n_clusters)))
    for number, columns in enumerate((every, half)):  # type: int, Any
        centroids = spherical_kmeans(
            unit_rows(sample[:, columns]),
            n_mini_clusters(len(sample), n_clusters),
            # Regions only have to be small: no optimum is needed.
            max_iter=10,
            seed=seed_of(random_state, "regions", space, number),
        )
        for algorithm in ("average", "ward"):
            cluster = _linkage_clusters(centroids, n_clusters, algorithm)
            found.append(BasePartition(algorithm, space, columns, centroids, cluster))
    return found


def assign_all(base_partitions: list[BasePartition], spaces: list[Any]) -> Labels:
    """Return (base_partitions, n) int64: every row's cluster in every partition, block by block."""
    n_rows = spaces[0].shape[0]
    out = np.empty((len(base_partitions), n_rows), dtype=np.int64)
    for space, X in enumerate(spaces):
        mine = [(q, r) for q, r in enumerate(base_partitions) if r.space == space]
        for start, block in iter_blocks(X):
            for q, reference in mine:
                out[q, start : start + len(block)] = reference.assign(block)
    return out


def algorithm_weights(algorithms: list[str], assigned: Labels, n_clusters: int) -> dict[str, float]:
    """Return the weight of every algorithm by the stability of its members; they sum to one.

    `assigned` (base_partitions, n) holds the cluster of every row in each partition.
    """
    step = max(1, assigned.shape[1] // STABILITY_ROWS)
    rows = assigned[:, ::step]
    names, stability = sorted(set(algorithms)), []
    for name in names:
        pairs = combinations(rows[[algorithm == name for algorithm in algorithms]], 2)
        stability.append(np.mean([agreement(a, b, n_clusters) for a, b in pairs]))
    share = np.exp((np.array(stability) - max(stability)) / STABILITY_SCALE)
    share /= share.sum()
    return dict(zip(names, share.tolist(), strict=True))


def vote_shares(regions: Labels, labels: Labels, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return (regions, clusters): the share of votes of every region that each cluster gets.

    `labels` is (voters, n), -1 for rows that a voter leaves unnamed; those count for no cluster.
    """
    table = np.zeros(shape[0] * shape[1])
    for each in labels:
        named = each >= 0
        flat = regions[named] * shape[1] + each[named]
        table += np.bincount(flat, minlength=len(table))
    sizes = np.maximum(np.bincount(regions, minlength=shape[0]), 1)
    return table.reshape(shape) / (sizes[:, None] * len(labels))
