"""Nearest neighbors over faiss: `KNNIndex` answers queries, `KNNGraph` holds every row's own.

Similarity is the cosine: rows are L2-normalized once, so the inner product is the cosine and
larger means nearer. Which index: `faiss_index`; how far it searches, how well it finds: `search`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.utils.files import (
    as_corrupt,
    read_array,
    read_json,
    safe_child,
    write_array,
    write_json,
)
from fmcluster.utils.folders import check_digests, digests, read_whole, replaced_folder
from fmcluster.utils.validation import check_in
from fmcluster.vectors.faiss_index import METHODS, faiss_module, families_of, on_cpu
from fmcluster.vectors.rows import unit_rows
from fmcluster.vectors.search import TARGET_RECALL, Refiner, Searcher, found_index

# What a saved index is made of.
SAVED = ("index.faiss", "index.json", "values.npy", "scale.npy")


@dataclass
class KNNIndex:
    """A faiss index over unit rows that answers cosine queries.

    Attributes
    ----------
    method : str
        ``exact``, ``hnsw``, ``ivf`` or ``ivfpq``.
    n_rows, n_dims : int
        What was indexed.
    recall : float
        Measured share of the true neighbors that it finds, 1.0 for the exact index.
    """

    method: str
    n_rows: int
    n_dims: int
    recall: float
    _searcher: Searcher = field(repr=False)

    @classmethod
    def build(
        cls,
        X: Any,
        *,
        k: int = 20,
        method: str | Sequence[str] = "auto",
        target_recall: float = TARGET_RECALL,
        memory_bytes: int | None = None,
        random_state: int = 0,
    ) -> KNNIndex:
        """Index the rows of `X` (n, d): an array, a memory map or a store's space.

        Parameters
        ----------
        X : array-like or store
            Read in blocks, so that a store larger than memory is never held whole.
        k : int
            Neighbors that will be asked for: an approximate index is tuned for them.
        method : {"auto", "exact", "hnsw", "ivf", "ivfpq"} or list of families
            "auto" is exact up to 100,000 rows if `memory_bytes` hold them (on a GPU up to two
            million), then IVF-PQ, or IVF for fewer than 32 dimensions; where that misses the
            target the next of IVF-PQ, IVF and exact takes its place. A family that is named is
            kept: it searches as far as it can, and says so if it still finds too few. Several are
            tried in turn.
        target_recall : float
            Share of the true neighbors that an index is to find; what it does find is measured
            and kept in `recall`.
        memory_bytes : int, optional
            What the index may take, by default half of the machine's memory.
        random_state : int
            Picks the training sample of the approximate indexes and the rows they are judged on.
        """
        X = X if hasattr(X, "shape") else np.asarray(X)
        n_rows, n_dims = X.shape
        searcher, recall = found_index(
            X,
            families_of(X, method, target_recall=target_recall, memory_bytes=memory_bytes),
            k=max(1, min(k, n_rows - 1)),
            target=target_recall,
            memory_bytes=memory_bytes,
            seed=random_state,
        )
        return cls(searcher.method, n_rows, n_dims, recall, searcher)

    def search(self, queries: ArrayLike, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest indexed rows of each query.

        Parameters
        ----------
        queries : (m, d) array-like
            Need not be of unit length.
        k : int
            Neighbors a query, at most `n_rows` of them.

        Returns
        -------
        similarities : (m, k) float32
            Cosines, nearest first.
        indices : (m, k) int64
            Row numbers; -1 where an approximate index finds fewer.

        Raises
        ------
        ValueError
            Queries of other dimensions than what was indexed.
        """
        rows = np.asarray(queries)
        if rows.ndim != 2 or rows.shape[1] != self.n_dims:
            raise ValueError(f"queries have shape {rows.shape}, expected (m, {self.n_dims})")
        return self._searcher(unit_rows(rows), min(k, self.n_rows))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `SAVED` files, whole or not at all: those of the second look are of IVF-PQ alone.

        Raises
        ------
        DataError
            The folder holds other things and no index.
        """
        searcher = self._searcher
        arrays = searcher.refiner.arrays() if searcher.refiner else {}
        with replaced_folder(folder, marker="index.json", owned=SAVED) as target:
            faiss_module().write_index(on_cpu(searcher.index), os.fspath(target / "index.faiss"))
            for name, values in arrays.items():
                write_array(target / f"{name}.npy", values)
            about = {
                "method": self.method,
                "n_rows": self.n_rows,
                "n_dims": self.n_dims,
                "recall": self.recall,
                "effort": list(searcher.effort),
                "second_look": sorted(arrays),
                "files": digests(target),
            }
            write_json(target / "index.json", about)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, mmap: bool = False) -> KNNIndex:
        """Read an index that `save` wrote.

        Parameters
        ----------
        folder : path
            Where it is.
        mmap : bool
            Leave the rows for the second look on disk.

        Raises
        ------
        CorruptShardError
            A file is damaged, or not the one that `save` wrote.
        """

        def read() -> KNNIndex:
            with as_corrupt(folder):
                about = read_json(safe_child(folder, "index.json"))
                # Version 0.1 had a digest of the index alone.
                files = about.get("files") or {"index.faiss": about["digest"]}
                check_digests(Path(folder), files, marker="index.json", what="index")
                arrays = {
                    name: read_array(safe_child(folder, f"{name}.npy"), mmap=mmap)
                    for name in about["second_look"]
                }
                reach, factor = about["effort"]
                searcher = Searcher(
                    faiss_module().read_index(os.fspath(safe_child(folder, "index.faiss"))),
                    check_in(about["method"], METHODS, "method"),
                    (int(reach), int(factor)),
                    Refiner(**arrays) if arrays else None,
                )
                shape = int(about["n_rows"]), int(about["n_dims"])
                return cls(about["method"], *shape, float(about["recall"]), searcher)

        return read_whole(Path(folder), "index.json", read)
