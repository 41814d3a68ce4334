"""Readers: any input as a column of raw rows, from any row on, never a whole column in memory."""

from __future__ import annotations

import glob
import itertools
import logging
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.batches import BATCH
from fmcluster.embedding.data.columns import (
    Reader,
    choose_split,
    is_hf,
    open_columns,
    open_frame,
    open_hf,
    open_values,
    pick_column,
)
from fmcluster.embedding.data.files.archives import is_archive, join_archives, open_archive
from fmcluster.embedding.data.files.delimited import encoding_of, open_table
from fmcluster.embedding.data.files.folders import open_folder, reader_of_files
from fmcluster.embedding.data.files.json_files import lines_of, open_json, open_jsonl
from fmcluster.embedding.data.files.lance import is_lance, open_lance, tables_in
from fmcluster.embedding.data.files.packed import PACKED, suffix_of
from fmcluster.embedding.data.files.parquet import (
    open_arrow,
    open_parquet,
    open_stream,
)
from fmcluster.embedding.data.files.remote import fetched, is_url
from fmcluster.embedding.data.files.samples import open_samples
from fmcluster.embedding.data.ids import column_from_text
from fmcluster.embedding.data.media import MEDIA, suffixes_of
from fmcluster.embedding.data.values import is_tensor, media_of_text
from fmcluster.utils.errors import DataError, MissingExtraError

logger = logging.getLogger(__name__)
EXCEL_TYPES = (".xlsx", ".xlsm", ".xls", ".ods")
FILE_TYPES = (
    *(".parquet", ".csv", ".tsv", ".jsonl", ".json", ".txt", ".npy", ".npz", ".xlsx"),
    *(".zip", ".tar"),
)
# Files that a folder may hold several of, which are then one table (or one set of archives).
SHARD_TYPES = (".csv", ".tsv", ".jsonl", ".ndjson", ".tar", ".zip")
# More names than data sets have shards are a slip, and would be tried one by one.
MOST_SHARDS = 100_000
# What makes a path a pattern of several files, where no file of that very name is there.
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_PATTERN = re.compile(rf"[*?\[]|{_RANGE.pattern}")


def open_reader(
    data: Any,
    *,
    column: str | None = None,
    split: str | None = None,
    modality: str | None = None,
) -> Reader:
    """Return a reader of `data`.

    Raises
    ------
    DataError
        An unknown type of input or file, no such column or split, or several columns to choose
        from.
    """
    if is_url(data):
        return _open_url(data, column, split, modality)
    if isinstance(data, (str, os.PathLike)):
        return _open_path(Path(data).expanduser(), column, split, modality)
    if is_lance(data):
        return open_lance(data, column)
    if type(data).__module__.startswith("pyarrow"):
        return (
            open_arrow(data, column)
            if hasattr(data, "schema")
            else open_values(data.to_pylist(), None)
        )
    if is_hf(data):
        return open_hf(data, column, split)
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        return open_frame(data, column)
    if any(hasattr(data, way) for way in ("__arrow_c_stream__", "fetch_arrow_table")):
        return open_stream(data, column)
    if isinstance(data, Mapping):
        return open_columns(data, column)
    if hasattr(data, "__array__") or is_tensor(data) or isinstance(data, (list, tuple)):
        return open_values(data, None)
    raise DataError(
        f"data of type {type(data).__name__} is not known: pass a datasets.Dataset, a folder of "
        f"images or recordings, a file ({', '.join(FILE_TYPES)}), a DataFrame of any "
        "library, a list, or an (n, d) array"
    )


def _open_url(url: str, column: str | None, split: str | None, modality: str | None) -> Reader:
    """Read what is behind a URL by its copy on this machine; errors name the URL."""
    found = fetched(url)
    home = found if isinstance(found, Path) else Path(os.path.commonpath(found))
    try:
        if isinstance(found, Path):
            return _open_path(found, column, split, modality)
        return _open_files(url, found, column, split, modality)
    except DataError as error:
        raise DataError(str(error).replace(str(home), url)) from None


