"""Clusters as columns of a Hugging Face dataset or a frame, aligned by row id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.utils.frames import column_names, column_of, kind_of_frame, with_columns
from fmcluster.utils.ids import check_ids
from fmcluster.utils.validation import one_line

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult


def to_dataset(result: ClusterResult, ds: Any, *, id_column: str | None = None) -> Any:
    """Return `ds` with columns "cluster" and "confidence", aligned by row id.

    Rows of `ds` that were skipped get None in both; rows that fit no cluster (label -1) get None
    as their cluster. In a Dataset clusters are a ClassLabel; a frame gets a column "name" beside
    their numbers, where clusters have names.

    Parameters
    ----------
    ds : Dataset, or frame of pandas, polars, Arrow or any library with Arrow's C interface
        The data that was embedded, or, where rows have ids of their own, any rows of it in
        any order. What comes back is of the same kind (of other libraries, a ``pyarrow.Table``).
    id_column : str, optional
        Column of `ds` that holds the row ids; by default the one that the data was read with.

    Raises
    ------
    TypeError
        Neither Dataset nor frame.
    ValueError
        Ids that are names, and no column to find them in; another number of rows; ids of
        `ds` that occur twice.
    """
    is_frame = kind_of_frame(ds) is not None
    if not is_frame and not hasattr(ds, "column_names"):
        raise TypeError(
            f"a Dataset or a frame is needed, got {one_line(ds)} of type {type(ds).__name__}"
        )
    columns = column_names(ds) if is_frame else ds.column_names
    values_of = (lambda name: column_of(ds, name)) if is_frame else ds.__getitem__
    n_rows = int(ds.num_rows) if hasattr(ds, "num_rows") else len(ds)
    rows = _rows_of_dataset(result, columns, values_of, n_rows, id_column)
    known = rows >= 0
    placed = known & (result.labels[rows] >= 0)
    cluster = [int(result.labels[r]) if ok else None for r, ok in zip(rows, placed, strict=True)]
    confidence = [
        float(result.confidence[r]) if ok else None for r, ok in zip(rows, known, strict=True)
    ]
    if is_frame:
        return _framed(result, ds, cluster, confidence)
    from datasets import ClassLabel, Value

    taken = [name for name in ("cluster", "confidence") if name in ds.column_names]
    ds = ds.remove_columns(taken)
    ds = ds.add_column("cluster", cluster).add_column("confidence", confidence)
    names = (
        list(result.names) if result.names and len(set(result.names)) == len(result.names) else None
    )
    label_type = ClassLabel(num_classes=result.n_clusters, names=names)
    return ds.cast_column("cluster", label_type).cast_column("confidence", Value("float32"))


def _framed(
    result: ClusterResult, frame: Any, cluster: list[int | None], confidence: list[float | None]
) -> Any:
    import pyarrow as pa

    columns = {
        "cluster": pa.array(cluster, pa.int64()),
        "confidence": pa.array(confidence, pa.float32()),
    }
    if result.names:
        names = [None if k is None else result.names[k] for k in cluster]
        columns["name"] = pa.array(names, pa.string())
    return with_columns(frame, columns)


def _rows_of_dataset(
    result: ClusterResult,
    columns: Sequence[str],
    values_of: Callable[[str], Any],
    n_rows: int,
    id_column: str | None,
) -> NDArray[np.int64]:
    """Return the result's row of each row of the data, -1 where it has none."""
    column = id_column or result.provenance.get("id_column")
    if column is not None and column in columns:
        names = check_ids(values_of(column))
        if result.ids.dtype.kind == "U":
            names = names.astype(np.str_)
        rows = result.index.find(names)
        if (rows < 0).all():
            raise ValueError(
                f"no id in column {column!r} of the dataset is among the ids of this result, "
                f"such as {result.ids[0].item()!r}: give the dataset that was embedded"
            )
        return rows
    if id_column is not None or not result.index.are_positions:
        raise ValueError(
            f"ids of this result, such as {result.ids[0].item()!r}, are names and no row "
            f"numbers: give id_column=, the column that holds them; the dataset has columns "
            f"{list(columns)}"
        )
    if n_rows != result.index.n_source:
        raise ValueError(
            f"the dataset has {n_rows} rows, the data of this result had "
            f"{result.index.n_source}: give the dataset that was embedded"
        )
    rows = np.full(n_rows, -1, np.int64)
    rows[result.ids] = np.arange(result.n_rows)
    return rows
