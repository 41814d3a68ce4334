"""Nearest neighbours over faiss: `KNNIndex` answers queries, `KNNGraph` holds every row's own.

Similarity is the cosine: rows are L2-normalised once, so the inner product is the cosine and
larger means nearer. Up to `EXACT_ROWS` rows the search is exact; above it an approximate index is
built and its recall@k is *measured* on a sample against the exact answer and kept in the graph.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster._files import read_array, read_json, safe_child, write_array, write_json
from fmcluster._progress import bar
from fmcluster._validation import check_finite_rows, check_in, require, seed_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

EXACT_ROWS = 200_000
BLOCK_ROWS = 16_384
RECALL_SAMPLE = 1_000
METHODS = ("auto", "exact", "hnsw", "ivf", "ivfpq")


def faiss_module() -> Any:
    """Import faiss, or say how to install it."""
    return require("faiss", extra="cpu", package="faiss (faiss-cpu or faiss-gpu)")


def unit_rows(block: NDArray[Any]) -> NDArray[np.float32]:
    """Return rows as contiguous float32 of length one; zero rows stay zero."""
    rows = np.ascontiguousarray(block, dtype=np.float32)
    # float64 norms: embeddings of large magnitude must not overflow when squared.
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    return (rows * scale[:, None]).astype(np.float32, copy=False)


def iter_blocks(X: Any, size: int = BLOCK_ROWS) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (first row, unit rows) blocks of an array, a memory map or a store's space."""
    for start in range(0, X.shape[0], size):
        block = np.asarray(X[start : start + size])
        check_finite_rows(block, name="embeddings", ids=np.arange(start, start + len(block)))
        yield start, unit_rows(block)


def is_lazy(X: Any) -> bool:
    """Return whether `X` is read from disk or made on demand: a memory map or rows of our own."""
    return isinstance(X, np.memmap) or (
        hasattr(X, "shape") and type(X).__module__.startswith("fmcluster.")
    )


def choose_method(n_rows: int, n_dims: int, *, memory_bytes: int | None = None) -> str:
    """Pick the index family by size: exact, then HNSW, then IVF, and IVF-PQ past the memory."""
    budget = memory_bytes if memory_bytes is not None else _physical_memory() // 2
    if n_rows <= EXACT_ROWS:
        return "exact"
    if n_rows * n_dims * 4 > budget:
        return "ivfpq"
    return "ivf"


