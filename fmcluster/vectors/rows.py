"""What a head is given: rows of one or several embedding spaces, in memory or larger than it.

`as_spaces` validates the input: an array, a memory map, a store (one or several spaces) or a list
of those becomes a list of `Rows`; everything behind it reads rows the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fmcluster.utils.stopping import check_stopped
from fmcluster.utils.validation import check_finite_rows, check_unmasked

# Rows that are read, searched or predicted at a time, everywhere: of 1,000 dimensions 32 MiB, and
# enough that a block's overhead is lost in its matrix product.
BLOCK_ROWS = 8_192
# Rows at a time where each gathers the rows of its neighbors: so many times more memory.
GATHER_ROWS = 1_024
# Larger spaces are read from disk whenever they are asked for: a quarter of an 8 GB machine.
MEMORY_BYTES = 2 * 2**30
# A second space (a lexical one beside a sentence encoder) counts for less than the first: its
# square, 0.49, is its part of the joint cosine where the first counts 1.
SECONDARY_WEIGHT = 0.7


def unit_rows(block: NDArray[Any]) -> NDArray[np.float32]:
    """Return rows as contiguous float32 of length one; zero rows stay zero."""
    rows = np.ascontiguousarray(block, dtype=np.float32)
    # float64 norms: embeddings of large magnitude must not overflow when squared.
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    # In float64 too, but value by value: no second copy of the rows in eight bytes.
    out = np.empty_like(rows)
    return np.multiply(rows, scale[:, None], out=out, casting="same_kind")


def iter_blocks(X: Any, size: int = BLOCK_ROWS) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (first row, unit rows) blocks of an array, a memory map or a store's space."""
    for start in range(0, X.shape[0], size):
        check_stopped()
        block = np.asarray(X[start : start + size])
        check_finite_rows(block, name="embeddings", ids=np.arange(start, start + len(block)))
        yield start, unit_rows(block)


def all_unit_rows(X: Any) -> NDArray[np.float32]:
    """Return the unit rows (n, d), read block by block."""
    rows = np.empty(X.shape, np.float32)
    for start, block in iter_blocks(X):
        rows[start : start + len(block)] = block
    return rows


def sample_indices(X: Any, size: int, seed: int) -> NDArray[np.int64]:
    """Return `size` random row numbers of `X` (all, where there are fewer), ascending."""
    generator = np.random.default_rng(seed)
    return np.sort(generator.choice(X.shape[0], min(size, X.shape[0]), replace=False))


class Rows:
    """The rows of one space.

    Parameters
    ----------
    source : array-like with ``shape`` and ``[index]``
        An (n, d) array, a memory map or a store's space.
    views : list of array-like
        Cached embeddings of augmented inputs under the same row numbers, maybe none.
    memory_bytes : int
        Sources whose float32 copy is larger stay on disk and are read when asked for.
    """

    reads_on_demand: ClassVar[bool] = True

    def __init__(
        self, source: Any, *, views: list[Any] | None = None, memory_bytes: int = MEMORY_BYTES
    ) -> None:
        self.n_rows, self.n_dims = source.shape
        self.in_memory = self.n_rows * self.n_dims * 4 <= memory_bytes
        self.source = np.ascontiguousarray(source, np.float32) if self.in_memory else source
        self.views = list(views or [])
        if self.in_memory:
            check_finite_rows(self.source, name="X")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dimensions."""
        return self.n_rows, self.n_dims

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        return np.asarray(self.source[index], dtype=np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.source, dtype=dtype or np.float32)

    def blocks(self, size: int = BLOCK_ROWS) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first row, block) in order."""
        for start in range(0, self.n_rows, size):
            yield start, self[start : start + size]


class SomeRows:
    """Some rows of an array-like, read when asked for.

    Parameters
    ----------
    source : array-like
        With shape and row indexing.
    rows : (m,) int
        Which of its rows, ascending.
    """

    reads_on_demand: ClassVar[bool] = True

    def __init__(self, source: Any, rows: NDArray[np.int64]) -> None:
        self.source, self.rows = source, rows
        self.shape = (len(rows), source.shape[1])
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        return np.asarray(self.source[self.rows[index]], dtype=np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[slice(None)], dtype=dtype)


class JointRows:
    """Several spaces side by side: unit rows of each, weighted, concatenated on the fly."""

    reads_on_demand: ClassVar[bool] = True

    def __init__(self, spaces: list[Rows]) -> None:
        self.spaces = spaces
        self.shape = (spaces[0].n_rows, sum(space.n_dims for space in spaces))
        self.dtype = np.dtype(np.float32)
        self.in_memory = all(space.in_memory for space in spaces)

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        return joint([space[index] for space in self.spaces])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[slice(None)], dtype=dtype)


