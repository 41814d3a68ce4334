"""Raw rows read a few at a time, as many as some bytes hold, and digested as they pass.

Less than a page of a Parquet file is never read, nor less than a stream of `datasets` hands over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fmcluster.embedding.data.audio import Sound
from fmcluster.embedding.data.digest import update_digest
from fmcluster.embedding.data.values import is_pil

T = TypeVar("T")
# Rows taken at once from tables and datasets where they are small: a call costs less than its rows.
BATCH = 256
# Of rows taken at once: a sixteenth of what a block of decoded images takes (`blocks.BLOCK_BYTES`).
READ_BYTES = 2**24


def held_bytes(row: Any) -> int:
    """Return about how many bytes a raw row holds: an encoded file, pixels, samples or a text."""
    if isinstance(row, Mapping):
        row = row.get("bytes", row.get("array"))
    if isinstance(row, Sound):
        row = row.samples
    if isinstance(row, (bytes, bytearray, str)):
        return len(row)
    if is_pil(row):
        return 3 * int(row.width * row.height)
    return row.nbytes if isinstance(row, np.ndarray) else 0


def rows_for(n_bytes: float, n_rows: int) -> int:
    """Return how many rows to take at once where so many take so many bytes."""
    return int(np.clip(READ_BYTES * n_rows / max(n_bytes, 1), 1, BATCH))


def in_batches(read: Callable[[int, int], Sequence[T]], start: int, stop: int) -> Iterator[T]:
    """Yield rows ``start..stop - 1`` of what ``read(low, high)`` gives, `READ_BYTES` at a time.

    How large rows are is told by those before, so that batches begin with one row and no batch has
    over twice the rows of the last.
    """
    size = 1
    while start < stop:
        rows = read(start, min(start + size, stop))
        start += len(rows)
        size = min(2 * size, rows_for(sum(map(held_bytes, rows)), len(rows)))
        yield from rows


class Digesting:
    """An iterator over raw rows that adds them to a digest and counts them.

    Parameters
    ----------
    raw : iterable
        The rows.
    base, strings_are_paths
        As of `update_digest`.

    Attributes
    ----------
    count : int
        Rows that have passed.
    """

    def __init__(self, raw: Iterable[Any], *, base: Path | None, strings_are_paths: bool) -> None:
        self._rows, self._digest, self.count = iter(raw), hashlib.sha256(), 0
        self._how: dict[str, Any] = {"base": base, "strings_are_paths": strings_are_paths}

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the rows, once."""
        return self

    def __next__(self) -> Any:
        """Return the next row."""
        row = next(self._rows)
        update_digest(self._digest, row, **self._how)
        self.count += 1
        return row

    @property
    def digest(self) -> str:
        """Of the rows that have passed."""
        return self._digest.hexdigest()[:32]

    def pass_all(self) -> None:
        """Let the rest of the rows pass without being kept."""
        for _ in self:
            pass
