"""CSV and TSV files: encoding and dialect found out and said, every row held to the header.

A row that has more or fewer fields than the header shifts or cuts columns in silence, so it is
refused by its line. Every value is the text that is written.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import logging
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from fmcluster.embedding.data.files.packed import open_binary, open_text
from fmcluster.utils.errors import DataError

logger = logging.getLogger(__name__)
# In the order in which they win where two fit equally.
DELIMITERS = (",", ";", "\t", "|")
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
# Rows that are read to choose the delimiter: enough that one row of odd text does not decide.
SAMPLE_ROWS = 50
# Bytes decoded at once while the encoding is found: memory stays small, few calls.
_CHUNK = 1 << 20
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    # Before UTF-16: its mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Stands behind the last line; a quote that is never closed would swallow it.
_END = "\0end of the table\0"


def encoding_of(path: Path) -> str:
    """Return the encoding of a text file: by its mark, else UTF-8, else Windows-1252.

    Raises
    ------
    DataError
        It is none of these.
    """
    with open_binary(path) as handle:
        head = handle.read(4)
        for mark, name in _MARKS:
            if head.startswith(mark):
                return name
        if len(head) > 1 and head[:2].count(0) == 1:  # a Latin letter in UTF-16, without its mark
            return "utf-16-be" if head[0] == 0 else "utf-16-le"
        if _decodes(head, handle, "utf-8"):
            return "utf-8"
    with open_binary(path) as handle:
        if not _decodes(b"", handle, "cp1252"):
            raise DataError(f"{path} is neither UTF-8, UTF-16 nor Windows-1252: save it as UTF-8")
    logger.warning("%s is not UTF-8: read as Windows-1252; save it as UTF-8 to be sure", path)
    return "cp1252"


def _decodes(head: bytes, handle: BinaryIO, encoding: str) -> bool:
    """Return whether what was read of a file and the rest of it are of an encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for chunk in itertools.chain([head], iter(lambda: handle.read(_CHUNK), b"")):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True)
class Table:
    """A text table: where it is, how it is written, and what its columns are called."""

    path: Path
    encoding: str
    delimiter: str
    columns: tuple[str, ...]
    first_line: int = 0

    def values(self, column: str) -> Iterator[str]:
        """Return an iterator over one column as it is written; errors as of `rows`."""
        if column not in self.columns:
            raise DataError(f"no column {column!r}: the data has {', '.join(self.columns)}")
        position = self.columns.index(column)
        return (row[position] for row in self.rows())

    def rows(self) -> Iterator[list[str]]:
        """Iterate over the rows below the header.

        Raises
        ------
        DataError
            A row of another width than the header, or a quote that is not closed.
        """
        with open_text(self.path, self.encoding, newline="") as handle:
            for number, row in itertools.islice(_rows(self, handle), 1, None):
                if len(row) != len(self.columns):
                    raise DataError(self._misfit(number, len(row)))
                yield row

    def _misfit(self, line: int, width: int) -> str:
        return (
            f"line {line} of {self.path} has {width} fields, its header has "
            f"{len(self.columns)} ({', '.join(self.columns)}; {NAMES[self.delimiter]} separated): "
            'put text that holds the separator in double quotes ("..."), or mend the line'
        )


def open_table(path: Path, *, tabs: bool = False) -> Table:
    """Find out how a table is written.

    Parameters
    ----------
    path : Path
        The file.
    tabs : bool
        It is known to be tab separated (``.tsv``).

    Raises
    ------
    DataError
        It is empty, or of no known encoding.
    """
    encoding = encoding_of(path)
    with open_text(path, encoding, newline="") as handle:
        # Read once, however often it is looked at.
        look, lines, *tries = itertools.tee(handle, 2 + len(DELIMITERS))
        start = next(look, "").strip('\ufeff\r\n"')
        # Excel writes its separator into a first line of its own.
        told = start[4:] if start.startswith("sep=") and len(start) == 5 else ""
        head = ["" if told else start, *itertools.islice(look, 4 * SAMPLE_ROWS)]
        if not any(map(str.strip, head)):
            raise DataError(f"{path} is not a readable table: it is empty")
        delimiter = told or ("\t" if tabs else _delimiter(path, encoding, tries))
        if delimiter not in NAMES:
            raise DataError(f"{path} says its separator is {delimiter!r}: use one of , ; tab |")
        plain = Table(path, encoding, delimiter, (), first_line=1 if told else 0)
        header = next(_rows(plain, lines), (0, []))[1]
    if delimiter != ("\t" if tabs else ",") or encoding not in ("utf-8", "utf-8-sig"):
        logger.info("%s is read as %s, %s separated", path, encoding, NAMES[delimiter])
    return replace(plain, columns=_named(header))


def _named(header: list[str]) -> tuple[str, ...]:
    """Return names that differ, as pandas makes them: a repeated one gets a number."""
    names: list[str] = []
    for position, name in enumerate(header):
        name = name or f"Unnamed: {position}"
        free = (n for i in itertools.count() if (n := name if not i else f"{name}.{i}"))
        names.append(next(n for n in free if n not in names))
    return tuple(names)


def _rows(table: Table, handle: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, fields) of every row, header first; empty lines are passed over."""
    if csv.field_size_limit() < sys.maxsize:
        # 128 KiB by default, for the whole process: a long document is no fault.
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    lines = itertools.islice(handle, table.first_line, None)
    reader = csv.reader(itertools.chain(lines, ["\n", _END]), delimiter=table.delimiter)
    line = table.first_line + 1
    try:
        for row in reader:
            if row == [_END]:
                return
            if row and row[-1].endswith(_END):
                raise DataError(
                    f"line {line} of {table.path} opens a double quote that is never closed: "
                    'close it, or write it twice ("") inside a quoted text'
                )
            if row:
                yield line, row
            line = table.first_line + reader.line_num + 1
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"line {line} of {table.path} is not readable: {error}") from None


def _delimiter(path: Path, encoding: str, tries: Iterable[Iterator[str]]) -> str:
    """Return what separates the columns: what divides header and rows into equally many."""
    best, score = ",", (0.0, 0)
    for delimiter, lines in zip(DELIMITERS, tries, strict=True):
        rows = _rows(Table(path, encoding, delimiter, ()), lines)
        try:
            widths = [len(row) for _, row in itertools.islice(rows, SAMPLE_ROWS)]
        except DataError:
            continue
        if not widths or widths[0] < 2:
            continue
        found = (sum(width == widths[0] for width in widths) / len(widths), widths[0])
        if found > score:
            best, score = delimiter, found
    return best
