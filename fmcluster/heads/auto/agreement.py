r"""How often partitions of two halves of the data say the same: what bounds their accuracy.

Linkage of mini-clusters cuts either half of the rows, refined on its own part of the graph, and
each half's clusters are carried to all rows by the nearest centroid. If both are right on a share a
of the rows, they agree on about :math:`a^2` of them where they err independently, and on a where
they make the same errors: :math:`a^{4/3}` was nearest. But half a cluster of a dozen rows is
hardly one, so with r rows a cluster the expected share is that of the votes times the agreement to
the power :math:`\tfrac34 \, r^2 / (r^2 + 15^2)`. It knows what votes of one data set cannot: that
fine clusters come out otherwise of other rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.assignment import agreement
from fmcluster.heads.auto.starts import cut, linked
from fmcluster.partition.halves import of_halves
from fmcluster.partition.kmeans import nearest_centroid
from fmcluster.partition.mini_clusters import MINI_PER_CLUSTER, group_sums, mini_clusters
from fmcluster.partition.refine import LEAST_SHARE, RefinementContext, refine
from fmcluster.partition.scores import edges_between
from fmcluster.vectors.rows import unit_rows

Ints = NDArray[np.int64]

# Errors of two halves that were independent would make it 1/2, the same errors 1; between them the
# mean error of the level was least (log, 34).
POWER = 0.75
# Rows a cluster at which half of that power is left: log, 41.
ROWS_TO_BE_FOUND = 15


def split_agreement(
    context: RefinementContext, n_clusters: int, *, seed: int, linkages: Sequence[str] = ("ward",)
) -> float:
    """Return the share of rows on which partitions of two halves agree, 0..1.

    Of several linkages that counts which agrees best: no family is right for all data.
    """
    n = len(context.rows)
    # Halves of fewer than two rows a cluster have nothing to agree on.
    if n < 4 * n_clusters:
        return 1.0
    _ = context.smoothing, context.mass  # made once, before both halves ask for them
    found = of_halves(
        n, lambda half: _carried(context, half, n_clusters, linkages, seed), seed=seed
    )
    pairs = zip(*found, strict=True)
    return max(agreement(first, second, n_clusters, context.mass) for first, second in pairs)


def discount(agreed: float, rows_per_cluster: float) -> float:
    """Return what agreement of halves leaves of the mean vote, 0..1."""
    r = rows_per_cluster**2
    return agreed ** (POWER * r / (r + ROWS_TO_BE_FOUND**2))


def _carried(
    context: RefinementContext, half: Ints, k: int, linkages: Sequence[str], seed: int
) -> list[Ints]:
    """Return the clusters of all rows by partitions of some of them, one a linkage."""
    part, m = part_of(context, half), len(half)
    # Of three rows each, as fewer have no mean; of few clusters a hundred, of four rows.
    n_mini = max(min(MINI_PER_CLUSTER * k, m // 3), min(100, m // 4), k)
    # Eight rounds: they only have to be small, and linkage joins what they cut apart.
    mini = mini_clusters(part.rows, n_mini, seed=seed, max_iter=8, weights=part.weights)
    found = []
    for linkage in linkages:
        start = cut(linked(mini, linkage, part, k), mini, k, least=LEAST_SHARE)
        labels = refine(part, start, k).argmax(axis=1)
        sums = group_sums(part.rows, labels, k, weights=part.weights)
        found.append(nearest_centroid(context.rows, unit_rows(sums)))
    return found


def part_of(context: RefinementContext, rows: Ints) -> RefinementContext:
    """Return the context of some of the rows (ascending), with the edges between them."""
    weights = None if context.weights is None else context.weights[rows]
    part = RefinementContext(context.rows[rows], context.graph, context.seed, weights=weights)
    near = context.smoothing[rows][:, rows].tocsr()
    total = np.asarray(near.sum(axis=1)).ravel()
    lonely = np.flatnonzero(total <= 0)
    if len(lonely):  # a row without a neighbor here is its own
        near = near.tolil()
        near[lonely, lonely] = 1
        near = near.tocsr()
        total[lonely] = 1
    near.data = (near.data / np.repeat(total, np.diff(near.indptr))).astype(np.float32)
    part.smoothing = near
    part.edges = edges_between(context.edges, rows)
    return part
