"""Readers: any input as a column of raw rows, from any row on, never a whole column in memory."""

from __future__ import annotations

import itertools
import json
import logging
import os
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from fmcluster.embedding.data.delimited import encoding_of, open_table
from fmcluster.embedding.data.ids import column_from_text, ids_of_paths
from fmcluster.embedding.data.images import IMAGE_SUFFIXES, readable_suffixes
from fmcluster.embedding.data.parquet import files_of_split, open_arrow, open_parquet
from fmcluster.embedding.data.values import is_tensor, looks_like_image_path
from fmcluster.utils.errors import DataError

logger = logging.getLogger(__name__)
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
    if type(data).__module__.startswith("pyarrow"):
        return (
            open_arrow(data, column)
            if hasattr(data, "schema")
            else open_values(data.to_pylist(), None)
        )
    if is_hf(data):
        return open_hf(data, column, split)
    if hasattr(data, "columns") and hasattr(data, "iloc"):
        return open_frame(data, column)
    if isinstance(data, Mapping):
        name = pick_column({key: kind_in(values) for key, values in data.items()}, column)
        opened = open_values(data[name], name)
        return replace(opened, values_of=lambda other: list(data[pick_column(data, other)]))
    if hasattr(data, "__array__") or is_tensor(data) or isinstance(data, (list, tuple)):
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
    if not path.is_file():
        raise DataError(f"{path} is no regular file (a pipe or a device): save its content first")
    if split is not None:
        logger.warning("split=%r has no meaning for the one file %s: it is read whole", split, path)
    return replace(_open_file(path, column), files=(path,))


def _open_file(path: Path, column: str | None) -> Reader:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return open_parquet([path], column)
    if suffix in (".csv", ".tsv"):
        return _open_csv(path, column)
    if suffix in (".jsonl", ".ndjson"):
        return _open_jsonl(path, column)
    if suffix == ".txt":
        return _open_txt(path)
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


def _lines(path: Path, encoding: str) -> Iterator[str]:
    with open(path, encoding=encoding, newline=None) as handle:
        for line in handle:
            yield line.rstrip("\n").removeprefix("\ufeff")


def _open_txt(path: Path) -> Reader:
    encoding = encoding_of(path)
    return Reader(
        lambda start: itertools.islice(_lines(path, encoding), start, None), seekable=False
    )


def _json_lines(path: Path, encoding: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_lines(path, encoding)):
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
    encoding = encoding_of(path)
    first = next(_json_lines(path, encoding), None)
    if first is None:
        raise DataError(f"{path} is empty: it has no rows")
    name = pick_column({key: kind_in([value]) for key, value in first.items()}, column)

    def values_of(other: str) -> Iterator[Any]:
        return (row.get(other) for row in _json_lines(path, encoding))

    def known(other: str) -> list[Any]:
        pick_column(dict.fromkeys(first), other)
        return list(values_of(other))

    return Reader(
        lambda start: itertools.islice(values_of(name), start, None),
        column=name,
        base=path.parent,
        values_of=known,
        seekable=False,
    )


def _open_csv(path: Path, column: str | None) -> Reader:
    table = open_table(path, tabs=path.suffix.lower() == ".tsv")
    sample: dict[str, list[str]] = {
        name: list(itertools.islice(table.values(name), BATCH))
        for name in (table.columns if column is None else ())
    }
    kinds: dict[str, str | None] = dict.fromkeys(table.columns, "text")
    for name, values in sample.items():
        if values and all(map(looks_like_image_path, values)):
            kinds[name] = "image"
    name = pick_column(kinds, column)
    return Reader(
        lambda start: itertools.islice(table.values(name), start, None),
        column=name,
        base=path.parent,
        values_of=lambda other: column_from_text(list(table.values(other))),
        seekable=False,
    )


def _open_folder(folder: Path, column: str | None, split: str | None) -> Reader:
    """Read a folder of images, of Parquet files, or one that `Dataset.save_to_disk` wrote."""
    if (folder / "dataset_info.json").exists() or (folder / "dataset_dict.json").exists():
        import datasets

        return open_hf(datasets.load_from_disk(os.fspath(folder)), column, split, base=folder)
    images = list_images(folder)
    if images:
        return Reader(
            lambda start: iter(Path(path) for path in images[start:]),
            len(images),
            column="image",
            base=folder,
            ids=ids_of_paths(images),
        )
    parquet = sorted(folder.glob("*.parquet")) or sorted(folder.glob("*/*.parquet"))
    if parquet:
        chosen = files_of_split(parquet, folder, split)
        return replace(open_parquet(chosen, column), files=tuple(chosen))
    raise DataError(
        f"{folder} is empty of data: it has no image ({', '.join(sorted(IMAGE_SUFFIXES))}) "
        "and no .parquet file"
    )


def list_images(folder: Path) -> list[str]:
    """Return the image files below a folder, sorted relative POSIX paths; hidden ones not.

    Linked folders are entered, except one that leads back to a folder it lies in. Files that are
    no image, or of a kind that the installed Pillow cannot read, are counted in a warning.
    """
    readable = readable_suffixes()
    found: list[str] = []
    others: list[str] = []
    for root, names in _walk(folder, ()):
        for name in names:
            path = (root / name).relative_to(folder).as_posix()
            (found if Path(name).suffix.lower() in readable else others).append(path)
    if found and others:
        kinds = Counter(Path(name).suffix.lower() or "no suffix" for name in others)
        shown = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common())
        logger.warning(
            "%d file(s) of %s are left out, as %r: Pillow here does not read %s",
            len(others), folder, sorted(others)[0], shown,
        )  # fmt: skip
    return sorted(found)


def _walk(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[Path, list[str]]]:
    """Yield folders and the names of their files, links followed, loops not."""
    about = folder.stat()
    here = (about.st_dev, about.st_ino)
    if here in above:
        logger.warning("%s is a link back to a folder it lies in: not followed", folder)
        return
    files = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(folder / entry.name, (*above, here))
        else:
            files.append(entry.name)
    yield folder, files
