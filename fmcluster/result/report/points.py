"""Where each row is on a map, whatever there is of it: embeddings, the graph, or clusters alone.

Of many rows an even sample is laid out, and the others go to the mean of their neighbors: a second
or two, and rows that are alike still lie together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmcluster.result.report.layout import neighbor_layout
from fmcluster.result.report.projection import framed, project
from fmcluster.utils.random import seed_of
from fmcluster.vectors.rows import sample_indices

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# Rows that are laid out by themselves: a second or two.
LAID_OUT = 20_000
# Passes of the mean over neighbors: what no laid-out row reaches by then goes to its cluster.
PASSES = 4
# How far apart rows lie that go to one place, of a map of side one: as far as points are large.
APART = 0.004
# Neighbors that a place is the mean of: more blur it.
N_AROUND = 8


def lay_out(result: ClusterResult) -> NDArray[np.floating]:
    """Return points (n, 2) of all rows, in [0, 1], neighbors together."""
    n = result.n_rows
    if result.embeddings is None:
        start = by_clusters(result)
        if result.graph is None or n > LAID_OUT:
            return start
        return framed(neighbor_layout(result.graph, start))
    if n <= LAID_OUT:
        return project(result, np.arange(n), method="neighbours")
    if result.graph is None:
        return project(result, np.arange(n), method="pca")
    rows = sample_indices(result.labels, LAID_OUT, seed_of(0, "map"))
    points = np.full((n, 2), np.nan)
    points[rows] = project(result, rows, method="neighbours")
    return spread(points, result)


def spread(points: NDArray[np.floating], result: ClusterResult) -> NDArray[np.floating]:
    """Return points (n, 2) in which rows without one (NaN) lie among their neighbors that have one.

    Parameters
    ----------
    points : (n, 2)
        Those known, NaN elsewhere; not changed.
    result : ClusterResult
        The rows. Without a graph, and where no neighbor is known, a row goes among its cluster's.
    """
    points = np.array(points, np.float64)
    rng = _generator()
    for _ in range(PASSES if result.graph is not None else 0):
        lost = np.flatnonzero(np.isnan(points[:, 0]))
        if not len(lost):
            return points
        assert result.graph is not None
        around = points[result.graph.indices[lost, :N_AROUND]]
        known = ~np.isnan(around[..., 0])
        total = np.where(known[..., None], around, 0).sum(axis=1)
        count = known.sum(axis=1)
        placed = count > 0
        mean = total[placed] / count[placed, None]
        points[lost[placed]] = mean + rng.normal(scale=APART, size=mean.shape)
    lost = np.flatnonzero(np.isnan(points[:, 0]))
    if len(lost):
        points[lost] = _of_cluster(points, result.labels, lost)
        # Wider than around neighbors: of these rows the cluster is all that is known.
        points[lost] += rng.normal(scale=4 * APART, size=(len(lost), 2))
    return points


def by_clusters(result: ClusterResult) -> NDArray[np.floating]:
    """Return every cluster around a place of its own on a circle: there is nothing else to show."""
    turn = 2 * np.pi * np.maximum(result.labels, 0) / max(result.n_clusters, 1)
    start = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    # Wider, and neighbors on the circle run together; narrower, and rows lie on each other.
    return framed(start + _generator().normal(scale=0.1, size=start.shape))


def _of_cluster(
    points: NDArray[np.floating], labels: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.floating]:
    """Return the middle of what is known of each row's cluster, else that of everything."""
    known = np.flatnonzero(~np.isnan(points[:, 0]))
    if not len(known):
        return np.full((len(rows), 2), 0.5)
    k = int(labels.max()) + 2
    place = labels + 1  # no cluster is one, too
    count = np.bincount(place[known], minlength=k)
    sums = np.stack(
        [np.bincount(place[known], points[known, axis], minlength=k) for axis in (0, 1)], axis=1
    )
    middle = sums / np.maximum(count, 1)[:, None]
    middle[count == 0] = points[known].mean(axis=0)
    return np.asarray(middle[place[rows]])


def _generator() -> np.random.Generator:
    return np.random.default_rng(seed_of(0, "map"))
