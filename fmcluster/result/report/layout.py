r"""A map by neighbors: points that are neighbors attract, random pairs repel.

The objective is that of UMAP (McInnes, Healy, Melville 2018) with its curve fixed to
:math:`(1 + d^2)^{-1}` and equal edge weights, minimised for all points at once:

.. math:: \sum_{(i,j) \in E} \log(1 + d_{ij}^2)
          + \gamma \sum_{(i,j) \notin E} \log\frac{1 + d_{ij}^2}{d_{ij}^2}

with the second sum by a few random rows a point and step. It is for looking at, nothing is
computed from it; it takes a second or two where UMAP's own import takes longer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmcluster.vectors.graph import KNNGraph

N_NEIGHBORS = 12  # UMAP's default is 15; fewer keep small clusters apart
N_REPELLED = 5  # UMAP's number of negative samples
# Steps, half of them above so many rows: a second or two for a page's 20,000 points.
STEPS = 150
LARGE = 6_000
REACH = 4.0  # UMAP's own clip of one point's move


def neighbor_layout(graph: KNNGraph, start: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return points (n, 2) in which neighbors of `graph` lie near each other.

    Parameters
    ----------
    graph : KNNGraph
        Neighbors of the n rows.
    start : (n, 2)
        Where points begin: a linear projection keeps the large picture.
    """
    n = graph.n_rows
    k = min(N_NEIGHBORS, graph.k)
    edges = graph.indices[:, :k].astype(np.int64)
    generator = np.random.default_rng(0)
    centered = start - start.mean(axis=0)
    # As UMAP spreads its start: wider, and far points feel no pull; narrower, and all push.
    points = (10 * centered / max(float(np.abs(centered).max()), 1e-9)).astype(np.float32)
    # Rows that start in one place would never part.
    points += generator.normal(scale=1e-2, size=points.shape).astype(np.float32)
    steps = STEPS if n <= LARGE else STEPS // 2
    other = edges.ravel()
    for step in range(steps):
        rate = 1.0 - step / steps
        apart = points[:, None] - points[edges]
        pull = -2 * apart / (1 + (apart**2).sum(axis=2, keepdims=True))
        move = pull.sum(axis=1)
        flat = pull.reshape(-1, 2)
        for axis in (0, 1):
            move[:, axis] -= np.bincount(other, flat[:, axis], minlength=n).astype(np.float32)
        strangers = generator.integers(0, n, size=(n, N_REPELLED))
        apart = points[:, None] - points[strangers]
        square = (apart**2).sum(axis=2, keepdims=True)
        # UMAP's own thousandth: points in one place push, but not without end.
        push = 2 * apart / ((1e-3 + square) * (1 + square))
        move += 2 * k / N_REPELLED * np.clip(push, -REACH, REACH).sum(axis=1)
        points += rate * np.clip(move / k, -REACH, REACH).astype(np.float32)
    return points
