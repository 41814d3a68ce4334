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
    kind_in,
    open_frame,
    open_hf,
    open_values,
    pick_column,
)
from fmcluster.embedding.data.files.archives import is_archive, open_archive
from fmcluster.embedding.data.files.delimited import encoding_of, open_table
from fmcluster.embedding.data.files.json_files import lines_of, open_json, open_jsonl
from fmcluster.embedding.data.files.packed import PACKED, suffix_of
from fmcluster.embedding.data.files.parquet import (
    files_of_split,
    open_arrow,
    open_parquet,
    open_stream,
)
from fmcluster.embedding.data.ids import column_from_text, ids_of_paths
from fmcluster.embedding.data.images import IMAGE_SUFFIXES, readable_suffixes
from fmcluster.embedding.data.values import is_tensor, looks_like_image_path
from fmcluster.utils.errors import DataError, MissingExtraError

logger = logging.getLogger(__name__)
EXCEL_TYPES = (".xlsx", ".xlsm", ".xls", ".ods")
FILE_TYPES = (
    *(".parquet", ".csv", ".tsv", ".jsonl", ".json", ".txt", ".npy", ".npz", ".xlsx"),
    *(".zip", ".tar"),
)
# What makes a path a pattern of several files, where no file of that very name is there.
_PATTERN = re.compile(r"[*?\[]")


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
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        return open_frame(data, column)
    if any(hasattr(data, way) for way in ("__arrow_c_stream__", "fetch_arrow_table")):
        return open_stream(data, column)
    if isinstance(data, Mapping):
        name = pick_column({key: kind_in(values) for key, values in data.items()}, column)
        opened = open_values(data[name], name)
        return replace(opened, values_of=lambda other: list(data[pick_column(data, other)]))
    if hasattr(data, "__array__") or is_tensor(data) or isinstance(data, (list, tuple)):
        return open_values(data, None)
    raise DataError(
        f"data of type {type(data).__name__} is not known: pass a datasets.Dataset, a folder of "
        f"images, a file ({', '.join(FILE_TYPES)}), a DataFrame of any "
        "library, a list, or an (n, d) array"
    )


def _open_path(path: Path, column: str | None, split: str | None) -> Reader:
    if path.is_dir():
        return _open_folder(path, column, split)
    if not path.exists() and is_pattern(path):
        return _open_pattern(path, column, split)
    if not path.exists():
        raise DataError(
            f"no such file or folder: {path}; a single text is given as a list of one text"
        )
    if not path.is_file():
        raise DataError(f"{path} is no regular file (a pipe or a device): save its content first")
    if split is not None and path.suffix.lower() not in EXCEL_TYPES:
        logger.warning("split=%r has no meaning for the one file %s: it is read whole", split, path)
    return replace(_open_file(path, column, split), files=(path,))


def is_pattern(path: str | os.PathLike[str]) -> bool:
    """Return whether a path stands for several files, as ``data/part-*.parquet`` does."""
    return _PATTERN.search(os.fspath(path)) is not None


def _open_pattern(path: Path, column: str | None, split: str | None) -> Reader:
    """Read the files that a pattern matches, in the order of their names, as one table.

    Raises
    ------
    DataError
        None matches, they are of several types, or one lacks the column.
    """
    found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    paths = [each for each in found if each.is_file()]
    if not paths:
        raise DataError(f"no file matches {path}; a single text is given as a list of one text")
    kinds = Counter(suffix_of(each) for each in paths)
    images = readable_suffixes()
    if set(kinds) <= images:
        return _open_images(paths)
    if len(kinds) > 1:
        shown = ", ".join(f"{kind or 'no suffix'} ({count})" for kind, count in kinds.most_common())
        raise DataError(f"{path} matches files of several types, {shown}: name one type")
    if split is not None:
        logger.warning("split=%r has no meaning for the files of %s: all are read", split, path)
    if paths[0].suffix.lower() == ".parquet":
        return replace(open_parquet(paths, column), files=tuple(paths))
    return _joined(paths, column)


def _open_images(paths: list[Path]) -> Reader:
    """Read image files; ids are their paths below the folder that holds them all."""
    top = Path(os.path.commonpath([each.parent for each in paths]))
    names = [each.relative_to(top).as_posix() for each in paths]
    return Reader(
        lambda start: iter([Path(name) for name in names[start:]]),
        len(names),
        column="image",
        base=top,
        ids=ids_of_paths(names),
    )


def _joined(paths: list[Path], column: str | None) -> Reader:
    """Read text tables one after the other; each holds the column of the first."""
    readers = [_open_file(paths[0], column)]
    name = readers[0].column
    readers += [_open_file(each, name) for each in paths[1:]]
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


def _open_file(path: Path, column: str | None, split: str | None = None) -> Reader:
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
        return open_archive(path)
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
