"""Frames of the caller's kind: what came as polars or Arrow goes back as that; no import of either.

A frame's own library is loaded where the frame is, so it is taken from there.
"""

from __future__ import annotations

import sys
from typing import Any

from fmcluster.utils.errors import MissingExtraError

# Kinds that `to_kind` makes; any other library with Arrow's C interface gets Arrow back.
KINDS = ("pandas", "polars", "arrow")


def kind_of_frame(data: Any) -> str | None:
    """Return "pandas", "polars" or "arrow"; None where `data` is no frame.

    >>> kind_of_frame([1, 2]) is None
    True
    """
    room = type(data).__module__.partition(".")[0]
    if room == "datasets":  # a Dataset is itself, though it has Arrow's interface
        return None
    if room == "polars":
        return "polars"
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        return "pandas"
    arrow = ("__arrow_c_stream__", "fetch_arrow_table")
    if room == "pyarrow" or any(hasattr(data, name) for name in arrow):
        return "arrow"
    return None


def to_kind(table: Any, kind: str) -> Any:
    """Return a ``pyarrow.Table`` as a frame of a kind.

    Raises
    ------
    ValueError
        Another kind.
    MissingExtraError
        The package of that kind is not installed.
    """
    if kind == "arrow":
        return table
    if kind == "pandas":
        return table.to_pandas()
    if kind != "polars":
        raise ValueError(f"kind={kind!r} is no kind of frame: known are {', '.join(KINDS)}")
    try:
        import polars
    except ImportError as error:
        raise MissingExtraError("kind='polars' needs polars: pip install polars") from error
    return polars.from_arrow(table)


def column_of(frame: Any, name: str) -> list[Any]:
    """Return the values of a frame's column."""
    import pyarrow as pa

    if kind_of_frame(frame) == "pandas":
        return list(frame[name].tolist())
    table = frame if isinstance(frame, pa.Table) else _table(frame)
    return list(table.column(name).to_pylist())


def column_names(frame: Any) -> list[str]:
    """Return the names of a frame's columns."""
    if kind_of_frame(frame) == "pandas":
        return [str(name) for name in frame.columns]
    return [str(name) for name in getattr(frame, "column_names", None) or frame.columns]


def with_columns(frame: Any, columns: dict[str, Any]) -> Any:
    """Return a frame with more columns (or others in their place), of its own kind.

    Parameters
    ----------
    frame : DataFrame, Table or any frame with Arrow's C interface
    columns : dict of str to pyarrow.Array (n,)
    """
    kind = kind_of_frame(frame)
    if kind == "pandas":
        import pandas as pd

        # Integers stay integers beside missing ones.
        types = {"int64": "Int64", "string": "string"}
        new = {
            name: pd.array(array.to_pylist(), dtype=types.get(str(array.type), "Float32"))
            for name, array in columns.items()
        }
        return frame.assign(**new)
    if kind == "polars":
        polars = sys.modules["polars"]
        series = [polars.from_arrow(array).alias(name) for name, array in columns.items()]
        return frame.with_columns(series)
    table = _table(frame)
    for name, array in columns.items():
        if name in table.column_names:
            table = table.drop_columns([name])
        table = table.append_column(name, array)
    return table


def _table(frame: Any) -> Any:
    import pyarrow as pa

    if isinstance(frame, pa.RecordBatch):
        return pa.Table.from_batches([frame])
    if isinstance(frame, pa.Table):
        return frame
    return pa.table(frame) if hasattr(frame, "__arrow_c_stream__") else frame.fetch_arrow_table()
