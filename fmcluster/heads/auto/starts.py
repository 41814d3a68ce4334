"""Starting partitions of several families, none of which is right for all data.

k-means favors clusters of balanced size and round shape; average linkage keeps small clusters and
lets large ones be large; linkage by edges of the neighbor graph and spectral clustering of it
follow connected shapes. The linkages merge mini-clusters (`fmcluster.partition.mini_clusters`), of
several finenesses, for how many are merged decides what they merge. Which rows begin a mini-
cluster is chance, so a family that does well is drawn again.

No linkage may give a cluster to less than a tenth of a balanced share of the rows: a few odd rows
are no cluster, and would take its place from a small one.

Every family sees the rows as they are and diffused over the graph (`RefinementContext.diffused`),
a start each: diffusion brings scattered clusters together, and drowns small ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.partition.kmeans import kmeans_partition
from fmcluster.partition.linkage import LINKAGES, condensed_cut, merge_tree
from fmcluster.partition.mini_clusters import MiniClusters, mini_clusters
from fmcluster.partition.refine import DIFFUSION, LEAST_SHARE, RefinementContext
from fmcluster.partition.scores import edge_mass
from fmcluster.utils.random import seed_of
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import unit_rows

FAMILIES = ("kmeans", *LINKAGES, "spectral")
# Mini-clusters per cluster, the finer of rows more diffused: how many are merged decides what.
FINENESS = (3, 5, 8)
# The merge tree holds (mini, mini) distances: 32 MB of float64.
MAX_MINI_CLUSTERS = 2_000
# Edges that linkages and spectral clustering see: the head's own graph, or less of a denser one.
N_NEIGHBORS = 10


def starts(
    field: RefinementContext,
    n_clusters: int,
    *,
    seed: int,
    families: Sequence[str] = FAMILIES,
    draw: int = 0,
) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
    """Yield (family, name, labels) of the starting partitions of the rows of `field`.

    Parameters
    ----------
    field : RefinementContext
    n_clusters : int
    seed : int
    families : sequence of str
        Some of `FAMILIES`.
    draw : int
        Another number, other seeds.
    """
    k, n = n_clusters, len(field.rows)
    for number, time in enumerate(DIFFUSION if "kmeans" in families else ()):
        at = seed_of(seed, "kmeans", number, draw)
        rows, points = field.diffused[time].rows, max(256, -(-n // k))
        found = kmeans_partition(rows, k, seed=at, max_iter=30, rows_per_cluster=points)
        yield "kmeans", f"kmeans{number}.{draw}", found[1]
    near = field.graph.take(min(N_NEIGHBORS, field.graph.k))
    merged = [family for family in families if family != "kmeans"]
    for fineness, time in zip(FINENESS, DIFFUSION, strict=True) if merged else ():
        n_mini = max(min(fineness * k, n // 3, MAX_MINI_CLUSTERS), min(2 * k, n), min(100, n // 4))
        at = seed_of(seed, "mini", fineness, draw)
        rows = field.diffused[time].rows
        mini = mini_clusters(rows, n_mini, seed=at, max_iter=8)
        for family in merged:
            if family == "spectral" and fineness != FINENESS[-1]:
                continue
            if len(mini.sizes) <= k:
                groups = np.arange(len(mini.sizes))
            elif family == "spectral":
                groups = spectral_groups(mini, near, k, seed=seed_of(seed, "spectral", draw))
            else:
                tree = merge_tree(mini, family, near)
                least = max(2, LEAST_SHARE * n / k)
                groups = condensed_cut(tree, mini.sizes, k, least=least)
            yield family, f"{family}{fineness}.{draw}", groups[mini.labels]


def spectral_groups(
    mini: MiniClusters, graph: KNNGraph, n_clusters: int, *, seed: int
) -> NDArray[np.int64]:
    """Cluster mini-clusters by the leading eigenvectors of their edge masses, (m,) groups.

    Ng, Jordan and Weiss, "On spectral clustering" (2001), on the graph of mini-clusters.
    """
    from scipy.linalg import eigh

    m = len(mini.sizes)
    mass = edge_mass(mini.labels, m, graph)
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
