"""Columns of raw rows: what a reader is, and readers of what is in memory or in HF datasets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.arrow import vectors_of_dataset
from fmcluster.embedding.data.batches import BATCH, in_batches
from fmcluster.embedding.data.media import MEDIA
from fmcluster.embedding.data.values import as_array, is_pil, is_tensor, kind_of
from fmcluster.utils.errors import DataError
from fmcluster.utils.validation import check_unmasked

# Columns that are the text where several could be: the names that the Hub's datasets use most.
TEXT_NAMES = ("text", "sentence", "content", "document", "title", "caption")


# Features of HF datasets whose rows are files.
FILES = ("Image", "Audio")


@dataclass(frozen=True)
class Reader:
    """A column of raw rows.

    Attributes
    ----------
    rows : callable
        ``rows(start)`` iterates over the raw rows from row number `start` on.
    n_rows : int or None
        None where only reading to the end tells.
    column : str or None
        Its name.
    base : Path or None
        Folder that relative paths of files start from.
    ids : sequence of str or None
        Ids that the input itself gives (files of a folder).
    vectors : callable or None
        For a column of vectors: returns them as one (n, d) array.
    values_of : callable or None
        Returns all values of another column of the same input, such as its ids or labels.
    seekable : bool
        Whether ``rows(start)`` is cheap for any start.
    repeatable : bool
        Whether the rows can be read a second time for less than embedding them costs.
    files : tuple of Path
        The files that hold the rows: none of them may change while they are read.
    media : "image", "audio" or None
        What the files that the rows hold or name are; None where the first row tells.
    """

    rows: Callable[[int], Iterator[Any]]
    n_rows: int | None = None
    column: str | None = None
    base: Path | None = None
    ids: Sequence[str] | None = None
    vectors: Callable[[], NDArray[Any]] | None = None
    values_of: Callable[[str], Sequence[Any]] | None = None
    seekable: bool = True
    repeatable: bool = True
    files: tuple[Path, ...] = ()
    media: str | None = None


def pick_column(kinds: Mapping[str, str | None], column: str | None) -> str:
    """Return the asked column, or the only one that can be meant.

    Parameters
    ----------
    kinds : mapping
        Column name -> "image", "audio", "text", "embedding", or None for labels and the like.
    column : str, optional
        What was asked for.
    """
    listed = ", ".join(map(str, kinds)) or "none"
    if column is not None:
        if column not in kinds:
            raise DataError(f"no column {column!r}: the data has {listed}")
        return column
    for wanted in (*MEDIA, "text", "embedding"):
        found = [name for name, kind in kinds.items() if kind == wanted]
        named = [name for name in TEXT_NAMES if name in found]
        if len(found) == 1 or named:
            return named[0] if named else found[0]
        if found:
            break
    raise DataError(f"which column is to be embedded? name it by column=; the data has {listed}")


def kind_in(values: Any) -> str | None:
    """Tell what a column holds by its first present value."""
    try:
        return next((kind for row in values[:BATCH] if (kind := kind_of(row))), None)
    except (DataError, TypeError, KeyError):
        return None


def is_hf(data: Any) -> bool:
    """Return whether `data` is of HF datasets, without importing it."""
    return "datasets" in sys.modules and type(data).__module__.startswith("datasets.")


def open_values(values: Any, column: str | None) -> Reader:
    """Read rows in memory: a list, a memory map, an array of vectors, texts or images."""
    check_unmasked(values, name="the array")
    if is_tensor(values) or (
        hasattr(values, "__array__") and not isinstance(values, np.ndarray) and not is_pil(values)
    ):
        values = as_array(values)
    if isinstance(values, np.ndarray) and values.ndim not in (1, 2, 3, 4):
        raise DataError(f"an array of shape {values.shape} is no table of vectors, texts or images")
    vectors = None
    if isinstance(values, np.ndarray) and values.ndim == 2:
        vectors = lambda: values  # noqa: E731
    elif isinstance(values, np.ndarray) and values.ndim > 2 and values.dtype != np.uint8:
        raise DataError(
            f"images in an array must be uint8 (n, height, width[, 3]), got {values.dtype}"
        )

    def rows(start: int) -> Iterator[Any]:
        for low in range(start, len(values), BATCH):
            part = values[low : low + BATCH]
            yield from part.tolist() if getattr(part, "ndim", 0) == 1 else part

    return Reader(rows, len(values), column, vectors=vectors)


def open_columns(columns: Mapping[str, Any], column: str | None) -> Reader:
    """Read one of several columns in memory."""
    name = pick_column({key: kind_in(values) for key, values in columns.items()}, column)
    return replace(
        open_values(columns[name], name),
        values_of=lambda other: list(columns[pick_column(dict.fromkeys(columns), other)]),
    )


def open_frame(frame: Any, column: str | None) -> Reader:
    """Read a column of a DataFrame; one of numbers alone is a table of vectors.

    Names that are no strings are known by what they print as.
    """
    names = [str(name) for name in frame.columns]

    def series(name: str) -> Any:
        if names.count(name) > 1:
            raise DataError(
                f"{names.count(name)} columns of the data are called {name!r}: rename them"
            )
        pick_column(dict.fromkeys(names), name)
        return frame.iloc[:, names.index(name)]

    numeric = [isinstance(kind, np.dtype) and kind.kind in "fiub" for kind in frame.dtypes]
    if column is None and len(names) > 1 and all(numeric):
        return open_values(frame.to_numpy(), None)
    heads = [frame.iloc[:BATCH, position].tolist() for position in range(len(names))]
    name = pick_column(
        {name: kind_in(head) for name, head in zip(names, heads, strict=True)},
        None if column is None else str(column),
    )
    chosen = series(name)

    def rows(start: int) -> Iterator[Any]:
        for low in range(start, len(chosen), BATCH):
            yield from chosen.iloc[low : low + BATCH].tolist()

    return Reader(rows, len(chosen), name, values_of=lambda other: series(str(other)).tolist())


def choose_split(data: Any, split: str | None) -> Any:
    """Return one split of a DatasetDict: the named one, or the only one."""
    if not isinstance(data, dict):
        return data
    if split is None and len(data) == 1:
        return next(iter(data.values()))
    if split not in data:
        given = f"no split {split!r}" if split else "which split is meant? name it by split="
        raise DataError(f"{given}; the data has {', '.join(map(str, data))}")
    return data[split]


def as_stored(data: Any, names: Sequence[str]) -> Any:
    """Return a dataset of these columns alone, its files as they are stored: decoding is ours."""
    import datasets

    features = data.features or {}
    data = data.select_columns(list(names))
    for name in names:
        kind = type(features.get(name)).__name__
        if kind in FILES:
            data = data.cast_column(name, getattr(datasets, kind)(decode=False))
    return data


def _hf_kind(feature: Any) -> str | None:
    if type(feature).__name__ in FILES:
        return type(feature).__name__.lower()
    dtype = str(getattr(feature, "dtype", ""))
    if type(feature).__name__ in ("Value", "string") and dtype in ("string", "large_string"):
        return "text"
    inner = getattr(feature, "feature", None)
    numeric = str(getattr(inner, "dtype", "")).startswith(("float", "int"))
    if inner is not None and numeric and type(inner).__name__ == "Value":
        return "embedding"
    if isinstance(feature, dict) and set(feature) == {"bytes", "path"}:
        return "image"
    return None


def open_hf(
    data: Any, column: str | None, split: str | None, *, base: Path | None = None
) -> Reader:
    """Read a column of a Dataset, a split of a DatasetDict, or an IterableDataset.

    `base` is the folder it was loaded from: below it lie the files that its rows may name.
    """
    import datasets

    data = choose_split(data, split)
    stream = isinstance(data, datasets.IterableDataset)
    whole = data
    features = data.features
    media: str | None = None
    if features is None:
        first: dict[str, Any] = next(iter(data), {})
        name = pick_column({key: kind_in([value]) for key, value in first.items()}, column)
    else:
        name = pick_column({key: _hf_kind(value) for key, value in features.items()}, column)
        data = as_stored(data, [name])
        kind = type(features[name]).__name__
        media = kind.lower() if kind in FILES else None
    if stream:
        return Reader(
            lambda start: (row[name] for row in (data.skip(start) if start else data)),
            None,
            name,
            values_of=lambda other: [row[other] for row in whole.select_columns([other])],
            seekable=False,
            repeatable=False,
            media=media,
        )
    plain = data.with_format(None)

    def rows(start: int) -> Iterator[Any]:
        return in_batches(lambda low, high: plain[low:high][name], start, len(plain))

    is_vector = _hf_kind(features[name]) == "embedding"
    vectors = (lambda: vectors_of_dataset(data, name)) if is_vector else None

    def values_of(other: str) -> Sequence[Any]:
        pick_column(dict.fromkeys(features), other)
        return list(whole.with_format(None)[other][:])

    return Reader(
        rows, len(plain), name, base=base, vectors=vectors, values_of=values_of, media=media
    )
