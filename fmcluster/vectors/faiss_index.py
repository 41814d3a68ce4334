r"""Approximate neighbors: which families of index for which data, and how they are filled.

Rows are compared with all others up to `EXACT_ROWS`. Above that, cells of k-means (an inverted
file) are searched nearest first: product codes of half a byte for every two dimensions (``ivfpq``;
Jegou et al., "Product quantization for nearest neighbor search", PAMI 2011; scanned in registers:
Andre et al., VLDB 2015), which come to a given recall sooner than vectors in the cells (``ivf``);
those are for rows of few dimensions, and where codes miss the recall: codes of two dimensions
cannot tell the rows of a tight cluster apart. Graph search (``hnsw``) answers single queries fast
but takes long to build; it is there for those who ask.

How far an index is searched, and how well it finds: `search`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fmcluster.utils import distributed
from fmcluster.utils.optional import require
from fmcluster.utils.validation import check_in, check_range
from fmcluster.vectors.rows import iter_blocks, sample_indices, unit_rows

# Exact search costs n^2, an index n^1.5 and some recall (docs/scale.md).
EXACT_ROWS = 100_000
# On a GPU: of 384 dimensions some three minutes at 20 T/s (arithmetic, not measured).
GPU_EXACT_ROWS = 2_000_000
# Below this codes are hardly shorter than the vectors.
NARROW_DIMS = 32
METHODS = ("auto", "exact", "hnsw", "ivf", "ivfpq")


def faiss_module() -> Any:
    """Import faiss, or say how to install it."""
    return require("faiss", extra="cpu", package="faiss (faiss-cpu or faiss-gpu)")


class _Inside:
    """How many threads are inside `one_blas_thread`, and the counts that the first one found."""

    lock = threading.Lock()
    n_threads = 0
    counts: ClassVar[dict[str, int]] = {}
    # To look for libraries takes 7 ms, which a k-means of few rows does not: they are looked for
    # again once modules were imported, as which they come.
    libraries: ClassVar[list[Any]] = []
    n_modules = -1

    @classmethod
    def blas(cls) -> list[Any]:
        """Return the controllers of the BLAS libraries that are loaded."""
        if cls.n_modules != len(sys.modules):
            from threadpoolctl import ThreadpoolController

            cls.libraries = ThreadpoolController().select(user_api="blas").lib_controllers
            cls.n_modules = len(sys.modules)
        return cls.libraries


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run matrix products on one thread inside: sums in one order, whatever the machine.

    faiss brings a BLAS of its own, which a limit reaches only once it is loaded: a fit that loaded
    it inside the limit gave other probabilities than the next. A BLAS on OpenMP keeps a count for
    each thread. The others have one for the process, so their limit begins with the first thread
    that comes in and ends with the last that leaves.
    """
    faiss = faiss_module()
    with _Inside.lock:
        # As OpenMP tells it: such a BLAS reports the count of whoever asked for one last.
        own = faiss.omp_get_max_threads()
        libraries = _Inside.blas()
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


def families_for(
    n_rows: int, n_dims: int, *, memory_bytes: int | None = None, exact_rows: int = EXACT_ROWS
) -> list[str]:
    """Return the families to try, soonest done first, the next where one misses the recall.

    Parameters
    ----------
    n_rows, n_dims : int
        What is indexed.
    memory_bytes : int, optional
        What an index may take, by default half of the machine's memory.
    exact_rows : int
        Up to so many all pairs are compared at once; on a GPU up to `GPU_EXACT_ROWS`.
    """
    if index_bytes(n_rows, n_dims, "ivf") > memory_budget(memory_bytes):
        return ["ivfpq"]
    if distributed.gpu() is not None:
        exact_rows = max(exact_rows, GPU_EXACT_ROWS)
    if n_rows <= exact_rows:
        return ["exact"]
    return ["ivf", "exact"] if n_dims < NARROW_DIMS else ["ivfpq", "ivf", "exact"]


