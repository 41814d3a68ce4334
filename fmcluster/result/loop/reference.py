"""What new rows are held against: the rows that have a cluster, or a sample kept with the result.

A result in memory has its embeddings. One that was loaded has a sample of at most `SAMPLE` rows,
written beside it (``reference.npy``: unit rows, all spaces side by side), so that `update` and
`drift` can tell what is unlike anything without the data at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.utils.errors import CorruptShardError
from fmcluster.utils.files import read_array, write_array
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.index import KNNIndex
from fmcluster.vectors.rows import BLOCK_ROWS, JointRows, as_spaces, joint, zero_rows
from fmcluster.vectors.strangeness import N_NEIGHBORS, own_strangeness, strangeness, width_of

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# A p-value down to 0.0005, and 4 MB of 1,000 dimensions.
SAMPLE = 2_000
FILES = ("reference.npy", "reference_rows.npy")


@dataclass(frozen=True)
class Sample:
    """Some rows of a result, kept with it.

    Attributes
    ----------
    rows : (r,) int64
        Their row numbers.
    x : (r, d) float16
        Unit rows, the spaces side by side.
    """

    rows: NDArray[np.int64]
    x: NDArray[np.float16]


@dataclass(frozen=True)
class Reference:
    """Rows that new ones are compared with.

    Attributes
    ----------
    x : (n, d) JointRows or array
        Unit rows, the spaces side by side.
    labels : (n,) int64
        Their clusters, never -1.
    graph : KNNGraph, optional
        Their neighbors, where they are known.
    """

    x: Any
    labels: NDArray[np.int64]
    graph: KNNGraph | None = None

    @cached_property
    def neighbors(self) -> KNNGraph:
        """Their neighbors; found now where they were not known."""
        return self.graph or KNNGraph.build(self.x, k=2 * N_NEIGHBORS)

    @cached_property
    def index(self) -> KNNIndex:
        """Finds the nearest of them."""
        return KNNIndex.build(self.x, k=width_of(self.neighbors))

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """How strange each of them is among the others."""
        return own_strangeness(self.neighbors)

    def strangeness(
        self, x: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return how strange new unit rows (m, d) are, and the cosines to the nearest old ones."""
        width = width_of(self.neighbors)
        out, all_cosines = np.empty(len(x)), np.empty((len(x), width), np.float32)
        for start in range(0, len(x), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            cosines, near = self.index.search(x[rows], width)
            all_cosines[rows] = np.clip(cosines, -1, 1)
            out[rows] = strangeness(self.neighbors, near, all_cosines[rows])
        return out, all_cosines


def reference_of(result: ClusterResult) -> Reference | None:
    """Return what new rows are held against; None where nothing is at hand."""
    if result.embeddings is not None:
        spaces = as_spaces(result.embeddings)
        kept = (result.labels >= 0) & ~zero_rows(spaces)
        x = JointRows(spaces)
        if kept.all() and result.graph is not None and result.graph.n_rows == len(kept):
            return Reference(x, result.labels, result.graph)
        rows = np.flatnonzero(kept)
        return None if len(rows) < 2 else Reference(x[rows], result.labels[rows])
    if result.reference is None:
        return None
    kept = result.labels[result.reference.rows] >= 0
    if kept.sum() < 2:
        return None
    held = result.reference.x[kept].astype(np.float32)
    return Reference(held, result.labels[result.reference.rows[kept]])


def joint_rows(xs: list[Any]) -> NDArray[np.float32]:
    """Return unit rows (m, d) of prepared embeddings, the spaces side by side."""
    return joint([np.asarray(x, np.float32) for x in xs])


def sample_of(result: ClusterResult) -> Sample | None:
    """Return the rows to be kept with a result: an even sample of those with a cluster."""
    if result.embeddings is None:
        return result.reference
    spaces = as_spaces(result.embeddings)
    if spaces[0].n_rows != result.n_rows:
        return None
    rows = np.flatnonzero((result.labels >= 0) & ~zero_rows(spaces))
    rows = rows[_evenly(len(rows))]
    return Sample(rows, JointRows(spaces)[rows].astype(np.float16)) if len(rows) else None


def extended(sample: Sample | None, rows: NDArray[np.int64], x: NDArray[Any]) -> Sample | None:
    """Return a sample with some of the unit rows `x` (m, d), whose row numbers are `rows`."""
    if sample is None:
        return None
    rows = np.concatenate([sample.rows, rows])
    kept = _evenly(len(rows))
    return Sample(rows[kept], np.concatenate([sample.x, x.astype(np.float16)])[kept])


def _evenly(count: int) -> NDArray[np.int64]:
    """Return the places of at most `SAMPLE` of so many rows."""
    return np.unique(np.linspace(0, count - 1, min(SAMPLE, count)).astype(np.int64))


def write_sample(result: ClusterResult, folder: Path) -> None:
    """Write the sample of a result below `folder`; nothing where there is none."""
    sample = sample_of(result)
    if sample is not None:
        write_array(folder / FILES[0], sample.x)
        write_array(folder / FILES[1], sample.rows)


def read_sample(folder: Path, n_rows: int) -> Sample | None:
    """Read what `write_sample` wrote; None where it wrote nothing, as version 0.1."""
    if not all((folder / name).is_file() for name in FILES):
        return None
    x, rows = (read_array(folder / name) for name in FILES)
    fits = x.ndim == 2 and rows.shape == (len(x),) and rows.dtype.kind == "i"
    if not fits or not len(rows) or rows.min() < 0 or rows.max() >= n_rows:
        raise CorruptShardError(f"{folder}/{FILES[0]} is of other rows: save the result again")
    return Sample(rows.astype(np.int64), x)
