"""Clusters as columns of a Hugging Face dataset, aligned by row id."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmcluster.utils.ids import check_ids

if TYPE_CHECKING:
    from datasets import Dataset

    from fmcluster.result.result import ClusterResult


def to_dataset(result: ClusterResult, ds: Dataset, *, id_column: str | None = None) -> Dataset:
    """Return `ds` with columns "cluster" (a ClassLabel) and "confidence", aligned by row id.

    Rows of `ds` that were skipped get None in both; rows that fit no cluster (label -1) get None
    as their cluster.

    Parameters
    ----------
    ds : Dataset
        The data that was embedded, or, where rows have ids of their own, any rows of it in
        any order.
    id_column : str, optional
        Column of `ds` that holds the row ids; by default the one that the data was read with.

    Raises
    ------
    ValueError
        Ids that are names, and no column to find them in; another number of rows; ids of
        `ds` that occur twice.
    """
    from datasets import ClassLabel, Value

    rows = _rows_of_dataset(result, ds, id_column)
    known = rows >= 0
    placed = known & (result.labels[rows] >= 0)
    cluster = [int(result.labels[r]) if ok else None for r, ok in zip(rows, placed, strict=True)]
    confidence = [
        float(result.confidence[r]) if ok else None for r, ok in zip(rows, known, strict=True)
    ]
    taken = [name for name in ("cluster", "confidence") if name in ds.column_names]
    ds = ds.remove_columns(taken)
    ds = ds.add_column("cluster", cluster).add_column("confidence", confidence)
    names = (
        list(result.names) if result.names and len(set(result.names)) == len(result.names) else None
    )
    label_type = ClassLabel(num_classes=result.n_clusters, names=names)
    return ds.cast_column("cluster", label_type).cast_column("confidence", Value("float32"))


def _rows_of_dataset(
    result: ClusterResult, ds: Dataset, id_column: str | None
) -> NDArray[np.int64]:
    """Return the row of each row of `ds`, -1 where it has none."""
    column = id_column or result.provenance.get("id_column")
    if column in ds.column_names:
        names = check_ids(ds[column])
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
            f"{ds.column_names}"
        )
    if len(ds) != result.index.n_source:
        raise ValueError(
            f"the dataset has {len(ds)} rows, the data of this result had "
            f"{result.index.n_source}: give the dataset that was embedded"
        )
    rows = np.full(len(ds), -1, np.int64)
    rows[result.ids] = np.arange(result.n_rows)
    return rows
