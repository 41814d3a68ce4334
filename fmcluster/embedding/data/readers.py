"""Readers: any input as a column of raw rows, from any row on, never a whole column in memory."""

from __future__ import annotations

import itertools
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.arrow import vectors_of_column
from fmcluster.embedding.data.columns import (
    BATCH,
    Reader,
    is_hf,
    kind_in,
    open_frame,
    open_hf,
    open_values,
    pick_column,
)
from fmcluster.embedding.data.values import IMAGE_SUFFIXES
from fmcluster.utils.errors import DataError

FILE_TYPES = (".parquet", ".csv", ".tsv", ".jsonl", ".txt", ".npy", ".npz")


def open_reader(data: Any, *, column: str | None = None, split: str | None = None) -> Reader:
    """Return a reader of `data`.

    Raises
    ------
    DataError
        An unknown type of input or file, no such column or split, or several columns to choose
        from.
    """
    if isinstance(data, (str, os.PathLike)):
        return _open_path(Path(data).expanduser(), column, split)
    if is_hf(data):
        return open_hf(data, column, split)
    if hasattr(data, "columns") and hasattr(data, "iloc"):
        return open_frame(data, column)
    if isinstance(data, Mapping):
        name = pick_column({key: kind_in(values) for key, values in data.items()}, column)
        return open_values(data[name], name)
    if hasattr(data, "__array__") or isinstance(data, (list, tuple)):
        return open_values(data, None)
    raise DataError(
        f"data of type {type(data).__name__} is not known: pass a datasets.Dataset, a folder of "
        f"images, a file ({', '.join(FILE_TYPES)}), a DataFrame, a list, or an (n, d) array"
    )


def _open_path(path: Path, column: str | None, split: str | None) -> Reader:
    if path.is_dir():
        return _open_folder(path, column, split)
    if not path.exists():
        raise DataError(
            f"no such file or folder: {path}; a single text is given as a list of one text"
        )
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _open_parquet([path], column)
    if suffix in (".csv", ".tsv"):
        return _open_csv(path, column, "\t" if suffix == ".tsv" else ",")
    if suffix in (".jsonl", ".ndjson"):
        return _open_jsonl(path, column)
    if suffix == ".txt":
        return Reader(lambda start: itertools.islice(_lines(path), start, None), seekable=False)
    if suffix in (".npy", ".npz"):
        return open_values(load_npy(path, column), column)
    raise DataError(f"{path} is of unknown type {suffix!r}: known are {', '.join(FILE_TYPES)}")


def load_npy(path: Path, key: str | None) -> NDArray[Any]:
    """Return the array of a ``.npy`` file (mapped), or one array of an ``.npz`` archive."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded as archive:
            matrices = [k for k in archive.files if archive[k].ndim > 1] if key is None else [key]
            if len(matrices) != 1 or matrices[0] not in archive.files:
                raise DataError(
                    f"which array of {path}? name it by column=; it has {', '.join(archive.files)}"
                )
            return archive[matrices[0]]
    except DataError:
        raise
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a readable numpy file: {error}") from None


def _lines(path: Path) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8-sig", newline=None) as handle:
            for line in handle:
                yield line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}") from None


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_lines(path)):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"line {number + 1} of {path} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"line {number + 1} of {path} is no JSON object but {line[:40]!r}")
        yield row


def _open_jsonl(path: Path, column: str | None) -> Reader:
    first = next(_json_lines(path), None)
    if first is None:
        raise DataError(f"{path} is empty: it has no rows")
    name = pick_column({key: kind_in([value]) for key, value in first.items()}, column)
    return Reader(
        lambda start: itertools.islice((row.get(name) for row in _json_lines(path)), start, None),
        column=name,
        base=path.parent,
        seekable=False,
    )


def _open_csv(path: Path, column: str | None, separator: str) -> Reader:
    import pandas as pd

    settings: dict[str, Any] = {"sep": separator, "dtype": str, "keep_default_na": False}
    try:
        names = pd.read_csv(path, nrows=0, **settings).columns
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable table: {error}") from None
    name = pick_column({str(key): "text" for key in names}, column)

    def rows(start: int) -> Iterator[Any]:
        try:
            with pd.read_csv(path, usecols=[name], chunksize=4 * BATCH, **settings) as chunks:
                for chunk in chunks:
                    yield from chunk[name].tolist()[start:]
                    start = max(0, start - len(chunk))
        except (ValueError, UnicodeDecodeError) as error:
            raise DataError(f"{path} is not a readable table: {error}") from None

    return Reader(rows, column=name, base=path.parent, seekable=False)


def _arrow_kind(kind: Any) -> str | None:
    import pyarrow.types as types

    if types.is_string(kind) or types.is_large_string(kind):
        return "text"
    if types.is_binary(kind) or types.is_large_binary(kind):
        return "image"
    if types.is_struct(kind) and "bytes" in {field.name for field in kind}:
        return "image"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "embedding"
    return None


def _open_parquet(paths: list[Path], column: str | None) -> Reader:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = [pq.read_metadata(path) for path in paths]
        schema = pq.read_schema(paths[0])
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{paths[0]} is not a readable Parquet file: {error}") from None
    kinds = {field.name: _arrow_kind(field.type) for field in schema}
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
            with pq.ParquetFile(path, memory_map=True) as file:
                batches = file.iter_batches(BATCH, row_groups=groups, columns=[name])
                for batch in batches:
                    if start >= len(batch):
                        start -= len(batch)
                        continue
                    yield from batch.column(0).slice(start).to_pylist()
                    start = 0

    def vectors() -> NDArray[Any]:
        tables = [pq.read_table(path, columns=[name]) for path in paths]
        return vectors_of_column(pa.concat_tables(tables)[name], name)

    return Reader(
        rows,
        sum(about.num_rows for about in metadata),
        name,
        base=paths[0].parent,
        vectors=vectors if kinds[name] == "embedding" else None,
    )


def _open_folder(folder: Path, column: str | None, split: str | None) -> Reader:
    """Read a folder of images, of Parquet files, or one that `Dataset.save_to_disk` wrote."""
    if (folder / "dataset_info.json").exists() or (folder / "dataset_dict.json").exists():
        import datasets

        return open_hf(datasets.load_from_disk(os.fspath(folder)), column, split)
    images = list_images(folder)
    if images:
        return Reader(
            lambda start: iter(Path(path) for path in images[start:]),
            len(images),
            column="image",
            base=folder,
            ids=images,
        )
    parquet = sorted(folder.glob("*.parquet"))
    if parquet:
        return _open_parquet(parquet, column)
    raise DataError(
        f"{folder} is empty of data: it has no image ({', '.join(sorted(IMAGE_SUFFIXES))}) "
        "and no .parquet file"
    )


def list_images(folder: Path) -> list[str]:
    """Return the image files below a folder, sorted relative POSIX paths; hidden ones not."""
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            (Path(root) / name).relative_to(folder).as_posix()
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    return sorted(found)
