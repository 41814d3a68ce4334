"""One array over many `.npy` shards: indexed like numpy, read from disk only where asked."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fmcluster.utils.errors import CorruptShardError
from fmcluster.utils.files import read_array

# Pages read through a map count as this process's memory: past about this many bytes they are
# given back to the system, which keeps them in its own cache while it can.
RESIDENT_BYTES = 256 * 2**20
# What the kernel was seen to map around one row that is read at random, at most.
_FAULT_BYTES = 64 * mmap.PAGESIZE
MOST_MAPS = 4096  # open maps: the kernel allows 65,530 to a process


def map_shard(
    path: Path, shape: tuple[int, ...], dtype: DTypeLike | None, *, remedy: str
) -> NDArray[Any]:
    """Memory-map one shard after checking that its header says what is expected.

    Raises
    ------
    CorruptShardError
        The file is missing, truncated, not a ``.npy`` file, or of another shape or dtype.
    """
    try:
        array = read_array(path, mmap=True) if 0 not in shape else read_array(path)
    except FileNotFoundError:
        raise CorruptShardError(f"shard {path} is missing: {remedy}") from None
    except CorruptShardError as error:
        raise CorruptShardError(f"{error}: {remedy}") from None
    if array.shape != shape or (dtype is not None and array.dtype != np.dtype(dtype)):
        expected = f"{shape}" + (f" {np.dtype(dtype)}" if dtype is not None else "")
        raise CorruptShardError(
            f"shard {path} holds {array.shape} {array.dtype}, expected {expected}: {remedy}"
        )
    return array


class ShardedArray:
    """Rows of several ``.npy`` files as one read-only (n, d) array.

    Supports ``shape``, ``ndim``, ``dtype``, ``len``, ``np.asarray`` and indexing by an integer, a
    slice, an index array or a boolean mask; every answer is a fresh in-memory array. Maps are
    opened when first read and hold no file descriptor.

    Parameters
    ----------
    paths : sequence of Path
        One file a shard, in row order.
    rows : sequence of int
        Rows of each shard.
    dim : int
        Columns.
    dtype : dtype
        The same in every shard.
    remedy : str
        What an error about a damaged shard tells the user to do.
    """

    reads_on_demand: ClassVar[bool] = True

    ndim = 2

    def __init__(
        self,
        paths: Sequence[Path],
        rows: Sequence[int],
        dim: int,
        dtype: DTypeLike,
        *,
        remedy: str = "restore the file",
    ) -> None:
        self.paths = tuple(paths)
        self.offsets = np.concatenate([[0], np.cumsum(np.asarray(rows, dtype=np.int64))])
        self.dtype = np.dtype(dtype)
        self.shape = (int(self.offsets[-1]), int(dim))
        self._remedy = remedy
        self._maps: dict[int, NDArray[Any]] = {}
        self._resident = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"ShardedArray(shape={self.shape}, dtype={self.dtype}, shards={len(self.paths)})"

    @property
    def nbytes(self) -> int:
        """Size of all values in bytes."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def __getstate__(self) -> dict[str, Any]:
        # A worker process maps the files for itself.
        return {**self.__dict__, "_maps": {}}

    def shard(self, number: int) -> NDArray[Any]:
        """Return one shard as a read-only map (rows, d): no copy."""
        mapped = self._maps.get(number)
        if mapped is None:
            rows = int(self.offsets[number + 1] - self.offsets[number])
            shape = (rows, self.shape[1])
            mapped = map_shard(self.paths[number], shape, self.dtype, remedy=self._remedy)
            if len(self._maps) >= MOST_MAPS:
                self.close()
            self._maps[number] = mapped
        return mapped

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("rows on disk cannot become one array without a copy")
        out = np.empty(self.shape, dtype=dtype or self.dtype)
        for number in range(len(self.paths)):
            out[self.offsets[number] : self.offsets[number + 1]] = self.shard(number)
            self._count(self.shard(number).nbytes)
        return out

    def __getitem__(self, key: Any) -> NDArray[Any]:
        if isinstance(key, tuple):
            rows, columns = key[0], key[1:]
            if rows is Ellipsis:
                rows, columns = slice(None), key
            got = self[rows]
            single = isinstance(rows, (int, np.integer))
            return got[columns] if single else got[(slice(None), *columns)]
        if isinstance(key, (int, np.integer)):
            row = int(key)
            if not -len(self) <= row < len(self):
                raise IndexError(f"row {row} is out of bounds for {len(self)} rows")
            return self._gather(np.array([row % len(self)]))[0]
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                return self._read(start, max(start, stop))
            return self._gather(np.arange(start, stop, step))
        if key is Ellipsis:
            return np.asarray(self)
        return self._gather(self._row_numbers(key))

    def _row_numbers(self, key: Any) -> NDArray[np.int64]:
        """Turn an index list, index array or mask into checked, non-negative row numbers."""
        rows = np.asarray(key)
        if rows.ndim != 1:
            raise IndexError(f"rows must be given by a 1-D index, got shape {rows.shape}")
        if rows.dtype == bool:
            if len(rows) != len(self):
                raise IndexError(f"a mask of {len(rows)} entries cannot index {len(self)} rows")
            return np.flatnonzero(rows)
        if rows.size and rows.dtype.kind not in "iu":
            raise IndexError(f"rows must be integers, a slice or a mask, got dtype {rows.dtype}")
        rows = rows.astype(np.int64)
        if rows.size and not (-len(self) <= rows.min() and rows.max() < len(self)):
            raise IndexError(f"row indices must lie in 0..{len(self) - 1}, got {rows}")
        return np.where(rows < 0, rows + len(self), rows)

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        """Copy a contiguous range of rows, shard by shard."""
        out = np.empty((stop - start, self.shape[1]), dtype=self.dtype)
        cuts = np.clip(self.offsets, start, stop)
        for number in np.flatnonzero(np.diff(cuts)).tolist():
            low, high = cuts[number : number + 2]
            offset = self.offsets[number]
            out[low - start : high - start] = self.shard(number)[low - offset : high - offset]
            self._count(int(high - low) * out.strides[0])
        return out

    def _gather(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Copy rows in any order: sorted once, so that each shard is visited once and forward."""
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        out = np.empty((len(rows), self.shape[1]), dtype=self.dtype)
        cuts = np.searchsorted(ascending, self.offsets)
        for number in np.flatnonzero(np.diff(cuts)):
            part = slice(cuts[number], cuts[number + 1])
            local = ascending[part] - self.offsets[number]
            shard = self.shard(int(number))
            out[order[part]] = shard[local]
            self._count(min(len(local) * _FAULT_BYTES, shard.nbytes))
        return out

    def _count(self, read: int) -> None:
        """Add to the bytes that may be resident, and give them back when they are many."""
        self._resident += read
        if self._resident > RESIDENT_BYTES < self.nbytes:
            self.release()

    def close(self) -> None:
        """Let go of the maps; the next read opens them again."""
        self._maps.clear()
        self._resident = 0

    def release(self) -> None:
        """Give the pages read so far back to the system while keeping the maps."""
        self._resident = 0
        for mapped in list(self._maps.values()):
            handle = getattr(mapped, "_mmap", None)
            if handle is not None and hasattr(mmap, "MADV_DONTNEED"):
                handle.madvise(mmap.MADV_DONTNEED)
