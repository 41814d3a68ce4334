r"""Approximate neighbors: which index for which data, how far to search, how well it finds.

*Family.* Rows are compared with all others up to `EXACT_ROWS`. Above that, cells of k-means
(an inverted file) are searched nearest first: product codes of half a byte for every two
dimensions (``ivfpq``; Jegou et al., "Product quantization for nearest neighbor search", PAMI 2011;
scanned in registers: Andre et al., VLDB 2015), which come to a given recall sooner than vectors in
the cells (``ivf``); those are for rows of few dimensions. Graph search (``hnsw``) answers single
queries fast but takes long to build; it is there for those who ask.

*Second look.* Codes are for finding candidates: the best of them are compared again, by unit rows
of four bytes a value, of one byte, or not at all, whichever the memory holds (`Refiner`).

*How far.* The number of cells (and candidates) is the smallest whose recall on half of a sample of
rows reaches the target; the other half tells the recall that is reported.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fmcluster.utils.optional import require
from fmcluster.utils.random import seed_of
from fmcluster.vectors.rows import iter_blocks, sample_indices, unit_rows

logger = logging.getLogger(__name__)
# Exact search costs n^2, an index n^1.5 and some recall (docs/scale.md).
EXACT_ROWS = 100_000
# Below this codes are hardly shorter than the vectors.
NARROW_DIMS = 32
# Half of them tune and half report: a recall of 0.95 is known to one point.
RECALL_SAMPLE = 1_000
# Votes of neighbors lose under a point at it (benchmarks/results/graphs.md).
TARGET_RECALL = 0.95
# Below the target by so much is worth a warning.
SHORTFALL = 0.1
# Queries a thread takes: each gathers all its candidates' rows.
REFINE_ROWS = 256
METHODS = ("auto", "exact", "hnsw", "ivf", "ivfpq")
# (cells or breadth, candidates a neighbor), cheapest first.
EFFORTS = {
    "hnsw": [(32, 1), (64, 1), (128, 1), (256, 1)],
    "ivf": [(8, 1), (16, 1), (32, 1), (64, 1), (128, 1)],
    "ivfpq": [(8, 4), (16, 4), (16, 8), (32, 8), (64, 8), (64, 16), (128, 16)],
}


def faiss_module() -> Any:
    """Import faiss, or say how to install it."""
    return require("faiss", extra="cpu", package="faiss (faiss-cpu or faiss-gpu)")


class _Inside:
    """How many threads are inside `one_blas_thread`, and the counts that the first one found."""

    lock = threading.Lock()
    n_threads = 0
    counts: ClassVar[dict[str, int]] = {}


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run matrix products on one thread inside: sums in one order, whatever the machine.

    faiss brings a BLAS of its own, which a limit reaches only once it is loaded: a fit that loaded
    it inside the limit gave other probabilities than the next. A BLAS on OpenMP keeps a count for
    each thread. The others have one for the process, so their limit begins with the first thread
    that comes in and ends with the last that leaves.
    """
    from threadpoolctl import ThreadpoolController

    faiss = faiss_module()
    with _Inside.lock:
        # As OpenMP tells it: such a BLAS reports the count of whoever asked for one last.
        own = faiss.omp_get_max_threads()
        libraries = ThreadpoolController().select(user_api="blas").lib_controllers
        for library in libraries:
            if _Inside.n_threads == 0 or library.filepath not in _Inside.counts:
                _Inside.counts[library.filepath] = library.num_threads
            library.set_num_threads(1)
        _Inside.n_threads += 1
    try:
        yield
    finally:
        with _Inside.lock:
            _Inside.n_threads -= 1
            for library in libraries:
                if getattr(library, "threading_layer", None) == "openmp":
                    library.set_num_threads(own)
                elif _Inside.n_threads == 0:
                    library.set_num_threads(_Inside.counts[library.filepath])


def choose_method(n_rows: int, n_dims: int, *, memory_bytes: int | None = None) -> str:
    """Pick the index family by rows, dimensions and the memory that it would take."""
    fits = index_bytes(n_rows, n_dims, "ivf") <= memory_budget(memory_bytes)
    if fits and n_rows <= EXACT_ROWS:
        return "exact"
    return "ivf" if fits and n_dims < NARROW_DIMS else "ivfpq"