def families_of(
    X: Any,
    method: str | Sequence[str],
    *,
    target_recall: float,
    memory_bytes: int | None,
    exact_rows: int = EXACT_ROWS,
) -> list[str]:
    """Return the families to try for the rows of `X`: those that are named, or those of "auto".

    Raises
    ------
    ValueError
        There is no such family, or the recall is no share.
    """
    check_range(target_recall, "target_recall", low=0, high=1)
    if isinstance(method, str) or not method:
        check_in(method, METHODS, "method")
    if method == "auto":
        return families_for(*X.shape, memory_bytes=memory_bytes, exact_rows=exact_rows)
    named = [method] if isinstance(method, str) else method
    return [check_in(each, METHODS[1:], "method") for each in named]


def index_bytes(n_rows: int, n_dims: int, method: str) -> int:
    """Return about how many bytes an index takes: vectors or codes, row numbers, cells, links."""
    cells = n_cells(n_rows) * n_dims * 4
    if method == "ivfpq":
        # Two dimensions a half byte, a row number, and what blocks of codes leave empty.
        return n_rows * (n_dims // 4 + 9) + cells
    # Row numbers of 8 bytes; HNSW's 2 * 32 links of 4 and what it keeps of levels.
    links = {"exact": 0, "ivf": 8, "hnsw": 280}[method]
    return n_rows * (n_dims * 4 + links) + (cells if method == "ivf" else 0)


def memory_budget(memory_bytes: int | None) -> int:
    """Return `memory_bytes`, by default half of the machine's memory."""
    if memory_bytes is not None:
        return memory_bytes
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def index_training_rows(n_rows: int) -> int:
    """Return how many rows train an IVF quantizer: 64 a cell, at most a million."""
    # faiss asks for 39 a cell at least; beyond a million training takes longer than it helps.
    return min(n_rows, 64 * n_cells(n_rows), 1_000_000)


def n_cells(n_rows: int) -> int:
    """Return how many cells an inverted file of so many rows has."""
    # Cells and rows of a cell grow alike; at most what faiss' own guidelines take for 10^8 rows.
    return int(min(65_536, max(16, 2 * np.sqrt(n_rows))))


def filled_index(X: Any, method: str, *, seed: int) -> Any:
    """Return a faiss index of the unit rows of `X`, trained on a sample, filled block by block."""
    faiss = faiss_module()
    index = _empty_index(faiss, method, *X.shape)
    if not index.is_trained:
        index.train(
            unit_rows(np.asarray(X[sample_indices(X, index_training_rows(X.shape[0]), seed)]))
        )
    if method != "hnsw" and n_gpus(faiss):
        index = faiss.index_cpu_to_all_gpus(index)
    for _, block in iter_blocks(X):
        index.add(block)
    return index


def _empty_index(faiss: Any, method: str, n_rows: int, n_dims: int) -> Any:
    inner_product = faiss.METRIC_INNER_PRODUCT
    if method == "exact":
        return faiss.IndexFlatIP(n_dims)
    if method == "hnsw":
        # faiss' own 32 links, and twice its 40 candidates while it is built: found are more.
        index = faiss.IndexHNSWFlat(n_dims, 32, inner_product)
        index.hnsw.efConstruction = 80
        return index
    cells = n_cells(n_rows)
    quantizer = faiss.IndexFlatIP(n_dims)
    if method == "ivf":
        index = faiss.IndexIVFFlat(quantizer, n_dims, cells, inner_product)
    elif n_gpus(faiss):
        # The widest code that a GPU takes and the dimensions divide into.
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


def flat_rows(index: Any) -> NDArray[np.float32]:
    """Return the rows (n, d) that an exact index holds, without a copy."""
    values = faiss_module().rev_swig_ptr(index.get_xb(), index.ntotal * index.d)
    return values.reshape(index.ntotal, index.d)


def on_cpu(index: Any) -> Any:
    """Return the index in the machine's own memory, as files need it."""
    faiss = faiss_module()
    return faiss.index_gpu_to_cpu(index) if n_gpus(faiss) else index


def look_into(index: Any, cells: int) -> None:
    """Set how many cells a search looks into; an index on several GPUs is set through faiss."""
    faiss = faiss_module()
    if n_gpus(faiss):
        faiss.GpuParameterSpace().set_index_parameter(index, "nprobe", cells)
    else:
        index.nprobe = min(cells, index.nlist)