def _open_path(path: Path, column: str | None, split: str | None, modality: str | None) -> Reader:
    if path.is_dir():
        return _open_dir(path, column, split, modality)
    if not path.exists() and is_pattern(path):
        return _open_files(str(path), files_of_pattern(path), column, split, modality)
    if not path.exists():
        raise DataError(
            f"no such file or folder: {path}; a single text is given as a list of one text"
        )
    if not path.is_file():
        raise DataError(f"{path} is no regular file (a pipe or a device): save its content first")
    if split is not None and path.suffix.lower() not in EXCEL_TYPES:
        logger.warning("split=%r has no meaning for the one file %s: it is read whole", split, path)
    return replace(_open_file(path, column, split, modality), files=(path,))


def _open_dir(path: Path, column: str | None, split: str | None, modality: str | None) -> Reader:
    """Read a folder of files that are rows, of shards of a table, or of Lance's."""
    tables = tables_in(path)
    if tables:
        return open_lance(tables, column, split)
    reader = open_folder(path, column, split, modality=modality)
    if reader is not None:
        return reader
    shards = [each for each in sorted(path.iterdir()) if not each.name.startswith(".")]
    known = [each for each in shards if each.is_file() and suffix_of(each) in SHARD_TYPES]
    if not known:
        raise DataError(
            f"{path} is empty of data: it has no image or recording "
            f"({', '.join(sorted(suffixes_of('image') | suffixes_of('audio')))}) and no file of "
            f"{', '.join(('.parquet', *SHARD_TYPES))}"
        )
    return _open_files(str(path), known, column, split, modality)


def is_pattern(path: str | os.PathLike[str]) -> bool:
    """Return whether a path stands for several files: ``part-*.parquet``, ``part-{00..03}.tar``."""
    return _PATTERN.search(os.fspath(path)) is not None


def files_of_pattern(path: Path) -> list[Path]:
    """Return the files that a pattern matches, in the order of their names; numbers in braces too.

    Raises
    ------
    DataError
        One that the numbers name is not there.
    """
    found: list[Path] = []
    for name in _braces(str(path)):
        matched = sorted(Path(each) for each in glob.glob(name, recursive=True))
        if not matched and name != str(path):
            raise DataError(f"no file {name}, which {path} names")
        found += [each for each in matched if each.is_file()]
    return found


def _braces(text: str) -> list[str]:
    """Return the names that numbers in braces stand for.

    >>> _braces("a-{08..10}.tar")
    ['a-08.tar', 'a-09.tar', 'a-10.tar']
    """
    match = _RANGE.search(text)
    if match is None:
        return [text]
    low, high = match[1], match[2]
    if int(high) - int(low) >= MOST_SHARDS:
        raise DataError(f"{text} names over {MOST_SHARDS:,} files: give their folder, or a pattern")
    numbers = [str(n).zfill(len(low)) for n in range(int(low), int(high) + 1)]
    return [
        f"{text[: match.start()]}{n}{rest}"
        for n in numbers
        for rest in _braces(text[match.end() :])
    ]


def _open_files(
    label: str, paths: list[Path], column: str | None, split: str | None, modality: str | None
) -> Reader:
    """Read several files as one table, or as one set of rows; `label` names them in errors.

    Raises
    ------
    DataError
        There are none, they are of several types, or one lacks the column.
    """
    if not paths:
        raise DataError(f"no file matches {label}; a single text is given as a list of one text")
    kinds = Counter(suffix_of(each) for each in paths)
    for media in MEDIA:
        if set(kinds) <= suffixes_of(media):
            top = Path(os.path.commonpath([each.parent for each in paths]))
            return reader_of_files(top, [each.relative_to(top).as_posix() for each in paths], media)
    if len(kinds) > 1:
        shown = ", ".join(f"{kind or 'no suffix'} ({count})" for kind, count in kinds.most_common())
        raise DataError(f"{label} matches files of several types, {shown}: name one type")
    if split is not None:
        logger.warning("split=%r has no meaning for the files of %s: all are read", split, label)
    if len(paths) == 1:
        return replace(_open_file(paths[0], column, None, modality), files=tuple(paths))
    if is_archive(paths[0]):
        if column is not None:
            return open_samples(paths, column)
        return join_archives(paths, modality=modality)
    if paths[0].suffix.lower() == ".parquet":
        return replace(open_parquet(paths, column), files=tuple(paths))
    return _joined(paths, column, modality)


