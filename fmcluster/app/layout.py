"""Where each row is on the map: found once, then kept beside the result, for looking only.

A page that moved its points with every answer could not be found one's way in, so the first layout
stays. Of many rows an even sample is laid out and the others go to the mean of their neighbors.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmcluster.result.report.layout import neighbor_layout
from fmcluster.result.report.projection import project
from fmcluster.utils.files import atomic_path, read_array
from fmcluster.utils.random import seed_of

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# Rows that are laid out by themselves: a second or two.
LAID_OUT = 20_000
# Passes of the mean over neighbors: what no laid-out row reaches by then lies in the middle.
PASSES = 4
FULL = 65_535


def points_of(result: ClusterResult, folder: Path) -> NDArray[np.uint16]:
    """Return the points (n, 2) of all rows, 0..65535, and keep them in the run folder."""
    points = kept_points(result, folder)
    if points is None:
        points = _whole(_laid_out(result))
        with atomic_path(_path(result, folder)) as temporary, temporary.open("wb") as file:
            np.save(file, points, allow_pickle=False)
    return points


def kept_points(result: ClusterResult, folder: Path) -> NDArray[np.uint16] | None:
    """Return the points that were kept, ``map-*.npy``; None where there are none of these rows."""
    path = _path(result, folder)
    if not path.is_file():
        return None
    try:
        kept = read_array(path)
    except (OSError, ValueError):
        return None
    return kept if kept.shape == (result.n_rows, 2) and kept.dtype == np.uint16 else None


def quick_points(result: ClusterResult) -> NDArray[np.uint16]:
    """Return points by two linear directions: there at once, until the layout is."""
    if result.embeddings is None:
        return _whole(_by_clusters(result, np.random.default_rng(seed_of(0, "map"))))
    return _whole(project(result, np.arange(result.n_rows), method="pca"))


def _path(result: ClusterResult, folder: Path) -> Path:
    key = hashlib.blake2b(repr(result.ids.dtype).encode() + result.ids.tobytes(), digest_size=8)
    return folder / f"map-{key.hexdigest()}.npy"


def _whole(points: NDArray[np.floating]) -> NDArray[np.uint16]:
    return np.rint(FULL * np.clip(points, 0, 1)).astype(np.uint16)


def _laid_out(result: ClusterResult) -> NDArray[np.floating]:
    n = result.n_rows
    rng = np.random.default_rng(seed_of(0, "map"))
    if result.embeddings is None:
        return _by_graph(result, rng)
    if n <= LAID_OUT or result.graph is None:
        return project(result, np.arange(n), method="neighbours" if n <= LAID_OUT else "pca")
    rows = np.sort(rng.choice(n, LAID_OUT, replace=False))
    points = np.full((n, 2), np.nan)
    points[rows] = project(result, rows, method="neighbours")
    return _spread(points, result.graph.indices, rng)


def _spread(
    points: NDArray[np.floating], near: NDArray[np.integer], rng: np.random.Generator
) -> NDArray[np.floating]:
    """Put rows without a point at the mean of neighbors that have one, a little apart."""
    for _ in range(PASSES):
        lost = np.flatnonzero(np.isnan(points[:, 0]))
        if not len(lost):
            break
        around = points[near[lost, :8]]
        known = ~np.isnan(around[..., 0])
        total = np.where(known[..., None], around, 0).sum(axis=1)
        count = known.sum(axis=1)
        placed = count > 0
        mean = total[placed] / count[placed, None]
        points[lost[placed]] = mean + rng.normal(scale=0.004, size=mean.shape)
    return np.nan_to_num(points, nan=0.5)


def _by_graph(result: ClusterResult, rng: np.random.Generator) -> NDArray[np.floating]:
    """Lay out by the neighbor graph alone, or by clusters where there is not even that."""
    start = _by_clusters(result, rng)
    if result.graph is None or result.n_rows > LAID_OUT:
        return start
    return _scaled(neighbor_layout(result.graph, start))


def _by_clusters(result: ClusterResult, rng: np.random.Generator) -> NDArray[np.floating]:
    """Return every cluster around a place of its own on a circle."""
    turn = 2 * np.pi * np.maximum(result.labels, 0) / max(result.n_clusters, 1)
    start = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return _scaled(start + rng.normal(scale=0.1, size=start.shape))


def _scaled(start: NDArray[np.floating]) -> NDArray[np.floating]:
    low, high = np.quantile(start, [0.002, 0.998], axis=0)
    return np.asarray((start - low) / np.maximum(high - low, 1e-12))
