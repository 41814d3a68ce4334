"""Matrices of as many rows as memory has no room for: made, read and copied some rows at a time.

Of a million rows in five thousand clusters the probabilities alone are 20 GB. Above `IN_MEMORY`
such a matrix lives in a file without a name, which is gone when the last array of it is; it is an
ordinary array to whoever reads it, and what the package itself asks of all rows it asks of blocks
of them, whose memory it gives back.
"""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Bytes of the largest matrix that is held: some copies of it fit into a small machine.
IN_MEMORY = 2**29
# Values that are read at a time: of which there are some copies, 32 MiB each in float64.
BLOCK_VALUES = 2**22


def stacked(parts: Iterable[NDArray[Any]], n_rows: int | None = None) -> NDArray[Any]:
    """Return blocks of rows as one array, in a file where it is larger than `IN_MEMORY`.

    Parameters
    ----------
    parts : iterable of arrays
        As many columns in each.
    n_rows : int, optional
        Rows of all parts, where they are known: nothing is then held twice.

    Raises
    ------
    OSError
        The disk has no room for it.
    """
    parts = iter(parts)
    held = [part for part in [next(parts, None)] if part is not None]
    if n_rows is not None and held:
        shape = (n_rows, *held[0].shape[1:])
        if _size(shape, held[0].dtype) > IN_MEMORY:
            check_room(shape, held[0].dtype)
            return _in_file(chain(held, parts))
        out, start = np.empty(shape, held[0].dtype), 0
        for part in chain(held, parts):
            out[start : start + len(part)] = part
            start += len(part)
        return out
    size = sum(part.nbytes for part in held)
    for part in parts:
        held.append(part)
        size += part.nbytes
        if size > IN_MEMORY:
            return _in_file(chain(held, parts))
    return np.concatenate(held) if held else np.empty(0)


def check_room(shape: tuple[int, ...], dtype: Any = np.float32) -> None:
    """Raise OSError where a matrix belongs into a file and its disk has no room, before it is made.

    Raises
    ------
    OSError
    """
    needed = _size(shape, dtype)
    if needed <= IN_MEMORY:
        return
    folder = _scratch()
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"probabilities of {shape[0]:,} rows in {shape[-1]:,} clusters take "
            f"{needed / 1e9:.1f} GB on disk, and {free / 1e9:.1f} GB are free in {folder}: let "
            "TMPDIR name a folder with room, or ask for fewer clusters"
        )


def row_blocks(array: NDArray[Any]) -> Iterator[slice]:
    """Yield slices over the rows of `array`, at least one.

    What each has read of a file is out of memory after, where there are several: a block of
    somebody's map is still wanted by who read it.
    """
    size = _block_rows(array)
    mapped = _map_of(array) if len(array) > size else None
    for start in range(0, max(len(array), 1), size):
        yield slice(start, start + size)
        if mapped is not None:
            _let_go(mapped)


def by_rows(take: Callable[[NDArray[Any]], NDArray[Any]], array: NDArray[Any]) -> NDArray[Any]:
    """Return what `take` makes of blocks of the rows of `array`, joined."""
    return stacked((take(array[part]) for part in row_blocks(array)), len(array))


def row_max(array: NDArray[Any]) -> NDArray[Any]:
    """Return the largest value (n,) of each row."""
    return by_rows(lambda part: part.max(axis=1), array)


def row_argmax(array: NDArray[Any]) -> NDArray[np.int64]:
    """Return the column (n,) of the largest value of each row."""
    return by_rows(lambda part: part.argmax(axis=1), array)


def copied(array: NDArray[Any], dtype: Any = None) -> NDArray[Any]:
    """Return a copy that may be written to."""
    return by_rows(lambda part: np.array(part, dtype), array)


def joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the rows of several matrices as one."""
    parts = (array[part] for array in arrays for part in row_blocks(array))
    return stacked(parts, sum(map(len, arrays)))


def picked(array: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return some rows of `array`: itself where they are all of them, as they come."""
    if len(rows) == len(array) and np.array_equal(rows, np.arange(len(array))):
        return array
    size = _block_rows(array)
    starts = range(0, max(len(rows), 1), size)
    return stacked((array[rows[start : start + size]] for start in starts), len(rows))


# -- pieces -----------------------------------------------------------------------------------


def _in_file(parts: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """Return blocks of rows as one array in a file that is gone with it."""
    n_rows = 0
    with tempfile.TemporaryFile(prefix="fmcluster-", dir=_scratch()) as file:
        for part in parts:
            # Through Python: numpy's own way loses what a full disk says.
            file.write(np.ascontiguousarray(part).data)
            n_rows += len(part)
        file.flush()
        return np.asarray(np.memmap(file, part.dtype, "r+", shape=(n_rows, *part.shape[1:])))


def _block_rows(array: NDArray[Any]) -> int:
    return max(1, BLOCK_VALUES // max(math.prod(array.shape[1:]), 1))


def _size(shape: tuple[int, ...], dtype: Any) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize


def _scratch() -> str:
    """Return the folder of large files: /tmp is memory on many machines, /var/tmp is a disk."""
    usual = os.environ.get("TMPDIR") or "/var/tmp"
    return usual if Path(usual).is_dir() and os.access(usual, os.W_OK) else tempfile.gettempdir()


def _map_of(array: Any) -> np.memmap[Any, Any] | None:
    """Return the map of the file that `array` lies in, None where it is held."""
    while not (isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap)):
        if array is None:
            return None
        array = getattr(array, "base", None)
    # What was written to a private map is nowhere else.
    return None if array.mode == "c" else array


def _let_go(mapped: np.memmap[Any, Any]) -> None:
    """Give back the memory of what was read of a file; it is read again where it is asked for."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped.base.madvise(mmap.MADV_DONTNEED)  # type: ignore[union-attr]
