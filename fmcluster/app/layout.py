"""Where each row is on the map: found once, then kept beside the result, for looking only.

A page that moved its points with every answer could not be found one's way in, so the first layout
stays. Rows that come later are put among their neighbors.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmcluster.result.report.points import by_clusters, lay_out, spread
from fmcluster.result.report.projection import FULL, project, whole
from fmcluster.utils.files import atomic_path, read_array

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult


def points_of(result: ClusterResult, folder: Path) -> NDArray[np.uint16]:
    """Return the points (n, 2) of all rows, 0..65535, and keep them in the run folder."""
    points = kept_points(result, folder)
    if points is None:
        points = whole(lay_out(result))
        keep(points, result, folder)
    return points


def with_new_rows(
    points: NDArray[np.uint16], grown: ClusterResult, folder: Path
) -> NDArray[np.uint16]:
    """Return the points of a result that grew: the old ones, and new rows among their neighbors.

    Parameters
    ----------
    points : (n, 2)
        Of its first n rows.
    grown : ClusterResult
        The result with the new rows after them.
    folder : Path
        The run, where they are kept.
    """
    known = np.full((grown.n_rows, 2), np.nan)
    known[: len(points)] = points / FULL
    found = whole(spread(known, grown))
    found[: len(points)] = points
    keep(found, grown, folder)
    return found


def keep(points: NDArray[np.uint16], result: ClusterResult, folder: Path) -> None:
    """Write the points of a result into the run folder."""
    with atomic_path(_path(result, folder)) as temporary, temporary.open("wb") as file:
        np.save(file, points, allow_pickle=False)


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
        return whole(by_clusters(result))
    return whole(project(result, np.arange(result.n_rows), method="pca"))


def _path(result: ClusterResult, folder: Path) -> Path:
    # Eight bytes: that other ids have the same is a matter of billions of results.
    key = hashlib.blake2b(repr(result.ids.dtype).encode() + result.ids.tobytes(), digest_size=8)
    return folder / f"map-{key.hexdigest()}.npy"
