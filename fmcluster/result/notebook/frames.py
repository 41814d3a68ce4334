"""Columns as a frame: the one place that knows kinds of frames.

What hands a table to the user makes a mapping of columns and calls `as_frame`; another kind of
frame is one more entry of `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fmcluster.utils.frames import to_kind
from fmcluster.utils.validation import check_in

# A column: an array (n,), or a list where its values are lists or may be missing.
Columns = Mapping[str, Any]


def as_frame(columns: Columns, kind: str = "pandas") -> Any:
    """Return the columns, in order, as a frame of one kind.

    Parameters
    ----------
    columns : mapping of str to (n,) array or list
        All of one length. None in a list is a missing value.
    kind : {"pandas", "arrow", "polars"}
        A ``pandas.DataFrame`` with rows numbered from 0, a ``pyarrow.Table`` or a
        ``polars.DataFrame``.

    Raises
    ------
    ValueError
        Another kind.
    """
    check_in(kind, tuple(KINDS), "kind")
    return KINDS[kind](columns)


def _pandas(columns: Columns) -> Any:
    import pandas as pd

    return pd.DataFrame(dict(columns))


def _arrow(columns: Columns) -> Any:
    import pyarrow as pa

    return pa.table(dict(columns))


def _polars(columns: Columns) -> Any:
    return to_kind(_arrow(columns), "polars")


KINDS: dict[str, Callable[[Columns], Any]] = {
    "pandas": _pandas,
    "arrow": _arrow,
    "polars": _polars,
}
