r"""Every row's near rows by cells: a row is compared with those of the cells that are near it.

An inverted file answers single queries and reads its vectors one at a time. For a graph all rows
ask at once: those of a cell and the cells beside it are one matrix product, and so are a farther
cell and all the rows that look into it, which is several times as fast a comparison (`exact`).

A row looks into the cells whose center is at most :math:`\delta` of cosine farther from it than
that of its own cell: a row amid its cell into few, a row at a border into more. How large
:math:`\delta` is follows from a sample of rows whose true neighbors are known, without a search:
the cell of a true neighbor tells from where on it is found.

Reference: Sivic and Zisserman, "Video Google" (ICCV 2003), for the inverted file; cells are those
of spherical k-means.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix

from fmcluster.utils.progress import bar
from fmcluster.utils.random import seed_of
from fmcluster.utils.stopping import in_threads
from fmcluster.vectors.exact import BLOCK_BYTES, MOST_THREADS, nearest_among, nearest_to
from fmcluster.vectors.faiss_index import faiss_module, n_cells, one_blas_thread
from fmcluster.vectors.rows import iter_blocks, sample_indices, unit_rows
from fmcluster.vectors.search import RecallSample

logger = logging.getLogger(__name__)
# Rounds of k-means for the cells and rows of each: of a million rows, half as many rounds and rows
# as faiss takes for an inverted file left a row 1.5 % of the others to look at, as those do.
ROUNDS, ROWS_PER_CELL = 5, 32
# Cells near a cell that all of its rows look into: what they hold bounds what farther cells may add
# (a million rows: 173, 154, 140 CPU seconds with 4, 8, 16).
CLOSE_CELLS = 16
# Rows that look for neighbors at a time: who looks where takes some hundred bytes for each.
SLAB_ROWS = 2**18
# Values that are sorted at a time: one far row may have found thousands.
JOINED_VALUES = 2**19
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Cells:
    """Unit rows in the order of their cells.

    Attributes
    ----------
    rows : (n, d) float32
        Unit rows, those of a cell beside each other.
    order : (n,) int64
        Which row of the data each of them is.
    first : (c + 1,) int64
        Where the rows of each cell begin.
    centers : (c, d) float32
        Unit length.
    """

    rows: Floats
    order: NDArray[np.int64]
    first: NDArray[np.int64]
    centers: Floats

    @property
    def kind(self) -> type[np.signedinteger[Any]]:
        """Type of row numbers."""
        return np.int32 if len(self.rows) < 2**31 else np.int64

    @classmethod
    def fit(cls, X: Any, *, seed: int) -> Cells:
        """Part the rows of `X` (n, d) into cells of spherical k-means of a sample."""
        centers = _centers(X, seed)
        cell = np.empty(X.shape[0], np.int64)
        for start, block in iter_blocks(X):
            cell[start : start + len(block)] = nearest_to(block, centers, 1)[1][:, 0]
        size = np.bincount(cell, minlength=len(centers))
        order = np.argsort(cell, kind="stable")
        rows = np.empty(X.shape, np.float32)
        place = _inverse(order)
        for start, block in iter_blocks(X):
            rows[place[start : start + len(block)]] = block
        return cls(rows, order, np.r_[0, np.cumsum(size)], centers)

    def gaps(self, sample: RecallSample) -> tuple[Floats, Floats]:
        """Return from which gap on a row looks into each cell (m, c), finds each neighbor (m, k).

        Minus infinity stands for always: where they are close by.
        """
        place = _inverse(self.order)
        own, other = (
            np.searchsorted(self.first, place[rows], side="right") - 1
            for rows in (sample.rows, sample.truth)
        )
        cosine = sample.queries @ self.centers.T
        gap = np.take_along_axis(cosine, own[:, None], axis=1) - cosine
        for row, cell in enumerate(own):
            gap[row, self._near(cell, 1)] = -np.inf
        return gap, np.take_along_axis(gap, other, axis=1)

    def share(self, gaps: Floats, gap: float) -> float:
        """Return which share of all rows a row looks into on the mean, by its `gaps` to cells."""
        return float(((gaps <= gap) @ np.diff(self.first)).mean()) / len(self.rows)

    def neighbors(self, gap: float, k: int) -> tuple[NDArray[Any], Floats]:
        """Return (indices, cosines), each (n, k), of the nearest in the cells within `gap`.

        The cells that are nearest to a row's own are looked into whatever the gap.
        """
        n = len(self.rows)
        cosines = np.empty((n, k), np.float32)
        indices = np.empty((n, k), self.kind)
        with one_blas_thread(), bar(total=n, description="neighbors") as shown:
            for cells in self._slabs():
                part = slice(self.first[cells.start], self.first[cells.stop])
                found, places = self._nearest(cells, gap, k)
                cosines[self.order[part]], indices[self.order[part]] = found, self.order[places]
                shown.update(part.stop - part.start)
        return indices, np.clip(cosines, -1.0, 1.0, out=cosines)

    def _slabs(self) -> list[range]:
        """Return cells beside each other that have about `SLAB_ROWS` rows together."""
        number = self.first[:-1] // SLAB_ROWS
        edges = np.r_[0, np.flatnonzero(np.diff(number)) + 1, len(self.centers)]
        return [range(a, b) for a, b in zip(edges, edges[1:], strict=False)]

    def _nearest(self, cells: range, gap: float, k: int) -> tuple[Floats, NDArray[np.int64]]:
        """Return (cosines, places among the ordered rows) of the nearest of the rows of cells."""
        parts = in_threads(lambda cell: self._close(cell, gap, k), cells, most=MOST_THREADS)
        found, places, who, where = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.argsort(where, kind="stable")
        lookers = who[order]
        edges = np.searchsorted(where, np.arange(len(self.centers) + 1), sorter=order)
        bound = found[:, -1]
        first = self.first[cells.start]

        def farther(cell: int) -> tuple[NDArray[Any], Floats, NDArray[Any]]:
            rows = lookers[edges[cell] : edges[cell + 1]]
            return self._above(rows, cell, bound, first)

        parts = in_threads(farther, range(len(self.centers)), most=MOST_THREADS)
        who, value, place = (np.concatenate(part) for part in zip(*parts, strict=True))
        return _joined(found, places, who, value, place)

    def _close(self, cell: int, gap: float, k: int) -> tuple[Any, ...]:
        """Return the nearest rows in the cells nearest to one, and who looks into which others."""
        start, stop = self.first[cell : cell + 2]
        asking = self.rows[start:stop]
        near = self._near(cell, k + 1)
        columns = np.concatenate([np.arange(*self.first[c : c + 2]) for c in near])
        around = self.rows[columns]
        step = max(1, BLOCK_BYTES // (4 * len(columns)))
        found = np.empty((len(asking), k), np.float32)
        places = np.empty((len(asking), k), np.int64)
        who, where = [np.empty(0, self.kind)], [np.empty(0, self.kind)]
        for at in range(0, len(asking), step):
            part = slice(at, at + step)
            # The cell's own rows come first: row i is column i.
            found[part], column = nearest_among(asking[part], around, k, first=at)
            places[part] = columns[column]
            cosine = asking[part] @ self.centers.T
            looks = cosine >= cosine[:, cell, None] - gap
            looks[:, near] = False
            flat = np.flatnonzero(looks)
            who.append((start + at + flat // looks.shape[1]).astype(self.kind))
            where.append((flat % looks.shape[1]).astype(self.kind))
        return found, places, np.concatenate(who), np.concatenate(where)

    def _near(self, cell: int, n_rows: int) -> NDArray[np.int64]:
        """Return the `CLOSE_CELLS` nearest to a cell or what holds `n_rows`, itself first."""
        cosine = self.centers @ self.centers[cell]
        cosine[cell] = np.inf
        near = np.argsort(-cosine, kind="stable")
        enough = int(np.searchsorted(np.cumsum(np.diff(self.first)[near]), n_rows)) + 1
        return near[: max(CLOSE_CELLS, enough)]

    def _above(
        self, rows: NDArray[Any], cell: int, bound: Floats, first: int
    ) -> tuple[NDArray[Any], Floats, NDArray[Any]]:
        """Return (who, cosine, place) of the cell's rows that are nearer to some than `bound`."""
        start, stop = self.first[cell : cell + 2]
        size = int(stop - start)
        step = max(1, BLOCK_BYTES // (4 * max(size, 1)))
        who, place = [np.empty(0, self.kind)], [np.empty(0, self.kind)]
        value = [np.empty(0, np.float32)]
        for at in range(0, len(rows) if size else 0, step):
            some = rows[at : at + step]
            cosine = self.rows[some] @ self.rows[start:stop].T
            hits = np.flatnonzero(cosine > bound[some - first, None])
            who.append((some[hits // size] - first).astype(self.kind))
            value.append(cosine.ravel()[hits])
            place.append((start + hits % size).astype(self.kind))
        return np.concatenate(who), np.concatenate(value), np.concatenate(place)


def _joined(
    found: Floats,
    places: NDArray[np.int64],
    who: NDArray[Any],
    value: Floats,
    place: NDArray[Any],
) -> tuple[Floats, NDArray[np.int64]]:
    """Return the k nearest of each row, of those so far and of what was found beside them."""
    m, k = found.shape
    # A sparse matrix puts them row by row in linear time; nothing is found twice.
    beside = coo_matrix((value, (who, place)), shape=(m, int(place.max(initial=0)) + 1))
    beside.has_canonical_format = True
    found_of = beside.tocsr()
    count = np.diff(found_of.indptr)

    def some(rows: NDArray[np.int64]) -> None:
        n, first = count[rows], found_of.indptr[rows]
        row = np.repeat(np.arange(len(rows)), n)
        place_in = np.arange(len(row)) - np.repeat(np.cumsum(n) - n, n)
        at = first[row] + place_in
        cosine = np.full((len(rows), k + int(n.max())), -np.inf, np.float32)
        spot = np.zeros(cosine.shape, np.int64)
        cosine[:, :k], spot[:, :k] = found[rows], places[rows]
        cosine[row, k + place_in], spot[row, k + place_in] = found_of.data[at], found_of.indices[at]
        order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
        found[rows] = np.take_along_axis(cosine, order, axis=1)
        places[rows] = np.take_along_axis(spot, order, axis=1)

    for _ in in_threads(some, list(_alike(count + k)), most=MOST_THREADS):
        pass
    return found, places


def _alike(width: NDArray[Any]) -> Iterator[NDArray[np.int64]]:
    """Yield rows that are about as wide as each other, `JOINED_VALUES` together."""
    widest = np.argsort(-width, kind="stable")
    at = 0
    while at < len(widest):
        size = max(1, JOINED_VALUES // int(width[widest[at]]))
        yield widest[at : at + size]
        at += size


def _inverse(order: NDArray[np.int64]) -> NDArray[np.int64]:
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return place


def _centers(X: Any, seed: int) -> Floats:
    """Return unit centers (c, d) of spherical k-means of a sample."""
    faiss = faiss_module()
    cells = n_cells(X.shape[0])
    some = sample_indices(X, min(X.shape[0], ROWS_PER_CELL * cells), seed_of(seed, "index"))
    rows = unit_rows(np.asarray(X[some]))
    cells = min(cells, len(rows))
    clustering = faiss.Clustering(X.shape[1], cells)
    clustering.niter, clustering.spherical = ROUNDS, True
    clustering.seed = seed_of(seed, "cells") % 2**31
    clustering.min_points_per_centroid = 1
    clustering.max_points_per_centroid = len(rows)
    clustering.train(rows, faiss.IndexFlatIP(X.shape[1]))
    return unit_rows(faiss.vector_to_array(clustering.centroids).reshape(cells, -1))


def neighbors_by_cells(
    X: Any, k: int, *, target: float, seed: int, most_share: float = 1.0
) -> tuple[NDArray[Any], Floats, float] | None:
    """Return (indices, cosines, recall) of every row's near rows; None where pairs are sooner.

    Parameters
    ----------
    X : (n, d) array-like
        Rows, whose unit rows fit into memory once.
    k : int
        In 1..n-1.
    target : float
        Share of the true neighbors to find, on half of a sample; that of the other half is told.
    seed : int
        Of the cells and of the sample.
    most_share : float
        Share of all pairs above which the answer is None.
    """
    cells = Cells.fit(X, seed=seed)
    sample = RecallSample.draw(X, k, seed=seed_of(seed, "recall"))
    to_cells, to_truth = cells.gaps(sample)
    tuned, told = np.split(to_truth, [len(to_truth) // 2])
    gap = float(np.quantile(tuned, target, method="higher"))
    recall, share = float((told <= gap).mean()), cells.share(to_cells, gap)
    if share > most_share:
        logger.info("neighbors: %.3f of them lie within %.2f of all pairs", target, share)
        return None
    logger.info("neighbors: in %.4f of the rows, recall@%d %.3f", share, k, recall)
    return *cells.neighbors(gap, k), recall
