"""The raw rows behind a result: shown by row number, found by their words."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.result.report.items import Items
from fmcluster.utils.ids import IdIndex

# Characters of a text in a list, and where a row is looked at by itself.
SHORT, LONG = 240, 5_000
# Pictures, or clips of recordings, that are held: 48 kB each, so 100 MB.
MOST_PICTURES = 2_000


class Rows:
    """Texts or pictures of the rows of a result, from its data; nothing without data.

    Parameters
    ----------
    source : Source, sequence or None
        The raw data, as `Items` takes it.
    index : IdIndex
        Rows of the result by id.
    """

    def __init__(self, source: Any, index: IdIndex) -> None:
        self.source, self._index = source, index
        self._lock = threading.Lock()
        self._items = Items(source, index)
        self._held: set[int] = set()
        self._words: list[str] | None = None
        self.kind = self._items.kind

    def load(self) -> None:
        """Read all texts; pictures are read when they are shown."""
        with self._lock:
            if self.kind == "text" and self._words is None:
                every = np.arange(len(self._index.ids))
                self._items.load(every)
                self._words = [self._items.text(row, LONG).lower() for row in every.tolist()]
        self.kind = self._items.kind

    @property
    def problem(self) -> str:
        """Why there are no texts or pictures; empty where there are."""
        return self._items.missing_reason

    def show(self, rows: NDArray[np.int64], *, length: int = SHORT) -> list[dict[str, str]]:
        """Return ``text``, or a data URL as ``image`` or ``audio``, of each row; {} for nothing."""
        self.load()
        with self._lock:
            if self.kind in ("image", "audio"):
                self._read_pictures(rows)
            return [self._items.show(row, length) for row in rows.tolist()]

    def _read_pictures(self, rows: NDArray[np.int64]) -> None:
        if len(self._held) + len(rows) > MOST_PICTURES:
            self._items, self._held = Items(self.source, self._index), set()
        new = [row for row in rows.tolist() if row not in self._held]
        if new:
            self._items.load(np.asarray(new, np.int64))
            self._held.update(new)

    def find(self, words: str) -> NDArray[np.int64]:
        """Return the rows whose text has all words, or whose id is or begins with them."""
        self.load()
        wanted = words.lower().split()
        if not wanted:
            return np.empty(0, np.int64)
        ids = np.char.lower(self._index.ids.astype(np.str_))
        whole = " ".join(wanted)
        named = np.flatnonzero(np.char.startswith(ids, whole))
        exact = np.flatnonzero(ids == whole)
        texts = self._words or []
        said = [row for row, text in enumerate(texts) if all(word in text for word in wanted)]
        order = np.concatenate([exact, named, np.asarray(said, np.int64)])
        _, first = np.unique(order, return_index=True)
        return order[np.sort(first)].astype(np.int64)