def joint(blocks: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return one block (m, sum of d) of unit rows: the spaces weighted, side by side."""
    if len(blocks) == 1:
        return unit_rows(blocks[0])
    weights = [1.0] + [SECONDARY_WEIGHT] * (len(blocks) - 1)
    parts = [w * unit_rows(block) for w, block in zip(weights, blocks, strict=True)]
    return unit_rows(np.concatenate(parts, axis=1))


def is_store(X: Any) -> bool:
    """Return whether `X` is an embedding store (it names its spaces)."""
    return hasattr(X, "spaces") and hasattr(X, "space")


def as_spaces(X: Any) -> list[Rows]:
    """Turn an array, memory map, store, or a list of those into a list of `Rows`.

    Raises
    ------
    ValueError
        Spaces of different lengths, or a space that is not 2-D.
    """
    if isinstance(X, Rows):
        return [X]
    X = from_tensor(X)
    if is_store(X):
        sources = [(X.space(name), X.views(name)) for name in X.spaces]
    elif is_space_list(X):
        return _same_length([space for part in X for space in as_spaces(part)])
    else:
        sources = [(X if hasattr(X, "shape") else np.asarray(X), [])]
    for source, _ in sources:
        check_unmasked(source)
        if len(source.shape) != 2:
            raise ValueError(f"X must be 2-D (rows, dimensions), got shape {source.shape}")
    return _same_length([Rows(source, views=views) for source, views in sources])


def is_space_list(X: Any) -> bool:
    """Return whether `X` is a list of spaces rather than a list of rows."""
    return (
        isinstance(X, (list, tuple))
        and len(X) > 0
        and all(is_store(part) or len(getattr(part, "shape", ())) == 2 for part in X)
    )


def _same_length(spaces: list[Rows]) -> list[Rows]:
    lengths = [space.n_rows for space in spaces]
    if len(set(lengths)) > 1:
        raise ValueError(f"the spaces have different numbers of rows: {lengths}")
    return spaces


def count_distinct(rows: Any, at_least: int) -> int:
    """Return the number of distinct rows, or any number >= `at_least` once that many are seen."""
    n_rows = rows.shape[0]
    # Blocks that grow with what is looked for: most data ends in the first.
    size, seen = max(1_024, 4 * at_least), np.empty((0, rows.shape[1]), np.float32)
    for start in range(0, n_rows, size):
        block = np.concatenate([seen, np.asarray(rows[start : start + size], np.float32)])
        block = np.ascontiguousarray(block) + 0.0  # -0.0 and 0.0 are one value
        _, first = np.unique(
            block.view(np.dtype((np.void, block.shape[1] * 4))).ravel(), return_index=True
        )
        seen = block[first]
        if len(seen) >= at_least:
            break
    return len(seen)


def is_lazy(X: Any) -> bool:
    """Return whether `X` is read from disk or made on demand: a memory map, or one that says so."""
    return isinstance(X, np.memmap) or getattr(X, "reads_on_demand", False) is True


def one_or_list(items: list[Any]) -> Any:
    """Return the one item, or the list where there are several: how heads take spaces."""
    return items[0] if len(items) == 1 else items


def is_matrix(data: Any) -> bool:
    """Return whether `data` is a numeric array or a 2-D tensor: embeddings, not raw rows."""
    if isinstance(data, np.ndarray):
        return data.dtype.kind in "fiub"
    return hasattr(data, "detach") and getattr(data, "ndim", 0) == 2


def is_embeddings(data: Any) -> bool:
    """Return whether `data` needs no encoder."""
    return is_store(data) or is_lazy(data) or is_space_list(data) or is_matrix(data)


def space_list(X: Any) -> list[Any]:
    """Return one array-like a space of an array, a store or a list of those."""
    if is_store(X):
        return [X.space(name) for name in X.spaces]
    if is_space_list(X):
        return [space for part in X for space in space_list(part)]
    X = from_tensor(X)
    return [X if hasattr(X, "shape") else np.asarray(X)]


def from_tensor(X: Any) -> Any:
    """Return a tensor as an array, wherever it lies and whatever its type; all else as it is."""
    if not hasattr(X, "detach"):
        return X
    X = X.detach().cpu()
    return (X.float() if X.is_floating_point() else X).numpy()


def zero_rows(spaces: Sequence[Any]) -> NDArray[np.bool_]:
    """Return which rows (n,) are zero in every space: nothing is known of them.

    Rows that could not be read are kept as zeros, and so do failed requests come.
    """
    out = np.ones(spaces[0].shape[0], bool)
    for space in spaces:
        for start in range(0, len(out), BLOCK_ROWS):
            block = np.asarray(space[start : start + BLOCK_ROWS])
            out[start : start + BLOCK_ROWS] &= ~block.any(axis=1)
    return out