def index_bytes(n_rows: int, n_dims: int, method: str) -> int:
    """Return about how many bytes an index takes: vectors or codes, row numbers, cells, links."""
    cells = _n_cells(n_rows) * n_dims * 4
    if method == "ivfpq":
        return n_rows * (n_dims // 4 + 9) + cells
    links = {"exact": 0, "ivf": 8, "hnsw": 280}[method]
    return n_rows * (n_dims * 4 + links) + (cells if method == "ivf" else 0)


def memory_budget(memory_bytes: int | None) -> int:
    """Return `memory_bytes`, by default half of the machine's memory."""
    if memory_bytes is not None:
        return memory_bytes
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def index_training_rows(n_rows: int) -> int:
    """Return how many rows train an IVF quantizer: 64 a cell, at most a million."""
    return min(n_rows, 64 * _n_cells(n_rows), 1_000_000)


def _n_cells(n_rows: int) -> int:
    return int(min(65_536, max(16, 2 * np.sqrt(n_rows))))


def filled_index(X: Any, method: str, *, seed: int) -> Any:
    """Return a faiss index of the unit rows of `X`, trained on a sample, filled block by block."""
    faiss = faiss_module()
    index = _empty_index(faiss, method, *X.shape)
    if not index.is_trained:
        index.train(
            unit_rows(np.asarray(X[sample_indices(X, index_training_rows(X.shape[0]), seed)]))
        )
    if method != "hnsw":
        index = _to_gpu(faiss, index)
    for _, block in iter_blocks(X):
        index.add(block)
    return index


def _empty_index(faiss: Any, method: str, n_rows: int, n_dims: int) -> Any:
    inner_product = faiss.METRIC_INNER_PRODUCT
    if method == "exact":
        return faiss.IndexFlatIP(n_dims)
    if method == "hnsw":
        index = faiss.IndexHNSWFlat(n_dims, 32, inner_product)
        index.hnsw.efConstruction = 80
        return index
    cells = _n_cells(n_rows)
    quantizer = faiss.IndexFlatIP(n_dims)
    if method == "ivf":
        index = faiss.IndexIVFFlat(quantizer, n_dims, cells, inner_product)
    elif n_gpus(faiss):
        codes = next(m for m in (64, 48, 32, 24, 16, 12, 8, 4, 2, 1) if n_dims % m == 0)
        index = faiss.IndexIVFPQ(quantizer, n_dims, cells, codes, 8, inner_product)
    else:
        codes = n_dims // 2 if n_dims % 2 == 0 else n_dims
        index = faiss.IndexIVFPQFastScan(quantizer, n_dims, cells, codes, 4, inner_product)
    index.own_fields = True
    quantizer.this.disown()
    return index


def n_gpus(faiss: Any) -> int:
    """Return how many GPUs this faiss can use."""
    return faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0


def _to_gpu(faiss: Any, index: Any) -> Any:
    """Move an index to all GPUs where this faiss has them."""
    return faiss.index_cpu_to_all_gpus(index) if n_gpus(faiss) else index


def on_cpu(index: Any) -> Any:
    """Return the index in the machine's own memory, as files need it."""
    faiss = faiss_module()
    return faiss.index_gpu_to_cpu(index) if n_gpus(faiss) else index


def _look_into(index: Any, cells: int) -> None:
    """Set how many cells a search looks into; an index on several GPUs is set through faiss."""
    faiss = faiss_module()
    if n_gpus(faiss):
        faiss.GpuParameterSpace().set_index_parameter(index, "nprobe", cells)
    else:
        index.nprobe = min(cells, index.nlist)


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
            values = np.empty((n_rows, n_dims), np.float32)
            for start, block in iter_blocks(X):
                values[start : start + len(block)] = block
            return cls(values)
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
        starts = range(0, len(queries), REFINE_ROWS)

        def part(start: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            rows = slice(start, start + REFINE_ROWS)
            return self._best(queries[rows], ids[rows], k)

        with ThreadPoolExecutor(faiss_module().omp_get_max_threads()) as pool:
            found = list(pool.map(part, starts))
        return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])

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
        if self.method == "hnsw":
            self.index.hnsw.efSearch = max(reach, k)
        elif self.method != "exact":
            _look_into(self.index, reach)
        if self.refiner is None:
            return self.index.search(queries, k)
        _, ids = self.index.search(queries, min(factor * k, self.index.ntotal))
        return self.refiner.best(queries, ids, k)

    def tune(self, X: Any, k: int, target: float, *, seed: int) -> float:
        """Take the least effort that finds `target` of the true neighbors; return the recall."""
        if self.method == "exact":
            return 1.0
        rows = sample_indices(X, RECALL_SAMPLE, seed)
        rows = np.random.default_rng(seed_of(seed, "halves")).permutation(rows)
        queries, truth = true_neighbors(X, rows, k)
        half = len(rows) // 2
        for effort in EFFORTS[self.method]:
            self.effort = effort
            if self._recall(queries[:half], truth[:half], rows[:half]) >= target:
                break
        found = self._recall(queries[half:], truth[half:], rows[half:])
        logger.info("neighbors: %s, effort %s, recall@%d %.3f", self.method, self.effort, k, found)
        if found < target - SHORTFALL:
            logger.warning(
                "the %s index finds %.0f%% of the %d nearest neighbors, asked for %.0f%%: give "
                "method='exact' where time allows",
                *(self.method, 100 * found, k, 100 * target),
            )
        return found

    def _recall(
        self, queries: NDArray[np.float32], truth: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> float:
        k = truth.shape[1]
        _, ids = self(queries, k + 1)
        hits = [
            len(set(found.tolist()) & (set(true.tolist()) - {int(row)}))
            for found, true, row in zip(ids, truth, rows, strict=True)
        ]
        return float(min(1.0, np.mean(hits) / k))


def true_neighbors(
    X: Any, rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the unit rows and the `k` nearest others of some rows, against all rows of `X`."""
    faiss = faiss_module()
    order = np.argsort(rows)
    queries = np.empty((len(rows), X.shape[1]), np.float32)
    queries[order] = unit_rows(np.asarray(X[rows[order]]))
    best = np.full((len(rows), k + 1), -np.inf, np.float32)
    best_ids = np.full((len(rows), k + 1), -1, np.int64)
    for start, block in iter_blocks(X):
        width = min(k + 1, len(block))
        cosines, ids = faiss.knn(queries, block, width, metric=faiss.METRIC_INNER_PRODUCT)
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
