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
    first : Source, JoinedSource or None
        None stands for no rows.
    second : Source
        Of the same modality; both of known length.
    offset : int, optional
        What is added to the ids of `second`, where they are row numbers.
    """

    def __init__(self, first: Any, second: Source, offset: int = 0) -> None:
        self.first, self.second, self.offset = first, second, offset
        self.modality = second.modality
        self.is_stream = False
        self.numbers_rows = second.numbers_rows and (first is None or first.numbers_rows)
        self.n_first = 0 if first is None else int(first.n_rows)
        self.n_rows = self.n_first + int(second.n_rows or 0)

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain(self.first or (), self.second)

    def ids(self, start: int, stop: int) -> NDArray[Any]:
        """Return the ids of rows start..stop-1."""
        n = self.n_first
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

    def decode(self, raw: list[Any], start: int, *, on_error: str = "raise") -> Block:
        """Turn raw rows into texts or images, each by the source it is of."""
        cut = max(0, min(self.n_first - start, len(raw)))
        rows: list[Any] = []
        problems: dict[int, str] = {}
        for source, part, at in (
            (self.first, raw[:cut], start),
            (self.second, raw[cut:], max(start - self.n_first, 0)),
        ):
            if part:
                block = source.decode(part, at, on_error=on_error)
                problems |= {len(rows) + place: why for place, why in block.problems.items()}
                rows += block.rows
        return Block(start, self.ids(start, start + len(raw)), rows, problems)


def joined_source(first: Any, second: Any, offset: int) -> JoinedSource | None:
    """Return both sources as one, or None where one is not at hand or comes only once."""
    if not (is_readable(first) and is_readable(second)) or first.modality != second.modality:
        return None
    return JoinedSource(first, second, offset)


def is_readable(source: Any) -> bool:
    """Return whether raw rows can be read from `source`, as often as asked."""
    known = source is not None and hasattr(source, "decode")
    return known and not source.is_stream and source.modality != "embedding"