def _physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@dataclass
class KNNIndex:
    """A faiss index over unit rows that answers cosine queries.

    Attributes
    ----------
    method : str
        ``exact``, ``hnsw``, ``ivf`` or ``ivfpq``.
    n_rows, n_dims : int
        What was indexed.
    """

    method: str
    n_rows: int
    n_dims: int
    _index: Any = field(repr=False)

    @classmethod
    def build(
        cls,
        X: Any,
        *,
        method: str = "auto",
        memory_bytes: int | None = None,
        random_state: int = 0,
    ) -> KNNIndex:
        """Index the rows of `X` (n, d): an array, a memory map or a store's space.

        Parameters
        ----------
        X : array-like or store
            Read in blocks, so that a store larger than memory is never held whole.
        method : {"auto", "exact", "hnsw", "ivf", "ivfpq"}
            "auto" is exact up to 200,000 rows, then IVF, then IVF-PQ where the vectors alone would
            take more than `memory_bytes` (default: half of the machine's).
        memory_bytes : int, optional
            What the index may take.
        random_state : int
            Picks the training sample of the approximate indexes.
        """
        faiss = faiss_module()
        check_in(method, METHODS, "method")
        X = X if hasattr(X, "shape") else np.asarray(X)
        n_rows, n_dims = X.shape
        if method == "auto":
            method = choose_method(n_rows, n_dims, memory_bytes=memory_bytes)
        index = _empty_index(faiss, method, n_rows, n_dims)
        if not index.is_trained:
            sample = _sample(X, index_training_rows(n_rows), seed_of(random_state, "index"))
            index.train(sample)
        index = _to_gpu(faiss, index) if method != "hnsw" else index
        for _, block in iter_blocks(X):
            index.add(block)
        return cls(method, n_rows, n_dims, index)

    def search(self, queries: ArrayLike, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return (similarities, indices), each (m, k), nearest first; k is capped at n_rows."""
        rows = np.asarray(queries)
        if rows.ndim != 2 or rows.shape[1] != self.n_dims:
            raise ValueError(f"queries have shape {rows.shape}, expected (m, {self.n_dims})")
        return self._index.search(unit_rows(rows), min(k, self.n_rows))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index as one faiss file."""
        faiss = faiss_module()
        index = faiss.index_gpu_to_cpu(self._index) if hasattr(self._index, "device") else None
        faiss.write_index(index or self._index, os.fspath(path))


def index_training_rows(n_rows: int) -> int:
    """Return how many rows train an IVF quantiser: 64 a cell, at most a million."""
    return min(n_rows, 64 * _n_cells(n_rows), 1_000_000)


def _n_cells(n_rows: int) -> int:
    return int(min(65_536, max(16, 2 * np.sqrt(n_rows))))


def _empty_index(faiss: Any, method: str, n_rows: int, n_dims: int) -> Any:
    inner_product = faiss.METRIC_INNER_PRODUCT
    if method == "exact":
        return faiss.IndexFlatIP(n_dims)
    if method == "hnsw":
        index = faiss.IndexHNSWFlat(n_dims, 32, inner_product)
        index.hnsw.efConstruction, index.hnsw.efSearch = 80, 128
        return index
    cells = _n_cells(n_rows)
    quantizer = faiss.IndexFlatIP(n_dims)
    if method == "ivf":
        index = faiss.IndexIVFFlat(quantizer, n_dims, cells, inner_product)
    else:
        codes = next(m for m in (64, 48, 32, 24, 16, 12, 8, 4, 2, 1) if n_dims % m == 0)
        index = faiss.IndexIVFPQ(quantizer, n_dims, cells, codes, 8, inner_product)
    index.nprobe = max(8, cells // 32)
    index.own_fields = True
    quantizer.this.disown()
    return index


def _to_gpu(faiss: Any, index: Any) -> Any:
    """Move an index to all GPUs where this faiss has them (the one GPU seam of the index)."""
    if not hasattr(faiss, "get_num_gpus") or faiss.get_num_gpus() == 0:
        return index
    return faiss.index_cpu_to_all_gpus(index)


def _sample(X: Any, size: int, seed: int) -> NDArray[np.float32]:
    rows = np.sort(np.random.default_rng(seed).choice(X.shape[0], size, replace=False))
    return unit_rows(np.asarray(X[rows]))


@dataclass(frozen=True)
class KNNGraph:
    """Every row's k nearest other rows by cosine.

    Attributes
    ----------
    indices : (n, k) int32 (int64 above 2**31 rows)
        Nearest first; a row is never its own neighbour, even among exact duplicates.
    similarities : (n, k) float32
        Cosine of each neighbour.
    method : str
        The index family that was used.
    recall : float
        Measured recall@k against the exact answer, 1.0 for the exact index.
    """

    indices: NDArray[Any]
    similarities: NDArray[np.float32]
    method: str = "exact"
    recall: float = 1.0

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.indices.shape[0]

    @property
    def k(self) -> int:
        """Neighbours a row."""
        return self.indices.shape[1]

    @classmethod
    def build(
        cls,
        X: Any,
        *,
        k: int = 20,
        method: str = "auto",
        memory_bytes: int | None = None,
        random_state: int = 0,
    ) -> KNNGraph:
        """Find the `k` nearest other rows of every row of `X` (n, d).

        Raises
        ------
        ValueError
            Fewer than two rows, k < 1, or non-finite rows (named).
        MissingExtraError
            faiss is not installed.
        """
        X = X if hasattr(X, "shape") else np.asarray(X)
        n_rows = X.shape[0]
        if n_rows < 2:
            raise ValueError(f"a neighbour graph needs at least 2 rows, got n_samples={n_rows}")
        if k < 1:
            raise ValueError(f"k={k} neighbours: at least 1 is needed")
        k = min(k, n_rows - 1)
        index = KNNIndex.build(
            X, method=method, memory_bytes=memory_bytes, random_state=random_state
        )
        wide = np.int32 if n_rows < 2**31 else np.int64
        indices = np.empty((n_rows, k), wide)
        similarities = np.empty((n_rows, k), np.float32)
        with bar(total=n_rows, description="neighbours") as shown:
            for start, block in iter_blocks(X):
                stop = start + len(block)
                cosines, ids = index._index.search(block, min(k + 1, n_rows))
                found = _without_self(cosines, ids, start, k)
                indices[start:stop], similarities[start:stop] = found
                shown.update(len(block))
        recall = 1.0 if index.method == "exact" else _recall(X, indices, random_state)
        return cls(indices, similarities, index.method, recall)

    def take(self, k: int) -> KNNGraph:
        """Return the graph of the `k` nearest neighbours (k at most ``self.k``)."""
        if k == self.k:
            return self
        if not 1 <= k <= self.k:
            raise ValueError(f"k={k} is outside 1..{self.k}, the neighbours this graph holds")
        return KNNGraph(self.indices[:, :k], self.similarities[:, :k], self.method, self.recall)

    def to_csr(self, *, symmetric: bool = False) -> csr_matrix:
        """Return the similarities as a sparse (n, n) matrix, sorted, without a diagonal."""
        from scipy.sparse import csr_matrix

        pointers = np.arange(0, self.indices.size + 1, self.k, dtype=np.int64)
        matrix = csr_matrix(
            (self.similarities.ravel().copy(), self.indices.ravel().astype(np.int64), pointers),
            shape=(self.n_rows, self.n_rows),
        )
        if symmetric:
            matrix = matrix.maximum(matrix.T).tocsr()
        matrix.sort_indices()
        return matrix

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``indices.npy``, ``similarities.npy`` and ``graph.json``."""
        folder = Path(folder)
        write_array(folder / "indices.npy", self.indices)
        write_array(folder / "similarities.npy", self.similarities)
        write_json(folder / "graph.json", {"method": self.method, "recall": self.recall})

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, mmap: bool = False) -> KNNGraph:
        """Read a graph that `save` wrote."""
        about = read_json(safe_child(folder, "graph.json"))
        return cls(
            read_array(safe_child(folder, "indices.npy"), mmap=mmap),
            read_array(safe_child(folder, "similarities.npy"), mmap=mmap),
            str(about["method"]),
            float(about["recall"]),
        )


def _without_self(
    similarities: NDArray[Any], indices: NDArray[Any], start: int, k: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Drop each row's own id from its k+1 answers, or the last answer where it is not among them.

    Among duplicates the row itself may come second or not at all, so it is found by id, not by
    position. A missing answer (-1 of an approximate index) repeats the row's last real neighbour.
    """
    own = np.arange(start, start + len(indices))
    is_self = indices == own[:, None]
    is_self[~is_self.any(axis=1), -1] = True
    missing = indices < 0
    keep_self = is_self & ~missing
    # Order: real neighbours first (stable), then missing ones, then self.
    rank = np.where(keep_self, 2, missing.astype(np.int8))
    order = np.argsort(rank, axis=1, kind="stable")[:, :k]
    indices = np.take_along_axis(indices, order, axis=1)
    similarities = np.take_along_axis(similarities, order, axis=1)
    bad = (indices < 0) | (indices == own[:, None])
    if bad.any():
        last = np.maximum((~bad).sum(axis=1) - 1, 0)
        fill = np.take_along_axis(indices, last[:, None], axis=1)
        fill = np.where((fill < 0) | (fill == own[:, None]), (own[:, None] + 1), fill)
        fill_similarity = np.take_along_axis(similarities, last[:, None], axis=1)
        indices = np.where(bad, fill, indices)
        similarities = np.where(bad, fill_similarity, similarities)
    return indices, np.clip(similarities, -1.0, 1.0)


def _recall(X: Any, indices: NDArray[Any], random_state: int) -> float:
    """Measure the share of true neighbours found, on a sample of rows against all rows."""
    n_rows, k = indices.shape
    generator = np.random.default_rng(seed_of(random_state, "recall"))
    rows = np.sort(generator.choice(n_rows, min(RECALL_SAMPLE, n_rows), replace=False))
    queries = unit_rows(np.asarray(X[rows]))
    best = np.full((len(rows), k + 1), -np.inf, np.float32)
    best_ids = np.full((len(rows), k + 1), -1, np.int64)
    for start, block in iter_blocks(X):
        scores = np.concatenate([best, queries @ block.T], axis=1)
        ids = np.broadcast_to(np.arange(start, start + len(block)), (len(rows), len(block)))
        ids = np.concatenate([best_ids, ids], axis=1)
        top = np.argpartition(-scores, k, axis=1)[:, : k + 1]
        best, best_ids = np.take_along_axis(scores, top, 1), np.take_along_axis(ids, top, 1)
    hits = 0
    for row, found, true in zip(rows, indices[rows], best_ids, strict=True):
        hits += len(set(found.tolist()) & (set(true.tolist()) - {int(row)}))
    return min(1.0, hits / (len(rows) * k))
