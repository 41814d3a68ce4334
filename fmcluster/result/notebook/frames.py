"""Columns as a frame of the kind that the user works with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fmcluster.utils.frames import to_kind
from fmcluster.utils.validation import check_in


def as_frame(columns: Mapping[str, Any], kind: str = "pandas") -> Any:
    """Return the columns, in order, as a frame of one kind.

    Parameters
    ----------
    columns : mapping of str to (n,) array or list
        All of one length; lists where values are lists or may be missing (None).
    kind : {"pandas", "arrow", "polars"}
        A ``pandas.DataFrame`` with rows numbered from 0, a ``pyarrow.Table`` or a
        ``polars.DataFrame``.

    Raises
    ------
    ValueError
        Another kind.
    """
    if check_in(kind, ("pandas", "arrow", "polars"), "kind") == "pandas":
        import pandas as pd

        return pd.DataFrame(dict(columns))
    import pyarrow as pa

    return to_kind(pa.table(dict(columns)), kind)
