"""Starting partitions of several families, none of which is right for all data.

k-means favors clusters of balanced size and round shape; average linkage keeps small clusters and
lets large ones be large; linkage by edges of the neighbor graph follows connected shapes. The
linkages merge mini-clusters (`fmcluster.partition.mini_clusters`), of several finenesses, for how
many are merged decides what they merge. Which rows begin a mini-cluster is chance, and k-means has
none for a small group, so the linkages are drawn again, of nodes of the graph (`partition.nodes`).

No linkage of k-means' mini-clusters may give a cluster to less than a tenth of a balanced share of
the rows: a few odd rows are no cluster, and would take its place from a small one. The finest nodes
are merged without that, too: where clusters lie well apart, the smallest is one of three rows.

Every family sees the rows as they are and diffused over the graph (`RefinementContext.diffused`),
a start each: diffusion brings scattered clusters together, and drowns small ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.partition.kmeans import kmeans_partition
from fmcluster.partition.linkage import LINKAGES, condensed_cut, cut_tree, merge_tree
from fmcluster.partition.mini_clusters import MiniClusters, grouped, mini_clusters
from fmcluster.partition.nodes import coarsen
from fmcluster.partition.refine import DIFFUSION, LEAST_SHARE, RefinementContext
from fmcluster.utils.random import seed_of
from fmcluster.utils.stopping import in_threads
from fmcluster.vectors.faiss_index import one_blas_thread

FAMILIES = ("kmeans", *LINKAGES)
# Mini-clusters per cluster, the finer of rows more diffused: how many are merged decides what.
FINENESS = (3, 5, 8)
# The merge tree holds (mini, mini) distances: 32 MB of float64.
MAX_MINI_CLUSTERS = 2_000
# Of nodes, among which odd rows are fewer. All of it loses small clusters that any eye would see, a
# third costs a world of pixels 17 points (log, 36).
LEAST_SHARE_OF_NODES = LEAST_SHARE / 2


def starts(
    field: RefinementContext,
    n_clusters: int,
    *,
    seed: int,
    families: Sequence[str] = FAMILIES,
    draw: int = 0,
) -> list[tuple[str, str, NDArray[np.int64]]]:
    """Return (family, name, labels) of the starting partitions of the rows of `field`.

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
    merged = [family for family in families if family != "kmeans"]

    def partitioned(number: int, time: int) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
        at = seed_of(seed, "kmeans", number, draw)
        # At least faiss's own 256 rows a cluster, and always so many that no row is left out.
        rows, points = field.diffused[time].rows, max(256, -(-n // k))
        # Rounds: fewer stop on the way, more are time; refinement goes on from there.
        found = kmeans_partition(rows, k, seed=at, max_iter=30, rows_per_cluster=points)
        yield "kmeans", f"kmeans{number}.{draw}", found[1]

    def joined(fineness: int, time: int) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
        # Three rows each, but two a cluster at least; of few clusters a hundred, of four rows.
        n_mini = max(min(fineness * k, n // 3, MAX_MINI_CLUSTERS), min(2 * k, n), min(100, n // 4))
        at = seed_of(seed, "mini", fineness, draw)
        mini, least = _mini(field, n_mini, time, seed=at, draw=draw)
        for family in merged:
            tree = linked(mini, family, field, k)
            yield family, f"{family}{fineness}.{draw}", cut(tree, mini, k, least=least)
            if draw % 2 and fineness == FINENESS[-1] and tree is not None:
                yield family, f"{family}{fineness}.{draw}free", cut_tree(tree, k)[mini.labels]

    def made(job: tuple[Any, int, int]) -> list[tuple[str, str, NDArray[np.int64]]]:
        make, which, time = job
        with one_blas_thread():
            return list(make(which, time))

    jobs: list[tuple[Any, int, int]] = []
    if "kmeans" in families:
        jobs += [(partitioned, *one) for one in enumerate(DIFFUSION)]
    if merged:
        jobs += [(joined, *one) for one in zip(FINENESS, DIFFUSION, strict=True)]
    _ = field.edges, field.affinity  # made once, before several threads ask for them
    return [start for found in in_threads(made, jobs, most=len(jobs)) for start in found]


def linked(
    mini: MiniClusters, family: str, field: RefinementContext, n_clusters: int
) -> NDArray[np.int64] | None:
    """Return the merge tree of mini-clusters, None where there are no more than clusters."""
    return merge_tree(mini, family, field.edges) if len(mini.sizes) > n_clusters else None


def cut(
    tree: NDArray[np.int64] | None, mini: MiniClusters, n_clusters: int, *, least: float
) -> NDArray[np.int64]:
    """Return labels (n,) of the cut tree, no cluster under the share `least` of a balanced one."""
    if tree is None:
        return mini.labels
    rows = max(2.0, least * float(mini.sizes.sum()) / n_clusters)
    return condensed_cut(tree, mini.sizes, n_clusters, least=rows)[mini.labels]


def _mini(
    field: RefinementContext, n_mini: int, time: int, *, seed: int, draw: int
) -> tuple[MiniClusters, float]:
    """Return mini-clusters of diffused rows, and the least share of a cluster of them.

    Those of the first draw are of k-means, whose centroids go where many rows are; those of the
    next are nodes of the graph, of which small groups keep their own, so clusters may be smaller.
    """
    rows = field.diffused[time].rows
    if draw % 2 == 0:
        # Eight rounds: they only have to be small, and linkage joins what they cut apart.
        found = mini_clusters(rows, n_mini, seed=seed, max_iter=8, weights=field.weights)
        return found, LEAST_SHARE
    node = coarsen(field.affinity, n_mini, sizes=field.weights)
    return grouped(rows, node, weights=field.weights), LEAST_SHARE_OF_NODES