def _joined(paths: list[Path], column: str | None, modality: str | None) -> Reader:
    """Read text tables one after the other; each holds the column of the first."""
    readers = [_open_file(paths[0], column, None, modality)]
    name = readers[0].column
    readers += [_open_file(each, name, None, modality) for each in paths[1:]]
    if any(reader.vectors or reader.ids for reader in readers):
        raise DataError(
            f"{paths[0].parent}/*{paths[0].suffix}: several files of this type are not read as "
            "one: give them one by one"
        )

    def rows(start: int) -> Iterator[Any]:
        return itertools.islice(itertools.chain(*(r.rows(0) for r in readers)), start, None)

    def values_of(other: str) -> Sequence[Any]:
        parts = [part for r in readers if r.values_of for part in r.values_of(other)]
        # Integers of one file and texts of another are one column of texts.
        mixed = {type(part) for part in parts} >= {int, str}
        return [str(part) for part in parts] if mixed else parts

    return Reader(
        rows,
        column=name,
        base=Path(os.path.commonpath([each.parent for each in paths])),
        values_of=values_of if all(r.values_of for r in readers) else None,
        seekable=False,
        files=tuple(paths),
    )


def _open_file(path: Path, column: str | None, split: str | None, modality: str | None) -> Reader:
    suffix = suffix_of(path)
    if suffix in (".csv", ".tsv"):
        return _open_csv(path, column)
    if suffix in (".jsonl", ".ndjson"):
        return open_jsonl(path, column)
    if suffix == ".json":
        return open_json(path, column)
    if suffix == ".txt":
        return _open_txt(path)
    if is_archive(path):
        if column is not None:
            return open_samples([path], column)
        return open_archive(path, modality=modality)
    if suffix == path.suffix.lower():
        if suffix == ".parquet":
            return open_parquet([path], column)
        if suffix in (".npy", ".npz"):
            return open_values(load_npy(path, column), column)
        if suffix in EXCEL_TYPES:
            return _open_excel(path, column, split)
    raise DataError(
        f"{path} is of unknown type {''.join(path.suffixes[-2:])!r}: known are "
        f"{', '.join(FILE_TYPES)}; text files may end in {', '.join(PACKED)} beyond that"
    )


def _open_excel(path: Path, column: str | None, sheet: str | None) -> Reader:
    """Read a column of one sheet; `split` names it where there are several."""
    import pandas as pd

    try:
        with pd.ExcelFile(path) as book:
            name = choose_split({str(name): str(name) for name in book.sheet_names}, sheet)
            frame = pd.read_excel(book, sheet_name=name)
    except DataError:
        raise
    except ImportError as error:
        raise MissingExtraError(f"{path} needs a package that reads it: {error}") from error
    except Exception as error:  # of zip, XML and the reading package itself: all mean this
        raise DataError(f"{path} is not a readable Excel file: {error}") from None
    return replace(open_frame(frame, column), base=path.parent)


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


def _open_txt(path: Path) -> Reader:
    encoding = encoding_of(path)
    return Reader(
        lambda start: itertools.islice(lines_of(path, encoding), start, None), seekable=False
    )


def _open_csv(path: Path, column: str | None) -> Reader:
    table = open_table(path, tabs=suffix_of(path) == ".tsv")
    kinds: dict[str, str | None] = dict.fromkeys(table.columns, "text")
    if column is None:
        sample = zip(*itertools.islice(table.rows(), BATCH), strict=True)
        for name, values in zip(table.columns, sample, strict=False):
            named = set(map(media_of_text, values))
            if len(named) == 1:
                kinds[name] = named.pop() or "text"
    name = pick_column(kinds, column)
    return Reader(
        lambda start: itertools.islice(table.values(name), start, None),
        column=name,
        base=path.parent,
        values_of=lambda other: column_from_text(list(table.values(other))),
        seekable=False,
    )
