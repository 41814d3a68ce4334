"""Starting partitions of several families, none of which is right for all data.

k-means favours clusters of even size and round shape; average linkage keeps small clusters and
lets large ones be large; linkage by edges of the neighbour graph and spectral clustering of it
follow connected shapes. The linkages merge mini-clusters (`fmcluster.heads.partitions`), of several
finenesses, for how many are merged decides what they merge.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster._validation import seed_of
from fmcluster.heads import partitions
from fmcluster.index import KNNGraph, unit_rows

FINENESS = (3, 5, 8)
MOST_MINI = 2_000


def starts(
    rows: NDArray[np.float32], n_clusters: int, graph: KNNGraph, *, seed: int, n_kmeans: int = 3
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yield (family, labels) of every starting partition of unit rows (n, d)."""
    k, n = n_clusters, len(rows)
    for number in range(n_kmeans):
        found = partitions.spherical_kmeans(
            rows,
            k,
            random_state=seed_of(seed, "kmeans", number),
            n_iter=30,
            max_points=max(256, -(-n // k)),
        )
        yield f"kmeans{number}", found[1]
    near = graph.take(min(10, graph.k))
    for fineness in FINENESS:
        n_mini = max(min(fineness * k, n // 3, MOST_MINI), min(2 * k, n), min(100, n // 4))
        mini = partitions.mini_clusters(
            rows, n_mini, random_state=seed_of(seed, "mini", fineness), n_iter=8
        )
        for linkage in partitions.LINKAGES:
            if len(mini.sizes) <= k:
                groups = np.arange(len(mini.sizes))
            else:
                tree = partitions.merge_tree(mini, linkage, near)
                groups = partitions.cut_tree(tree, k)
            yield f"{linkage}{fineness}", groups[mini.labels]
        if fineness == FINENESS[-1] and len(mini.sizes) > k:
            groups = spectral_groups(mini, near, k, seed=seed_of(seed, "spectral"))
            yield "spectral", groups[mini.labels]


def spectral_groups(
    mini: partitions.MiniClusters, graph: KNNGraph, n_clusters: int, *, seed: int
) -> NDArray[np.int64]:
    """Cluster mini-clusters by the leading eigenvectors of their edge masses, (m,) groups.

    Ng, Jordan and Weiss, "On spectral clustering" (2001), on the graph of mini-clusters.
    """
    from scipy.linalg import eigh

    m = len(mini.sizes)
    mass = partitions.edge_mass(mini.labels, m, graph)
    degree = np.maximum(mass.sum(axis=1), 1e-9)
    _, vectors = eigh(
        mass / np.sqrt(np.outer(degree, degree)), subset_by_index=[m - n_clusters, m - 1]
    )
    return weighted_kmeans(unit_rows(vectors), mini.sizes, n_clusters, seed=seed)


def weighted_kmeans(
    rows: NDArray[np.float32],
    weights: NDArray[Any],
    n_clusters: int,
    *,
    seed: int,
    n_init: int = 3,
) -> NDArray[np.int64]:
    """Cluster few unit rows by weighted spherical k-means; return groups (m,)."""
    from sklearn.cluster import KMeans

    found = KMeans(n_clusters, n_init=n_init, max_iter=50, random_state=seed)
    return found.fit(rows, sample_weight=weights).labels_.astype(np.int64)
