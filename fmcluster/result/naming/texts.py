"""The texts that a result's clusters are named by: given ones, or those of its source."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.result.naming.phrases import TermTable, term_table

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# Rows read at a time: evenly spaced pieces of this size stand for long data.
PIECE_ROWS = 4_096
# Rows read in all: terms need no more.
MOST_ROWS = 100_000


@dataclass(frozen=True)
class RowTexts:
    """Texts of some rows of a result.

    Attributes
    ----------
    rows : (m,) int64
        Row numbers.
    texts : list of str
        Their texts.
    languages : tuple of str or None
        Languages that were given; None detects them.
    """

    rows: NDArray[np.int64]
    texts: list[str]
    languages: tuple[str, ...] | None = None

    @cached_property
    def table(self) -> TermTable:
        """Which text holds which term."""
        return term_table(self.texts, self.languages)


def given_texts(
    result: ClusterResult, texts: Iterable[str | None], languages: tuple[str, ...] | None
) -> RowTexts:
    """Return texts that were given, one a row in the order of ``result.ids``; None is no text.

    Raises
    ------
    ValueError
        Another number of texts than of rows.
    TypeError
        One that is no text.
    """
    found = list(texts)
    if len(found) != result.n_rows:
        raise ValueError(
            f"{len(found)} texts were given for {result.n_rows} rows: give one for each of "
            "result.ids, None where a row has none"
        )
    for row, text in enumerate(found):
        if text is not None and not isinstance(text, str):
            raise TypeError(f"text {row} is {text!r} of type {type(text).__name__}: give texts")
    rows = np.array([row for row, text in enumerate(found) if text is not None], np.int64)
    return RowTexts(rows, [t for t in found if t is not None], languages)


def source_texts(
    result: ClusterResult, *, languages: tuple[str, ...] | None = None, limit: int = MOST_ROWS
) -> RowTexts | None:
    """Return the texts of the result's own source; None where it has none.

    Parameters
    ----------
    result : ClusterResult
        With its `source`; images, streams and plain arrays have no texts.
    languages : tuple of str, optional
        ISO 639-1 codes.
    limit : int
        Rows that are read, in evenly spaced pieces.
    """
    source = result.source
    if source is None or source.modality != "text" or source.is_stream:
        return None
    of_id = {id_: row for row, id_ in enumerate(result.ids.tolist())}
    rows, texts = [], []
    for block in _blocks(source, limit):
        for id_, text in zip(block.ids.tolist(), block.rows, strict=True):
            if text is not None and id_ in of_id:
                rows.append(of_id[id_])
                texts.append(text)
    return RowTexts(np.array(rows, np.int64), texts, languages)


def _blocks(source: Any, limit: int) -> Iterable[Any]:
    """Yield decoded blocks of a source, evenly spaced where it is longer than `limit`."""
    n_pieces = -(-source.n_rows // PIECE_ROWS)
    read = min(n_pieces, max(1, limit // PIECE_ROWS))
    numbers = np.unique(np.linspace(0, n_pieces - 1, read).astype(int)).tolist()
    for number, raw in source.pieces(PIECE_ROWS, numbers):
        if not raw:
            return
        yield source.decode(raw, number * PIECE_ROWS, on_error="skip")
