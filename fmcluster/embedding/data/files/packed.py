"""Files that may be compressed as one stream (gzip, zstandard, bzip2): opened as if they were not.

What breaks while a stream is unpacked is one clear error that names the file.
"""

from __future__ import annotations

import bz2
import gzip
import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from fmcluster.utils.errors import DataError

PACKED = {".gz": "gzip", ".zst": "zstandard", ".bz2": "bzip2"}


def suffix_of(path: Path) -> str:
    """Return what a file is: its suffix, or the one below that of its compression.

    >>> suffix_of(Path("a.csv")), suffix_of(Path("a.CSV.gz")), suffix_of(Path("gz"))
    ('.csv', '.csv', '')
    """
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in PACKED else suffix


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading its bytes, unpacked where it is compressed."""
    kind = PACKED.get(path.suffix.lower())
    if kind is None:
        return open(path, "rb")
    return io.BufferedReader(_Unpacked(path, kind))


def open_text(path: Path, encoding: str, *, newline: str | None = None) -> TextIO:
    """Open a file for reading its text, unpacked where it is compressed."""
    return io.TextIOWrapper(open_binary(path), encoding=encoding, newline=newline)


def _stream(path: Path, kind: str) -> Any:
    if kind == "gzip":
        return gzip.open(path, "rb")
    if kind == "bzip2":
        return bz2.open(path, "rb")
    import pyarrow as pa

    # Arrow brings zstandard along; Python has it from 3.14 on.
    return pa.CompressedInputStream(pa.OSFile(str(path), "rb"), "zstd")


class _Unpacked(io.RawIOBase):
    """The unpacked bytes of a file; a damaged one raises DataError where it breaks."""

    def __init__(self, path: Path, kind: str) -> None:
        self._path, self._kind = path, kind
        self._inner = _stream(path, kind)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` and return how many bytes there were."""
        try:
            data = self._inner.read(len(buffer))
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise DataError(f"{self._path} is damaged, or no {self._kind} file: {error}") from None
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file beneath, too."""
        self._inner.close()
        super().close()
