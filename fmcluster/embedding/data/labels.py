"""Labels of the rows, for evaluation only: nothing that fits or chooses reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.embedding.data.columns import choose_split, is_hf
from fmcluster.embedding.data.files.folders import list_files
from fmcluster.embedding.data.files.remote import fetched, is_url
from fmcluster.embedding.data.ids import ids_of_paths, row_ids
from fmcluster.embedding.data.readers import load_npy, open_reader
from fmcluster.embedding.data.values import is_missing
from fmcluster.utils.errors import DataError
from fmcluster.utils.ids import IdIndex


def read_labels(
    data: Any,
    column: str | None = None,
    *,
    split: str | None = None,
    ids: ArrayLike | None = None,
    id_column: str | None = None,
    modality: str | None = None,
) -> NDArray[Any]:
    """Return a column of labels (n,): for evaluation only.

    Parameters
    ----------
    data : as for `Source`
        A ``.npy`` file or a 1-D array is taken as the labels themselves; a folder of images or
        recordings without `column` gives the name of each image's own folder.
    column : str, optional
        The column.
    split : str, optional
        Which split of a DatasetDict.
    ids : array-like, optional
        Return the labels of these rows (a store's ``ids``), in this order: values of `id_column`,
        the relative paths of a folder, or else row numbers, each once.
    id_column : str, optional
        The column that names the rows, as it was given to `embed`.
    modality : "image" or "audio", optional
        Which files of a folder are the rows, where it holds both.

    Raises
    ------
    DataError
        No such column, missing labels, or ids that the data does not have.
    """
    names: list[str] | None = None
    if is_url(data):
        there = fetched(data)
        data = there if isinstance(there, Path) else data
    if isinstance(data, (str, Path)) and Path(data).expanduser().is_dir():
        names = list_files(Path(data).expanduser(), modality)[1]
    if names and column is None:
        labels = np.asarray([Path(name).parent.name for name in names])
    else:
        labels = _label_column(data, column, split)
    if labels.ndim != 1:
        raise DataError(f"labels must be one a row, got shape {labels.shape}")
    if ids is None:
        return labels
    return labels[_index(data, len(labels), names, split, id_column).rows_of(ids)]


def _label_column(data: Any, column: str | None, split: str | None) -> NDArray[Any]:
    """Read a whole column of small values from any tabular input."""
    if isinstance(data, (str, Path)):
        path = Path(data).expanduser()
        if path.suffix.lower() in (".npy", ".npz") and path.is_file():
            return _present(np.asarray(load_npy(path, column)))
    if column is None and isinstance(data, (list, tuple, np.ndarray)):
        return _present(data)
    if column is None:
        raise DataError("which column holds the labels? name it")
    return _present(_column(data, column, split))


def _column(data: Any, column: str, split: str | None) -> Any:
    data = choose_split(data, split) if is_hf(data) else data
    reader = open_reader(data, column=column, split=split)
    if reader.values_of is None:
        raise DataError(f"no column {column!r}: the data has none of that name")
    return reader.values_of(column)


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


def _index(
    data: Any, n_rows: int, names: list[str] | None, split: str | None, id_column: str | None
) -> IdIndex:
    """Return the rows by what names them; where nothing does, their numbers are their names."""
    if id_column is not None:
        return IdIndex(row_ids(_column(data, id_column, split)))
    if names:
        return IdIndex(np.asarray(ids_of_paths(names), np.str_))
    return IdIndex(np.arange(n_rows))
