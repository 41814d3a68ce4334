r"""How far an index is searched, a second look at what it finds, and how well it finds.

*Second look.* Codes are for finding candidates: the best of them are compared again, by unit rows
of four bytes a value, of one byte, or not at all, whichever the memory holds (`Refiner`).

*How far.* The number of cells (and candidates) is the smallest whose recall on half of a sample of
rows reaches the target; the other half tells the recall that is reported. Where no effort of a
family reaches it, the next family is filled (`found_index`): in sixty separable clusters of 300,000
rows and 64 dimensions codes of two dimensions found 45 in a hundred neighbors, vectors in the
cells 98 in less time. Last come all pairs, by matrix products.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.utils.random import seed_of
from fmcluster.utils.stopping import in_threads
from fmcluster.vectors.exact import MOST_THREADS, nearest_to
from fmcluster.vectors.faiss_index import (
    faiss_module,
    filled_index,
    flat_rows,
    index_bytes,
    look_into,
    memory_budget,
    n_cells,
    n_gpus,
)
from fmcluster.vectors.rows import all_unit_rows, iter_blocks, sample_indices, unit_rows

logger = logging.getLogger(__name__)
# Half of them tune and half report: a recall of 0.95 is known to one point.
RECALL_SAMPLE = 1_000
# Votes of neighbors lose under a point at it (benchmarks/results/graphs.md).
TARGET_RECALL = 0.95
# Queries a thread takes: each gathers all its candidates' rows.
REFINE_ROWS = 256
# (cells or breadth, candidates a neighbor), cheapest first.
EFFORTS = {
    "hnsw": [(32, 1), (64, 1), (128, 1), (256, 1), (512, 1), (1024, 1)],
    "ivf": [(8, 1), (16, 1), (32, 1), (64, 1), (128, 1), (256, 1), (512, 1), (1024, 1)],
    "ivfpq": [(8, 4), (16, 4), (16, 8), (32, 8), (64, 8), (64, 16), (128, 16)],
}
# Of codes alone, where memory holds no vectors to compare instead: vectors in the cells are sooner.
FAR_EFFORTS = [(128, 64), (256, 128), (512, 256)]
# Looking into a larger share of the cells takes longer than all pairs by matrix products: 0.8 ms a
# query for an eighth of 300,000 rows of 64 dimensions as for all of them.
CELLS_SHARE = 8
# All pairs of so many rows take a core an hour: above, what was found is taken with a warning.
MOST_PAIRS_ROWS = 1_000_000


@dataclass
class Refiner:
    """Unit rows for the second look at candidates, in as many bytes as there is room for.

    Attributes
    ----------
    values : (n, d) float32 or int8
        Unit rows, or their values divided by `scale`.
    scale : (n,) float32 or None
        Of each int8 row.
    """

    values: NDArray[Any]
    scale: NDArray[np.float32] | None = None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by the names of the fields."""
        return {name: values for name, values in vars(self).items() if values is not None}

    @classmethod
    def fit(cls, X: Any, memory_bytes: int) -> Refiner | None:
        """Copy the unit rows of `X` into at most `memory_bytes`; None where even int8 does not."""
        n_rows, n_dims = X.shape
        if n_rows * n_dims * 4 <= memory_bytes:
            return cls(all_unit_rows(X))
        if n_rows * (n_dims + 4) > memory_bytes:
            return None
        values, scale = np.empty((n_rows, n_dims), np.int8), np.empty(n_rows, np.float32)
        for start, block in iter_blocks(X):
            stop = start + len(block)
            scale[start:stop] = np.maximum(np.abs(block).max(axis=1), 1e-30) / 127
            values[start:stop] = np.rint(block / scale[start:stop, None])
        return cls(values, scale)

    def best(
        self, queries: NDArray[np.float32], ids: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the `k` best (cosines, ids) of the candidates `ids` (m, c); -1 stays last."""

        def part(start: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            rows = slice(start, start + REFINE_ROWS)
            return self._best(queries[rows], ids[rows], k)

        starts = range(0, len(queries), REFINE_ROWS)
        cosines, found = zip(*in_threads(part, starts, most=MOST_THREADS), strict=True)
        return np.concatenate(cosines), np.concatenate(found)

    def _best(
        self, queries: NDArray[np.float32], ids: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        rows = self.values.take(ids, axis=0, mode="clip").astype(np.float32, copy=False)
        cosines = np.einsum("id,ijd->ij", queries, rows)
        if self.scale is not None:
            cosines *= self.scale.take(ids, mode="clip")
        cosines[ids < 0] = -np.inf
        top = np.argpartition(-cosines, min(k, ids.shape[1]) - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(cosines, top, 1), axis=1, kind="stable")
        top = np.take_along_axis(top, order, 1)
        return np.take_along_axis(cosines, top, 1), np.take_along_axis(ids, top, 1)


@dataclass(frozen=True)
class RecallSample:
    """Rows whose nearest others are known: what an index is tuned and judged on.

    Attributes
    ----------
    rows : (m,) int64
        Row numbers, in random order: the first half tunes, the other reports.
    queries : (m, d) float32
        Their unit rows.
    truth : (m, k) int64
        Their nearest others.
    """

    rows: NDArray[np.int64]
    queries: NDArray[np.float32]
    truth: NDArray[np.int64]

    @classmethod
    def draw(cls, X: Any, k: int, *, seed: int) -> RecallSample:
        """Draw rows of `X` and find their `k` nearest others among all."""
        rows = sample_indices(X, RECALL_SAMPLE, seed)
        rows = np.random.default_rng(seed_of(seed, "halves")).permutation(rows)
        return cls(rows, *true_neighbors(X, rows, k))

    def half(self, number: int) -> RecallSample:
        """Return the first half or the other."""
        cut = len(self.rows) // 2
        part = slice(cut, None) if number else slice(0, cut)
        return RecallSample(self.rows[part], self.queries[part], self.truth[part])


@dataclass
class Searcher:
    """A filled index, how far it searches, and the second look.

    Attributes
    ----------
    index : faiss.Index
        Over unit rows.
    method : str
        Its family.
    effort : (int, int)
        Cells (or breadth of the graph search), candidates a neighbor.
    refiner : Refiner or None
        Compares candidates again.
    """

    index: Any = field(repr=False)
    method: str
    effort: tuple[int, int] = (1, 1)
    refiner: Refiner | None = field(default=None, repr=False)

    def __call__(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return (cosines, ids), each (m, k), of unit rows; -1 where fewer were found."""
        reach, factor = self.effort
        if self.method == "exact" and not n_gpus(faiss_module()):
            return nearest_to(queries, flat_rows(self.index), k)
        if self.method == "hnsw":
            self.index.hnsw.efSearch = max(reach, k)
        elif self.method != "exact":
            look_into(self.index, reach)
        if self.refiner is None:
            return self.index.search(queries, k)
        _, ids = self.index.search(queries, min(factor * k, self.index.ntotal))
        return self.refiner.best(queries, ids, k)

    def tune(
        self, sample: RecallSample, target: float, *, efforts: Sequence[tuple[int, int]]
    ) -> bool:
        """Take the least effort that finds `target` of the true neighbors; tell whether one did."""
        half = sample.half(0)
        for effort in efforts:
            self.effort = effort
            if self.recall(half) >= target:
                return True
        return False

    def recall(self, sample: RecallSample) -> float:
        """Return the share of the true neighbors of some rows that are found."""
        k = sample.truth.shape[1]
        _, ids = self(sample.queries, k + 1)
        hits = [
            len(set(found.tolist()) & (set(true.tolist()) - {int(row)}))
            for found, true, row in zip(ids, sample.truth, sample.rows, strict=True)
        ]
        return float(min(1.0, np.mean(hits) / k))


def efforts_of(method: str, n_rows: int, *, last: bool) -> list[tuple[int, int]]:
    """Return how far a family searches, least first.

    Parameters
    ----------
    method : str
        The family.
    n_rows : int
        Rows in the index.
    last : bool
        Whether no other family comes after it: then whatever it can.
    """
    efforts = EFFORTS.get(method, [])
    if last:
        return efforts + (FAR_EFFORTS if method == "ivfpq" else [])
    if method == "ivf":
        return [e for e in efforts if e[0] <= max(efforts[0][0], n_cells(n_rows) // CELLS_SHARE)]
    return efforts


def found_index(
    X: Any,
    families: Sequence[str],
    *,
    k: int,
    target: float,
    memory_bytes: int | None,
    seed: int,
) -> tuple[Searcher, float]:
    """Return an index of the first family that finds `target` of the neighbors, and its recall.

    Where none does, the last one is returned with a warning.

    Parameters
    ----------
    X : (n, d) array-like
        Rows.
    families : sequence of str
        Soonest done first.
    k : int
        Neighbors that are asked for.
    target : float
        Share of the true neighbors.
    memory_bytes : int, optional
        What an index may take.
    seed : int
        Of the training rows and of the sample.
    """
    n_rows, n_dims = X.shape
    sample = None
    for place, method in enumerate(families):
        last = method == families[-1] or (
            families[place + 1] == "exact" and n_rows > MOST_PAIRS_ROWS
        )
        searcher = Searcher(filled_index(X, method, seed=seed_of(seed, "index")), method)
        if method == "ivfpq":
            room = memory_budget(memory_bytes) - index_bytes(n_rows, n_dims, method)
            searcher.refiner = Refiner.fit(X, room)
        if method == "exact":
            return searcher, 1.0
        if sample is None:
            sample = RecallSample.draw(X, k, seed=seed_of(seed, "recall"))
        reached = searcher.tune(sample, target, efforts=efforts_of(method, n_rows, last=last))
        found = searcher.recall(sample.half(1))
        logger.info("neighbors: %s, effort %s, recall@%d %.3f", method, searcher.effort, k, found)
        if reached or last:
            break
        logger.info("%s comes after it: %.2f of the neighbors were asked for", families, target)
    if not reached:
        logger.warning(
            "the %s index finds %.0f%% of the %d nearest neighbors, asked for %.0f%%: give %s",
            *(method, 100 * found, k, 100 * target),
            _advice(n_rows, n_dims, families, memory_bytes),
        )
    return searcher, found


def _advice(n_rows: int, n_dims: int, families: Sequence[str], memory_bytes: int | None) -> str:
    """Return what may be done where no index finds enough."""
    needed = index_bytes(n_rows, n_dims, "ivf")
    if needed > memory_budget(memory_bytes):
        return f"memory_bytes={needed} or more, or method='exact' where time allows"
    return "method='auto', or method='exact' where time allows"


def true_neighbors(
    X: Any, rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the unit rows and the `k` nearest others of some rows, against all rows of `X`."""
    order = np.argsort(rows)
    queries = np.empty((len(rows), X.shape[1]), np.float32)
    queries[order] = unit_rows(np.asarray(X[rows[order]]))
    best = np.full((len(rows), k + 1), -np.inf, np.float32)
    best_ids = np.full((len(rows), k + 1), -1, np.int64)
    for start, block in iter_blocks(X):
        cosines, ids = nearest_to(queries, block, min(k + 1, len(block)))
        cosines = np.concatenate([best, cosines], axis=1)
        ids = np.concatenate([best_ids, ids + start], axis=1)
        top = np.argpartition(-cosines, k, axis=1)[:, : k + 1]
        best, best_ids = np.take_along_axis(cosines, top, 1), np.take_along_axis(ids, top, 1)
    order = np.argsort(-best, axis=1, kind="stable")
    best_ids = np.take_along_axis(best_ids, order, 1)
    # The row itself is pushed to the end, and off it.
    own = best_ids == rows[:, None]
    own[~own.any(axis=1), -1] = True
    return queries, best_ids[~own].reshape(len(rows), k)
