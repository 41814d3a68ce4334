"""Parquet files and Arrow tables as columns of raw rows, a few row groups in memory at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.arrow import vectors_of_column
from fmcluster.embedding.data.batches import in_batches, rows_for
from fmcluster.embedding.data.columns import FILES, Reader, open_values, pick_column
from fmcluster.utils.errors import DataError, first_line

_SHARD = re.compile(r"(?P<split>.+?)(-\d+(-of-\d+)?)?")
# Read at once of a column. With such a buffer a row group's bytes are not all taken beforehand:
# 236 MiB of four row groups of 96 MiB, where mapping the file took 614 and pre-buffering 628.
_BUFFER = 2**20


def kind_of_type(kind: Any) -> str | None:
    """Return what a column of an Arrow type holds: "text", "image", "embedding" or None."""
    import pyarrow.types as types

    if types.is_dictionary(kind):  # categories
        kind = kind.value_type
    if types.is_string(kind) or types.is_large_string(kind) or str(kind) == "string_view":
        return "text"
    if types.is_binary(kind) or types.is_large_binary(kind) or str(kind) == "binary_view":
        return "image"
    if types.is_struct(kind) and "bytes" in {field.name for field in kind}:
        return "image"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "embedding"
    return None


def media_of_schema(schema: Any, name: str) -> str | None:
    """Return "image" or "audio" where HF datasets noted that a column's files are of that kind."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        kind = about["info"]["features"][name]["_type"]
    except (ValueError, KeyError, TypeError):
        return None
    return str(kind).lower() if kind in FILES else None


def open_arrow(data: Any, column: str | None) -> Reader:
    """Read a column of a pyarrow Table or RecordBatch."""
    import pyarrow as pa

    table = data if isinstance(data, pa.Table) else pa.Table.from_batches([data])
    kinds = _kinds(table.schema)
    name = pick_column(kinds, column)
    chunked = table.column(name)

    def part(low: int, high: int) -> list[Any]:
        return chunked.slice(low, high - low).to_pylist()

    return Reader(
        lambda start: in_batches(part, start, len(chunked)),
        len(chunked),
        name,
        vectors=(lambda: vectors_of_column(chunked, name)) if kinds[name] == "embedding" else None,
        values_of=lambda other: table.column(pick_column(kinds, other)).to_pylist(),
        media=media_of_schema(table.schema, name),
    )


def _kinds(schema: Any) -> dict[str, str | None]:
    return {f.name: media_of_schema(schema, f.name) or kind_of_type(f.type) for f in schema}


def open_stream(data: Any, column: str | None) -> Reader:
    """Read a column of a frame or a series of any library, by Arrow's C interface.

    A frame of numbers alone is a table of vectors, as a pandas one is.

    Raises
    ------
    DataError
        What the interface gives cannot be read.
    """
    import pyarrow as pa

    try:
        if not hasattr(data, "__arrow_c_stream__"):
            table = data.fetch_arrow_table()  # DuckDB before it had the interface
        elif hasattr(data, "columns") or hasattr(data, "schema"):
            table = pa.table(data)
        else:
            values = pa.chunked_array(data)
            table = pa.table({str(getattr(data, "name", "") or "values"): values})
    except Exception as error:  # the other library's own errors come through the interface
        raise DataError(
            f"data of type {type(data).__name__} cannot be read by the Arrow interface: "
            f"{first_line(error)}"
        ) from None
    twice = {name for name in table.column_names if table.column_names.count(name) > 1}
    if twice:
        raise DataError(f"several columns of the data are called {min(twice)!r}: rename them")
    numeric = all(pa.types.is_integer(f.type) or pa.types.is_floating(f.type) for f in table.schema)
    if column is None and numeric and table.num_columns > 1:
        parts = [table.column(i).to_numpy() for i in range(table.num_columns)]
        return open_values(np.column_stack(parts), None)
    return open_arrow(table, column)


def files_of_split(files: list[Path], folder: Path, split: str | None) -> list[Path]:
    """Return the Parquet files of one split, named as the Hub names them, or in its folder.

    Raises
    ------
    DataError
        No file is of that split.
    """
    if split is None:
        return files
    known: dict[str, list[Path]] = {}
    for path in files:
        match = _SHARD.fullmatch(path.stem)
        for name in {match["split"] if match else path.stem, path.parent.name}:
            if path.parent != folder or name != path.parent.name:
                known.setdefault(name, []).append(path)
    if split not in known:
        raise DataError(f"no split {split!r}; the files of {folder} are {', '.join(sorted(known))}")
    return known[split]


def _about(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}") from None


def _check_one_table(paths: list[Path], schemas: list[Any], column: str) -> None:
    """Refuse files that do not all hold a column in one type."""
    pick_column(dict.fromkeys(schemas[0].names), column)
    first = schemas[0].field(column).type
    for path, schema in zip(paths, schemas, strict=True):
        has = schema.field(column).type if column in schema.names else None
        same = has is not None and kind_of_type(has) == kind_of_type(first)
        if not same or (has != first and kind_of_type(has) == "embedding"):
            raise DataError(
                f"column {column!r} is {first} in {paths[0]} and "
                f"{'missing' if has is None else has} in {path}: these are two tables, embed "
                "each by itself (by its file, or by split=)"
            )


def _batch_rows(group: Any, name: str) -> int:
    """Return how many rows of a row group to take at once, by its own statement of its bytes."""
    columns = [group.column(place) for place in range(group.num_columns)]
    own = [c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] == name]
    return rows_for(sum(own), group.num_rows)


def open_parquet(paths: list[Path], column: str | None) -> Reader:
    """Read a column of one or several Parquet files.

    Raises
    ------
    DataError
        A file is damaged, or two hold the column in different types.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    metadata = [_about(path) for path in paths]
    schemas = [about.schema.to_arrow_schema() for about in metadata]
    kinds = _kinds(schemas[0])
    name = pick_column(kinds, column)

    def rows(start: int) -> Iterator[Any]:
        for path, about in zip(paths, metadata, strict=True):
            groups: list[int] = []
            for group in range(about.num_row_groups):
                size = about.row_group(group).num_rows
                if start >= size and not groups:
                    start -= size
                else:
                    groups.append(group)
            if not groups:
                continue
            size = min(_batch_rows(about.row_group(group), name) for group in groups)
            with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
                for batch in file.iter_batches(size, row_groups=groups, columns=[name]):
                    if start >= len(batch):
                        start -= len(batch)
                        continue
                    for value in batch.column(0).slice(start):
                        yield value.as_py()
                    start = 0

    def whole(wanted: str) -> list[Any]:
        _check_one_table(paths, schemas, wanted)
        return [pq.read_table(path, columns=[wanted])[wanted] for path in paths]

    def vectors() -> NDArray[Any]:
        chunks = [chunk for part in whole(name) for chunk in part.chunks]
        return vectors_of_column(pa.chunked_array(chunks, schemas[0].field(name).type), name)

    _check_one_table(paths, schemas, name)
    return Reader(
        rows,
        sum(about.num_rows for about in metadata),
        name,
        base=paths[0].parent,
        vectors=vectors if kinds[name] == "embedding" else None,
        values_of=lambda other: [value for part in whole(other) for value in part.to_pylist()],
        media=media_of_schema(schemas[0], name),
    )
