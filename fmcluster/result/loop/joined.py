"""Two sources of raw rows as one: the rows of a result, and those that came later."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.source import Block, Source


class JoinedSource:
    """Rows of `first`, then rows of `second`; what names and reports ask of a `Source`.

    Parameters
    ----------
    first, second : Source or JoinedSource
        Of one modality, both of known length.
    offset : int, optional
        What is added to the ids of `second`, where they are row numbers.
    """

    def __init__(self, first: Any, second: Source, offset: int = 0) -> None:
        self.first, self.second, self.offset = first, second, offset
        self.modality = first.modality
        self.is_stream = False
        self.numbers_rows = bool(first.numbers_rows and second.numbers_rows)
        self.n_rows = int(first.n_rows + (second.n_rows or 0))

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain(self.first, self.second)

    def ids(self, start: int, stop: int) -> NDArray[Any]:
        """Return the ids of rows start..stop-1."""
        n = self.first.n_rows
        later = self.second.ids(max(start - n, 0), max(stop - n, 0))
        if self.second.numbers_rows:
            later = later + self.offset
        if start >= n:
            return later
        return np.concatenate([self.first.ids(start, min(stop, n)), later])

    def pieces(self, size: int, numbers: Iterable[int]) -> Iterator[tuple[int, list[Any]]]:
        """Yield (number, raw rows) of pieces of `size` rows, as `Source.pieces` does."""
        rows, position = iter(self), 0
        for number in numbers:
            next(itertools.islice(rows, number * size - position, number * size - position), None)
            piece = list(itertools.islice(rows, size))
            position = number * size + len(piece)
            yield number, piece
            if len(piece) < size:
                return

    def decode(self, raw: list[Any], start: int, **options: Any) -> Block:
        """Turn raw rows into texts or images, each by the source it is of."""
        cut = max(0, min(self.first.n_rows - start, len(raw)))
        rows: list[Any] = []
        problems: dict[int, str] = {}
        for source, part, at in (
            (self.first, raw[:cut], start),
            (self.second, raw[cut:], max(start - self.first.n_rows, 0)),
        ):
            if part:
                block = source.decode(part, at, **options)
                problems |= {len(rows) + place: why for place, why in block.problems.items()}
                rows += block.rows
        return Block(start, self.ids(start, start + len(raw)), rows, problems)


def joined_source(first: Any, second: Any, offset: int) -> Any:
    """Return both sources as one, or None where one is not at hand or comes only once."""
    for source in (first, second):
        if source is None or getattr(source, "is_stream", True) or not hasattr(source, "decode"):
            return None
    if first.modality != second.modality or first.modality == "embedding":
        return None
    return JoinedSource(first, second, offset)
