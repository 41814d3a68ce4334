"""Two dimensions for the map: by neighbors, by linear components, or UMAP. Display only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.partition.mini_clusters import group_sums
from fmcluster.result.report.layout import N_NEIGHBORS, neighbor_layout
from fmcluster.utils.optional import require
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import space_list, unit_rows

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# What the frame is made for, and the part of a side beyond it on which the rest is drawn.
FRAME, EDGE = (0.002, 0.998), 0.05
# The largest number of two bytes: finer than the points of any screen.
FULL = 65_535
# Fewer points than this have no picture to speak of.
LEAST_ROWS = 30


def project(result: ClusterResult, rows: NDArray[np.int64], *, method: str) -> NDArray[Any]:
    """Return points (m, 2) in [0, 1] of the given rows.

    Parameters
    ----------
    result : ClusterResult
        With its embeddings.
    rows : (m,)
        Row numbers.
    method : {"neighbours", "pca", "umap"}
        "neighbours" keeps neighbours together; "pca" takes the two directions along which the
        cluster centers differ most, and keeps distances; "umap" needs umap-learn.
    """
    x = np.concatenate([unit_rows(space[rows]) for space in space_list(result.embeddings)], axis=1)
    if method == "umap":
        umap = require("umap", extra="report", package="umap-learn")
        # UMAP's own default.
        points = umap.UMAP(n_neighbors=15, random_state=0).fit_transform(x)
    else:
        points = _principal(x, result.labels[rows])
        if method == "neighbours" and len(rows) > LEAST_ROWS:
            points = neighbor_layout(_graph(result, rows, x), points)
    return framed(points)


def framed(points: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return points (m, 2) in [0, 1]; a few that lie far out are drawn towards the others.

    Cut off at the frame, they would be one line there; given their room, the others would be small.
    """
    low, high = np.quantile(points, FRAME, axis=0)
    x = (points - low) / np.maximum(high - low, 1e-12)
    out = np.maximum(np.maximum(-x, x - 1), 0)
    beyond = EDGE * (1 - np.exp(-out / EDGE))
    inside = np.clip(x, 0, 1) + np.sign(x - 0.5) * beyond
    return np.asarray((inside + EDGE) / (1 + 2 * EDGE))


def whole(points: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Return points of [0, 1] as 0..65535."""
    return np.rint(FULL * np.clip(points, 0, 1)).astype(np.uint16)


def _graph(result: ClusterResult, rows: NDArray[np.int64], x: NDArray[np.float32]) -> KNNGraph:
    """Return the result's own graph where all rows are shown, else that of the sample."""
    if result.graph is not None and len(rows) == result.graph.n_rows:
        return result.graph
    return KNNGraph.build(x, k=N_NEIGHBORS)


def _principal(x: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[Any]:
    """Project on the two leading directions between the cluster centers."""
    present, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    centers = group_sums(x, inverse, len(present)) / counts[:, None]
    basis = centers if len(present) > 2 else x.astype(np.float64)
    _, _, directions = np.linalg.svd(basis - basis.mean(axis=0), full_matrices=False)
    directions = directions[:2]
    if len(directions) < 2:
        directions = np.vstack([directions, np.zeros_like(directions)])[:2]
    return (x - x.mean(axis=0)) @ directions.T
