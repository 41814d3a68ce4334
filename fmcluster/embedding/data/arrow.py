"""Arrow columns of vectors as arrays (n, d)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.utils.errors import DataError


def vectors_of_dataset(ds: Any, column: str) -> NDArray[Any]:
    """Return a column of vectors as (n, d), without a copy where the column is one chunk.

    Raises
    ------
    DataError
        No such column, not vectors, vectors of several lengths, or missing ones.
    """
    if column not in ds.column_names:
        raise DataError(f"no column {column!r}: the dataset has {', '.join(ds.column_names)}")
    table = ds.with_format("arrow")[:]
    return vectors_of_column(table[column], column)


def vectors_of_column(chunked: Any, name: str) -> NDArray[Any]:
    """Turn an Arrow column of lists of numbers into (n, d)."""
    import pyarrow as pa

    kind = chunked.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (is_list or pa.types.is_fixed_size_list(kind)):
        raise DataError(f"column {name!r} holds {kind}, expected a vector of numbers per row")
    if chunked.null_count or not len(chunked):
        raise DataError(f"column {name!r} has {chunked.null_count} missing vectors, or no rows")
    parts = []
    for chunk in chunked.chunks:
        values = chunk.flatten().to_numpy(zero_copy_only=False)
        width, rest = divmod(len(values), max(len(chunk), 1))
        lengths = np.diff(chunk.offsets.to_numpy()) if is_list else np.array([width])
        if rest or values.dtype.kind not in "fiu" or (lengths != width).any():
            raise DataError(f"column {name!r} must hold numeric vectors of one length in every row")
        parts.append(values.reshape(len(chunk), width))
    parts = [part for part in parts if len(part)]
    if len({part.shape[1] for part in parts}) > 1:
        raise DataError(f"column {name!r} must hold numeric vectors of one length in every row")
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
