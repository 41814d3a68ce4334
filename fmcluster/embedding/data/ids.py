"""Row ids from any column: names, never positions; no value is changed on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.values import is_missing
from fmcluster.utils.errors import DataError
from fmcluster.utils.ids import check_ids

_INT64 = np.iinfo(np.int64)
# Digits of the largest 64-bit integer: no longer text is one.
_MOST_DIGITS = 19


def row_ids(values: Any) -> NDArray[Any]:
    """Return ids as int64 or strings (n,), unique.

    Integers beyond 64 signed bits (hashes) become their decimal text, all of them: as int64 they
    would turn negative.

    Raises
    ------
    DataError
        Missing ids, repeated ones, or values that are neither integers nor text.
    """
    if not isinstance(values, np.ndarray):
        values = list(values)
        missing = [row for row, value in enumerate(values) if is_missing(value)]
        if missing:
            raise DataError(
                f"{len(missing)} row id(s) are missing, the first in row {missing[0]}: give every "
                "row one, or leave the id column out"
            )
        if any(type(v) is int and not _INT64.min <= v <= _INT64.max for v in values):
            values = [str(value) for value in values]
    return check_ids(values)


def column_from_text(values: Sequence[str]) -> Sequence[str] | list[int]:
    """Return a column of a text table as it is written, or as integers where that loses nothing.

    ``01``, ``+1`` and ``1.0`` are text, and make the whole column text; a column of plain decimal
    integers (``1``, ``-20``) comes as these, as it does from a typed file.
    """
    return [int(value) for value in values] if all(map(_is_plain, values)) else values


def _is_plain(value: str) -> bool:
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > _MOST_DIGITS:
        return False
    return str(int(value)) == value and _INT64.min <= int(value) <= _INT64.max


def ids_of_paths(names: Sequence[str]) -> list[str]:
    r"""Return ids of file names: themselves, but bytes that are not UTF-8 as ``\xff``.

    Arrow and JSON hold no others, so a result could not be saved. In such a name a backslash is
    doubled: the name can be had back.
    """
    return [_as_id(name) for name in names]


def _as_id(name: str) -> str:
    try:
        name.encode()
        return name
    except UnicodeEncodeError:
        raw = name.replace("\\", "\\\\").encode("utf-8", "surrogateescape")
        return raw.decode("utf-8", "backslashreplace")
