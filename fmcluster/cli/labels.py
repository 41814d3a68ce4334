"""Labels and lists of ids from files: matched by id, or by position where lengths are equal."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.utils.errors import DataError
from fmcluster.utils.ids import IdIndex
from fmcluster.utils.validation import is_missing

TABLES = (".csv", ".tsv", ".parquet")
ANSWER_COLUMNS = ("label", "class")
# What a spreadsheet takes for the begin of a formula, and such a text made safe.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
QUOTED = r"'+[=+\-@\t\r]"


def add_labels(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Add the true labels, which evaluate and never fit."""
    group = parser.add_mutually_exclusive_group(required=required)
    group.add_argument(
        "--labels",
        metavar="FILE",
        help="true labels: a table with columns id and label, or .npy or a text file with one "
        "label per row of the data",
    )
    group.add_argument("--labels-column", metavar="NAME", help="column of the data with them")
    group.add_argument(
        "--labels-from-folders",
        action="store_true",
        help="an image's label is the name of its folder",
    )


def load_labels(
    args: argparse.Namespace, index: IdIndex, *, source: Any = None
) -> NDArray[Any] | None:
    """Return the true labels of the rows of `index`, or None where none were named.

    Parameters
    ----------
    args : Namespace
        With `labels`, `labels_column`, `labels_from_folders`, and `data` that these stand in.
    index : IdIndex
        The rows.
    source : Source, optional
        The data as it was read: knows the ids of rows that were left out.

    Raises
    ------
    DataError
        Labels that match neither by id nor by position.
    """
    from fmcluster.embedding.data.labels import read_labels

    if not (args.labels or args.labels_column or args.labels_from_folders):
        return None
    if args.labels and Path(args.labels).suffix.lower() in TABLES:
        table = read_table(args.labels, [], index=None)
        id_column = next((c for c in ("id", getattr(args, "id_column", None)) if c in table), None)
        label = next((c for c in ANSWER_COLUMNS if c in table), None)
        if label is None:
            raise DataError(
                f"{args.labels} has columns {list(table.columns)}: a column label is needed, and a "
                "column id, or one row per row of the data"
            )
        values = table[label].to_numpy()
        if id_column:
            return _by_id(args.labels, table[id_column], values, index)
        return _by_position(args, values, index, source)
    if args.labels:
        return _by_position(args, read_label_file(args.labels), index, source)
    if args.data is None:
        raise DataError("labels that stand in the data need --data, the file or folder of it")
    column = None if args.labels_from_folders else args.labels_column
    if args.labels_from_folders and not Path(args.data).is_dir():
        raise DataError(f"--labels-from-folders: {args.data} is no folder of images or recordings")
    return _by_position(args, np.asarray(read_labels(args.data, column)), index, source)


def _by_position(
    args: argparse.Namespace, labels: NDArray[Any], index: IdIndex, source: Any
) -> NDArray[Any]:
    limit = getattr(args, "limit", None)
    if limit is not None and len(labels) > index.n_source == limit:
        labels = labels[:limit]
    ids = None
    if index.left_out and source is not None and source.n_rows is not None:
        ids = source.ids(0, source.n_rows)
    return index.align(labels, source_ids=ids)


def _by_id(path: str, ids: Any, labels: NDArray[Any], index: IdIndex) -> NDArray[Any]:
    """Return the label of every row from a table's ids and labels; other ids are passed over."""
    rows = index.find(_row_ids(path, ids, index))
    place = np.full(len(index.ids), -1, np.int64)
    place[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
    if (place < 0).any():
        missing = index.ids[place < 0]
        raise DataError(
            f"{path} has no label for {len(missing)} of {len(index.ids)} rows, such as id "
            f"{missing[0].item()!r}: give one for each"
        )
    return labels[place]


def _row_ids(path: str, ids: Any, index: IdIndex) -> NDArray[Any]:
    """Return a table's ids in the kind that they have in `index`, each once."""
    try:
        found = index.parse(ids.tolist())
    except DataError as error:
        raise DataError(f"{path}, {error}") from None
    _, first = np.unique(found, return_index=True)
    again = np.setdiff1d(np.arange(len(found)), first)
    if len(again):
        raise DataError(f"{path} has id {ids.iloc[again[0]]!r} twice: keep one row of each id")
    return found


def read_label_file(path: str) -> NDArray[Any]:
    """Read labels from ``.npy`` or from a text file with one label per line."""
    from fmcluster.utils.files import read_array

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file of labels")
    if Path(path).suffix == ".npy":
        return read_array(path)
    lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    lines = [line.removesuffix("\r") for line in lines]
    # A newline ends the last label; it begins no further one.
    return np.array(lines[:-1] if lines[-1] == "" else lines)


def read_table(path: str, columns: list[str], *, index: IdIndex | None) -> Any:
    """Read a table that a command or a spreadsheet wrote: all values are text.

    Ids are turned into the kind that they have in `index`, a column score into numbers. Ids of
    text stay text ("007" is no number), and so does a label "None".
    """
    import pandas as pd

    from fmcluster.embedding.data.files.delimited import open_table

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if Path(path).suffix.lower() == ".parquet":
        table = _read_parquet(path)
    else:
        text = open_table(Path(path), tabs=Path(path).suffix.lower() == ".tsv")
        table = pd.DataFrame(list(text.rows()), columns=list(text.columns), dtype=str)
        for column in table.columns:
            risky = table[column].str.match(QUOTED)
            table[column] = table[column].where(~risky, table[column].str[1:])
    for column in columns:
        if column not in table.columns:
            raise DataError(
                f"{path} has columns {list(table.columns)}: a column {column} is needed"
            )
    if "score" in table.columns:
        try:
            table["score"] = table["score"].astype(float)
        except ValueError as error:
            raise DataError(f"{path}, column score: {error}") from error
    if index is not None and "id" in table.columns:
        table["id"] = _row_ids(path, table["id"], index)
    return table


def _read_parquet(path: str) -> Any:
    """Read a Parquet file as text; what is missing is an empty cell, as in a CSV."""
    import pandas as pd
    from pyarrow import ArrowException, parquet

    try:
        columns = parquet.read_table(path).to_pydict()
    except ArrowException as error:
        raise DataError(f"{path} is no Parquet table: {error}") from None
    return pd.DataFrame(
        {
            name: pd.Series(["" if is_missing(v) else str(v) for v in values], dtype=object)
            for name, values in columns.items()
        }
    )


def write_table(path: str, table: Any) -> None:
    """Write a CSV in which no cell is a formula to a spreadsheet; `read_table` takes it back.

    Texts that begin like one get an apostrophe in front, as spreadsheets write them themselves.
    A path that ends in ``.parquet`` gets such a file, with the values as they are.
    """
    from fmcluster.utils.files import atomic_path, write_text

    if Path(path).suffix.lower() == ".parquet":
        with atomic_path(path) as temporary:
            table.to_parquet(temporary, index=False)
        return
    safe = table.copy()
    for column in safe.columns:
        if safe[column].dtype.kind not in "iufb":
            texts = safe[column].astype(str)
            risky = texts.str.startswith(FORMULA) | texts.str.match(QUOTED)
            safe[column] = texts.where(~risky, "'" + texts)
    separator = "\t" if Path(path).suffix.lower() == ".tsv" else ","
    write_text(path, safe.to_csv(index=False, sep=separator))
