"""Columns of a stream, each read in a pass of its own, held to be of the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from fmcluster.embedding.data.columns import as_stored
from fmcluster.embedding.data.digest import update_digest
from fmcluster.utils.errors import DataError


class SameRows:
    """A stream that is read once for each of its columns.

    Every pass takes a digest of all columns, so that passes over other rows, or over the same ones
    in another order, are told apart.

    Parameters
    ----------
    data : IterableDataset
    columns : sequence of str
        The columns that are read.
    """

    def __init__(self, data: Any, columns: Sequence[str]) -> None:
        self.columns = list(dict.fromkeys(columns))
        self.data = as_stored(data, self.columns)
        # Column -> rows of its longest pass so far, and their running digest.
        self._passes: dict[str, tuple[int, Any]] = {}

    def rows(self, column: str, start: int) -> Iterator[Any]:
        """Iterate over the raw rows of one column from row `start` on."""
        digest = hashlib.sha256()
        for count, row in enumerate(self.data, start=1):
            for name in self.columns:
                update_digest(digest, row[name], base=None, strings_are_paths=False)
            if count >= self._passes.get(column, (0, None))[0]:
                self._passes[column] = (count, digest)
            if count > start:
                yield row[column]

    def check(self) -> None:
        """Raise DataError where the passes were not over the same rows."""
        found = {
            name: (count, digest.hexdigest()) for name, (count, digest) in self._passes.items()
        }
        if len(set(found.values())) > 1:
            counts = ", ".join(f"{count} for {name!r}" for name, (count, _) in found.items())
            raise DataError(
                f"the stream gave other rows for one column than for another ({counts} rows): the "
                "parts would be of different rows; save it first, or fix the seed of its shuffle"
            )
