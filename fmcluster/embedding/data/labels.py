"""Labels of the rows, for evaluation only: nothing that fits or chooses reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.embedding.data.columns import choose_split, is_hf
from fmcluster.embedding.data.ids import ids_of_paths
from fmcluster.embedding.data.readers import list_images, load_npy, open_reader
from fmcluster.embedding.data.values import is_missing
from fmcluster.utils.errors import DataError


def read_labels(
    data: Any,
    column: str | None = None,
    *,
    split: str | None = None,
    ids: ArrayLike | None = None,
) -> NDArray[Any]:
    """Return a column of labels (n,): for evaluation only.

    Parameters
    ----------
    data : as for `Source`
        A ``.npy`` file or a 1-D array is taken as the labels themselves; a folder of images
        without `column` gives the name of each image's own folder.
    column : str, optional
        The column.
    split : str, optional
        Which split of a DatasetDict.
    ids : array-like, optional
        Return the labels of these rows (a store's ``ids``), in this order: row numbers, or the
        relative paths of a folder.

    Raises
    ------
    DataError
        No such column, missing labels, or ids that the data does not have.
    """
    names: list[str] | None = None
    if isinstance(data, (str, Path)) and Path(data).expanduser().is_dir():
        names = list_images(Path(data).expanduser())
    if names and column is None:
        labels = np.asarray([Path(name).parent.name for name in names])
    else:
        labels = _label_column(data, column, split)
    if labels.ndim != 1:
        raise DataError(f"labels must be one a row, got shape {labels.shape}")
    return labels if ids is None else _take_by_id(labels, np.asarray(ids), names)


def _label_column(data: Any, column: str | None, split: str | None) -> NDArray[Any]:
    """Read a whole column of small values from any tabular input."""
    if isinstance(data, (str, Path)):
        path = Path(data).expanduser()
        if path.suffix.lower() in (".npy", ".npz") and path.is_file():
            return _present(np.asarray(load_npy(path, column)))
    data = choose_split(data, split) if is_hf(data) else data
    if column is None and isinstance(data, (list, tuple, np.ndarray)):
        return _present(data)
    if column is None:
        raise DataError("which column holds the labels? name it")
    reader = open_reader(data, column=column, split=split)
    if reader.values_of is None:
        raise DataError(f"no column {column!r}: the data has none of that name")
    return _present(reader.values_of(column))


def _present(values: Any) -> NDArray[Any]:
    """Return labels as an array; missing ones would silently become a class of their own."""
    if isinstance(values, np.ndarray) and values.dtype.kind not in "fO":
        return values
    missing = [row for row, value in enumerate(values) if is_missing(value) or value == ""]
    if missing:
        raise DataError(f"{len(missing)} label(s) are missing, the first in row {missing[0]}")
    for row, value in enumerate(values):
        if isinstance(value, (list, tuple, dict, set)) or np.ndim(value) > 0:
            raise DataError(
                f"labels must be one a row: row {row} holds {str(value)[:40]!r} of type "
                f"{type(value).__name__}; name a column of single values"
            )
    return np.asarray(values)


def _take_by_id(labels: NDArray[Any], ids: NDArray[Any], names: list[str] | None) -> NDArray[Any]:
    if ids.dtype.kind in "iu":
        if ids.size and not (ids.min() >= 0 and ids.max() < len(labels)):
            raise DataError(f"ids reach from {ids.min()} to {ids.max()}, labels are {len(labels)}")
        return labels[ids]
    rows = {name: row for row, name in enumerate(ids_of_paths(names or ()))}
    try:
        return labels[[rows[str(name)] for name in ids]]
    except KeyError as error:
        raise DataError(f"no label for id {error}: the data does not have it") from None
