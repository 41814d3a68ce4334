"""Row ids are names: `IdIndex` finds rows by them, and never takes a name for a position.

Ids that a user gave (ticket numbers, hashes, paths) look like row numbers and are none. Whether
ids *are* the row numbers of the data is a fact that can be checked: together with the rows that
were left out they are 0, 1, 2, ... in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.utils.errors import DataError
from fmcluster.utils.validation import is_missing, listed


def check_ids(ids: Any) -> NDArray[Any]:
    """Return row ids as int64 or fixed-width strings (n,), unique.

    Integers that int64 does not hold (64-bit hashes) become their decimal text.
    """
    array = np.asarray(ids)
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        array = array.astype(np.str_)
    if array.dtype.kind == "O":
        ids = [str(value) for value in ids]
        array = np.asarray(ids)
    if array.ndim != 1 or array.dtype.kind not in "iuU":
        raise DataError(
            f"ids must be one integer or string per row, got {array.dtype} of shape {array.shape}"
        )
    if array.dtype.kind != "U":
        array = array.astype(np.int64)
        if bool((np.diff(array) > 0).all()):
            return array
    elif not isinstance(ids, np.ndarray):
        cut = next((value for value in ids if str(value).endswith("\0")), None)
        if cut is not None:  # numpy would drop it
            raise DataError(f"row id {cut!r} ends in a NUL character: take it off")
    values, counts = np.unique(array, return_counts=True)
    if len(values) < len(array):
        repeated = values[counts > 1]
        raise DataError(
            f"{len(repeated)} row id(s) occur more than once, the first is "
            f"{repeated[0].item()!r}: ids must be unique"
        )
    return array


def _as_kept(value: Any) -> Any:
    """Return an id as `check_ids` keeps it among texts: a UUID, or a hash of 64 bits, as its text.

    Smaller integers stay what they are: 7 is not "7".
    """
    is_small = isinstance(value, int) and abs(value) <= np.iinfo(np.int64).max
    return value if is_small or isinstance(value, str) or is_missing(value) else str(value)


@dataclass(frozen=True)
class IdIndex:
    """The rows of a store or a result by their ids.

    Attributes
    ----------
    ids : (n,) array
        Id of each row, unique.
    left_out : sequence
        Ids of rows of the data that have no row here (``on_error="skip"``).
    """

    ids: NDArray[Any]
    left_out: Sequence[Any] = field(default=(), repr=False)

    @cached_property
    def _index(self) -> Any:
        import pandas as pd

        return pd.Index(self.ids)

    @property
    def _are_text(self) -> bool:
        return self.ids.dtype.kind == "U"

    @property
    def n_source(self) -> int:
        """Rows of the data: those here and those left out."""
        return len(self.ids) + len(self.left_out)

    @cached_property
    def are_positions(self) -> bool:
        """Whether the ids are the row numbers of the data, and not names that look like them."""
        if self.ids.dtype.kind not in "iu" or (len(self.ids) and (np.diff(self.ids) <= 0).any()):
            return False
        try:
            every = np.concatenate([self.ids, np.asarray(self.left_out, dtype=np.int64)])
        except (TypeError, ValueError):
            return False
        return bool((np.sort(every) == np.arange(self.n_source)).all())

    def find(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Return the row of each id, -1 where there is none: ids of another kind are unknown."""
        asked = np.asarray(listed(ids)).reshape(-1)
        if self._are_text and asked.dtype.kind in "Ou":
            asked = np.array([_as_kept(value) for value in asked.tolist()], dtype=object)
        # Objects are compared one by one: a column of them may hold numbers.
        is_other = asked.dtype.kind != "O" and (asked.dtype.kind in "US") != self._are_text
        if len(asked) == 0 or is_other:
            return np.full(len(asked), -1, np.int64)
        try:
            return np.asarray(self._index.get_indexer(asked), dtype=np.int64)
        except TypeError:  # lists, or a dict: no id at all
            return np.full(len(asked), -1, np.int64)

    def rows_of(self, ids: ArrayLike, *, name: str = "ids") -> NDArray[np.int64]:
        """Return the row numbers (m,) of some ids.

        Raises
        ------
        ValueError
            Unknown or repeated ids, which are quoted.
        """
        asked = np.asarray(listed(ids)).reshape(-1)
        rows = self.find(asked)
        if (rows < 0).any():
            unknown = asked[rows < 0]
            quoted = ", ".join(map(repr, unknown[:5].tolist()))
            example = self.ids[0].item() if len(self.ids) else None
            raise ValueError(
                f"{name} holds {len(unknown)} id(s) that are not among the {len(self.ids)} rows: "
                f"{quoted}; ids here are such as {example!r}: give them as `result.ids` has them"
            )
        if len(np.unique(rows)) < len(rows):
            values, counts = np.unique(asked, return_counts=True)
            twice = values[counts > 1][:5].tolist()
            raise ValueError(f"{name} names rows more than once: {twice}; give each id once")
        return rows

    def align(
        self, values: NDArray[Any], *, source_ids: ArrayLike | None = None, name: str = "labels"
    ) -> NDArray[Any]:
        """Return the values of the rows here, from one value per row of the data, in its order.

        Parameters
        ----------
        values : (n_source,) array
            As many as the data has rows: neither more nor fewer.
        source_ids : (n_source,) array, optional
            Ids of all rows of the data, where they are at hand.

        Raises
        ------
        DataError
            Another number of values, or rows were left out and nothing tells which.
        """
        if len(values) != self.n_source:
            rest = f" and {len(self.left_out)} left out" if self.left_out else ""
            raise DataError(
                f"{len(values)} {name} for {self.n_source} rows of the data ({len(self.ids)} "
                f"embedded{rest}): give one per row, or a table with columns id and label"
            )
        if not self.left_out:
            return values
        if source_ids is not None:
            return values[IdIndex(np.asarray(source_ids)).rows_of(self.ids)]
        if self.are_positions:
            return values[self.ids]
        raise DataError(
            f"{len(self.left_out)} rows were left out, and their places in the data are not known "
            f"by their ids: give {name} as a table with columns id and label"
        )

    def parse(self, texts: Sequence[str], *, name: str = "id") -> NDArray[Any]:
        """Return ids that a file holds as text, in the kind that ids have here.

        Raises
        ------
        DataError
            A text that is no whole number where ids are numbers.
        """
        if self.ids.dtype.kind == "U":
            return np.asarray([str(text) for text in texts], dtype=np.str_)
        try:
            return np.asarray([int(text) for text in texts], dtype=np.int64)
        except (TypeError, ValueError) as error:
            raise DataError(f"column {name}: ids here are whole numbers; {error}") from None
