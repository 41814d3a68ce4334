"""JSON files: an object a line, or one array of objects (or texts), or one object of columns."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fmcluster.embedding.data.columns import (
    Reader,
    kind_in,
    open_columns,
    open_values,
    pick_column,
)
from fmcluster.embedding.data.files.delimited import encoding_of
from fmcluster.embedding.data.files.packed import open_text
from fmcluster.utils.errors import DataError


def lines_of(path: Path, encoding: str) -> Iterator[str]:
    """Iterate over the lines of a text file, its byte order mark left out."""
    with open_text(path, encoding) as handle:
        for line in handle:
            yield line.rstrip("\n").removeprefix("\ufeff")


def _json_lines(path: Path, encoding: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines_of(path, encoding)):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"line {number + 1} of {path} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"line {number + 1} of {path} is no JSON object but {line[:40]!r}")
        yield row


def open_jsonl(path: Path, column: str | None) -> Reader:
    """Read a column of a file with a JSON object a line."""
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


def open_json(path: Path, column: str | None) -> Reader:
    """Read a column of a JSON file that is one array or one object of arrays.

    A file of several objects, one after the other, is taken as JSON lines.

    Raises
    ------
    DataError
        No JSON, or none of these shapes; the place is named.
    """
    encoding = encoding_of(path)
    with open_text(path, encoding) as handle:
        text = handle.read().removeprefix("\ufeff")
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith("{"):
            return open_jsonl(path, column)
        raise DataError(
            f"{path} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from None
    if isinstance(content, dict) and content:
        return _of_columns(path, content, column)
    if not isinstance(content, list):
        raise DataError(f"{path} holds {text[:40]!r}, expected an array of objects or of texts")
    if not content:
        raise DataError(f"{path} is empty: it has no rows")
    if not isinstance(content[0], dict):
        return replace(open_values(content, None), base=path.parent)
    odd = next((n for n, row in enumerate(content) if not isinstance(row, dict)), None)
    if odd is not None:
        raise DataError(f"element {odd} of {path} is no JSON object but {str(content[odd])[:40]!r}")
    # A key that comes later, only, is a column, too.
    names = dict.fromkeys(key for row in content for key in row)
    columns = {name: [row.get(name) for row in content] for name in names}
    return _of_columns(path, columns, column)


def _of_columns(path: Path, columns: dict[str, Any], column: str | None) -> Reader:
    """Read one of several columns of one length."""
    lengths = {
        name: len(values) if isinstance(values, list) else None for name, values in columns.items()
    }
    if len(set(lengths.values())) > 1 or None in lengths.values():
        if any(isinstance(values, dict) for values in columns.values()):
            hint = "objects in it"
        else:
            hint = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise DataError(
            f"{path} is one object whose values are no columns of one length ({hint}): write an "
            "array of objects"
        )
    return replace(open_columns(columns, column), base=path.parent)
