"""`KNNGraph`: every row's nearest other rows by cosine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.utils.errors import CorruptShardError
from fmcluster.utils.files import (
    as_corrupt,
    digest_file,
    read_array,
    read_json,
    safe_child,
    write_array,
    write_json,
)
from fmcluster.utils.folders import check_digests, read_whole, replaced_folder
from fmcluster.utils.progress import bar
from fmcluster.vectors.exact import nearest_rows
from fmcluster.vectors.faiss_index import faiss_module, families_of, n_gpus
from fmcluster.vectors.index import KNNIndex
from fmcluster.vectors.near_cells import neighbors_by_cells
from fmcluster.vectors.rows import BLOCK_ROWS, all_unit_rows, iter_blocks
from fmcluster.vectors.search import MOST_PAIRS_ROWS, TARGET_RECALL

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# All pairs of so many rows of 384 dimensions take a core 21 s, and a graph without a gap is the
# same for any seed; cells take a tenth of it or less (benchmarks/results/graphs.md).
PAIRS_ROWS = 50_000
# Looking at more than half of all pairs, one may look at all of them.
PAIRS_SHARE = 0.5
SAVED = ("indices.npy", "similarities.npy", "graph.json")


@dataclass(frozen=True)
class KNNGraph:
    """Every row's k nearest other rows by cosine: build it once, and give it to what needs it.

    Examples
    --------
    >>> X = np.repeat(np.eye(3), 4, axis=0)
    >>> graph = KNNGraph.build(X, k=3)
    >>> graph.indices[0].tolist(), graph.similarities[0].tolist()
    ([1, 2, 3], [1.0, 1.0, 1.0])

    Attributes
    ----------
    indices : (n, k) int32 (int64 above 2**31 rows)
        Nearest first; a row is never its own neighbor, even among exact duplicates.
    similarities : (n, k) float32
        Cosine of each neighbor.
    method : str
        The index family that was used.
    recall : float
        Measured share of the true neighbors that were found, 1.0 for the exact index.

    Raises
    ------
    ValueError
        Arrays of other shapes or types, or row numbers outside the graph.
    """

    indices: NDArray[Any]
    similarities: NDArray[np.float32]
    method: str = "exact"
    recall: float = 1.0

    def __post_init__(self) -> None:
        _check_graph(self.indices, self.similarities)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.indices.shape[0]

    @property
    def k(self) -> int:
        """Neighbors a row."""
        return self.indices.shape[1]

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
    ) -> KNNGraph:
        """Find the `k` nearest other rows of every row.

        Parameters
        ----------
        X : (n, d) array, memory map or store's space
            At least two rows; read in blocks.
        k : int
            Neighbors a row, at most n - 1 of them.
        method : {"auto", "exact", "ivf", "hnsw", "ivfpq"} or list of families
            "auto" compares all pairs up to 50,000 rows (on a GPU up to two million), and above that
            the rows of near cells ("ivf"), as many as reach the target; where memory does not hold
            the rows, product codes ("ivfpq"). The others search the index of that name. Several are
            tried in turn.
        target_recall, memory_bytes, random_state
            As of `KNNIndex.build`.

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
            raise ValueError(f"a neighbor graph needs at least 2 rows, got n_samples={n_rows}")
        if k < 1:
            raise ValueError(f"k={k} neighbors: at least 1 is needed")
        k = min(k, n_rows - 1)
        families = families_of(
            X,
            method,
            target_recall=target_recall,
            memory_bytes=memory_bytes,
            exact_rows=PAIRS_ROWS,
        )
        if not n_gpus(faiss_module()):
            if "ivf" in families:
                fallback = "exact" in families and n_rows <= MOST_PAIRS_ROWS
                share = PAIRS_SHARE if fallback else 1.0
                near = neighbors_by_cells(
                    X, k, target=target_recall, seed=random_state, most_share=share
                )
                if near is not None:
                    indices, similarities, recall = near
                    return cls(indices, similarities, "ivf", recall)
            if "exact" in families:
                return cls(*nearest_rows(all_unit_rows(X), k))
        index = KNNIndex.build(
            X,
            k=k,
            method=families,
            target_recall=target_recall,
            memory_bytes=memory_bytes,
            random_state=random_state,
        )
        wide = np.int32 if n_rows < 2**31 else np.int64
        indices = np.empty((n_rows, k), wide)
        similarities = np.empty((n_rows, k), np.float32)
        with bar(total=n_rows, description="neighbors") as shown:
            for start, block in iter_blocks(X):
                stop = start + len(block)
                cosines, ids = index._searcher(block, k + 1)
                found = _without_self(cosines, ids, start, k)
                indices[start:stop], similarities[start:stop] = found
                shown.update(len(block))
        return cls(indices, similarities, index.method, index.recall)

    def take(self, k: int) -> KNNGraph:
        """Return the graph of the `k` nearest neighbors.

        Raises
        ------
        ValueError
            More than the graph holds, or fewer than one.
        """
        if k == self.k:
            return self
        if not 1 <= k <= self.k:
            raise ValueError(f"k={k} is outside 1..{self.k}, the neighbors this graph holds")
        return KNNGraph(self.indices[:, :k], self.similarities[:, :k], self.method, self.recall)

    def to_csr(self, *, symmetric: bool = False) -> csr_matrix:
        """Return the similarities as a sparse (n, n) matrix, sorted, without a diagonal.

        Parameters
        ----------
        symmetric : bool
            Whether an edge that one of two rows has counts for both.
        """
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

    def among(self, kept: NDArray[np.bool_]) -> KNNGraph | None:
        """Return the graph of some rows alone; None where one of them has no neighbor among them.

        Parameters
        ----------
        kept : (n,) bool
            Which rows. Each keeps as many neighbors as every one of them has.
        """
        place = np.where(kept, np.cumsum(kept) - 1, -1)
        near, close = place[self.indices[kept]], self.similarities[kept]
        k = int((near >= 0).sum(axis=1).min(initial=self.k))
        if k == 0:
            return None
        # Those left out go behind the others, which keep their order.
        first = np.argsort(near < 0, axis=1, kind="stable")[:, :k]
        near, close = (np.take_along_axis(part, first, axis=1) for part in (near, close))
        return KNNGraph(near.astype(self.indices.dtype), close, self.method, self.recall)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``indices.npy``, ``similarities.npy`` and ``graph.json``, whole or not at all."""
        with replaced_folder(folder, marker="graph.json", owned=SAVED) as target:
            self.write(target)

    def write(self, folder: Path) -> None:
        """Write the files of `save` into a folder that somebody else makes whole."""
        write_array(folder / "indices.npy", self.indices)
        write_array(folder / "similarities.npy", self.similarities)
        digests = {name: digest_file(folder / name) for name in SAVED[:2]}
        about = {"method": self.method, "recall": self.recall, "files": digests}
        write_json(folder / "graph.json", about)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, mmap: bool = False) -> KNNGraph:
        """Read a graph that `save` wrote.

        Parameters
        ----------
        folder : path
            Where it is.
        mmap : bool
            Leave the arrays on disk.

        Raises
        ------
        CorruptShardError
            A file is damaged, not the one that `save` wrote, or names rows that do not exist.
        """

        def read() -> KNNGraph:
            with as_corrupt(folder):
                about = read_json(safe_child(folder, "graph.json"))
                files = about.get("files") or {}
                check_digests(Path(folder), files, marker="graph.json", what="graph")
                indices = read_array(safe_child(folder, "indices.npy"), mmap=mmap)
                similarities = read_array(safe_child(folder, "similarities.npy"), mmap=mmap)
                try:
                    return cls(indices, similarities, str(about["method"]), float(about["recall"]))
                except ValueError as error:
                    raise CorruptShardError(f"{folder} holds no graph: {error}") from None

        return read_whole(Path(folder), "graph.json", read)


def _check_graph(indices: NDArray[Any], similarities: NDArray[Any]) -> None:
    """Refuse arrays that are no graph: compiled code reads them without looking."""
    shape, kinds = indices.shape, (indices.dtype.kind, similarities.dtype.kind)
    if len(shape) != 2 or similarities.shape != shape or kinds != ("i", "f"):
        raise ValueError(
            "a graph has indices (n, k) of integers and similarities (n, k) of floats, got "
            f"{indices.dtype} {shape} and {similarities.dtype} {similarities.shape}"
        )
    for start in range(0, shape[0], BLOCK_ROWS):
        block = indices[start : start + BLOCK_ROWS]
        if block.size and (block.min() < 0 or block.max() >= shape[0]):
            raise ValueError(
                f"the graph's indices name rows outside 0..{shape[0] - 1}: build the graph again"
            )


def _without_self(
    similarities: NDArray[Any], indices: NDArray[Any], start: int, k: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Drop each row's own id from its k+1 answers, or the last answer where it is not among them.

    Among duplicates the row itself may come second or not at all, so it is found by id, not by
    position. A missing answer (-1 of an approximate index) repeats the row's last real neighbor.
    """
    own = np.arange(start, start + len(indices))
    is_self = indices == own[:, None]
    is_self[~is_self.any(axis=1), -1] = True
    missing = indices < 0
    keep_self = is_self & ~missing
    # Order: real neighbors first (stable), then missing ones, then self.
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
