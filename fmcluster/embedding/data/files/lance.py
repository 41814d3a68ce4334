"""Tables of Lance and LanceDB, read batch by batch: texts, images and columns of vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fmcluster.embedding.data.arrow import vectors_of_column
from fmcluster.embedding.data.batches import in_batches
from fmcluster.embedding.data.columns import Reader, choose_split, pick_column
from fmcluster.embedding.data.files.parquet import kind_of_type, open_arrow
from fmcluster.utils.errors import DataError, first_line
from fmcluster.utils.optional import require

SUFFIX = ".lance"


def is_lance(data: Any) -> bool:
    """Return whether `data` is a dataset of Lance or a table of LanceDB; imports neither."""
    room = type(data).__module__.partition(".")[0]
    return room in ("lance", "lancedb") and hasattr(data, "schema")


def tables_in(folder: Path) -> list[Path]:
    """Return the folders of Lance tables: the folder itself, or those of a database in it."""
    if folder.suffix == SUFFIX and (folder / "_versions").is_dir():
        return [folder]
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if (path / "_versions").is_dir())


def open_lance(data: Any, column: str | None, split: str | None = None) -> Reader:
    """Read a column of a Lance dataset, a LanceDB table, or a folder of either.

    Parameters
    ----------
    data : LanceDataset, Table or list of Path
        Of a database's folder its tables: `split` names one.

    Raises
    ------
    DataError
        It cannot be read, has no such column, or several tables to choose from.
    MissingExtraError
        The package ``pylance`` is not installed.
    """
    base = None
    if isinstance(data, list):
        path = choose_split({each.stem: each for each in data}, split if len(data) > 1 else None)
        base = path.parent
        lance = require("lance", extra="lance", package="pylance")
        try:
            data = lance.dataset(str(path))
        except Exception as error:  # the library's own errors come from Rust
            raise _damaged(path, error) from None
    if not hasattr(data, "scanner"):
        if not hasattr(data, "to_lance"):
            return open_arrow(data.to_arrow(), column)  # a table of a server
        data = data.to_lance()
    kinds = {field.name: kind_of_type(field.type) for field in data.schema}
    name = pick_column(kinds, column)

    def whole(wanted: str) -> Any:
        try:
            return data.to_table(columns=[pick_column(kinds, wanted)])[wanted]
        except Exception as error:
            raise _damaged(data.uri, error) from None

    def part(low: int, high: int) -> list[Any]:
        try:
            found = data.to_table(columns=[name], offset=low, limit=high - low)
        except Exception as error:
            raise _damaged(data.uri, error) from None
        return found.column(0).to_pylist()

    n_rows = data.count_rows()
    return Reader(
        lambda start: in_batches(part, start, n_rows),
        n_rows,
        name,
        base=base,
        vectors=(lambda: vectors_of_column(whole(name), name))
        if kinds[name] == "embedding"
        else None,
        values_of=lambda other: whole(other).to_pylist(),
    )


def _damaged(place: Any, error: Exception) -> DataError:
    return DataError(f"{place} is not a readable Lance table: {first_line(error)}")
