"""Files of the data that must not change while they are read: half of each would be nobody's."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fmcluster.embedding.data.values import file_of
from fmcluster.utils.errors import DataError


class Watch:
    """What the files of some data were when they were opened.

    Parameters
    ----------
    files : iterable of Path
        Files that hold the rows.
    base : Path, optional
        Folder that paths in rows start from.
    strings_are_paths : bool
        Whether a row that is a string names a file.
    """

    def __init__(
        self, files: Iterable[Path], base: Path | None = None, *, strings_are_paths: bool = False
    ) -> None:
        self.files = {path: _stamp(path) for path in files}
        self.base, self.strings_are_paths = base, strings_are_paths
        self.rows = array("q")

    def note(self, row: Any) -> None:
        """Note the file that the next row names, if it names one."""
        self.rows.append(self._of_row(row))

    def changed(self, rows: Sequence[Any] = (), start: int = 0) -> str | None:
        """Return the name of a file that is another now, of the data or of rows from `start` on."""
        for path, stamp in self.files.items():
            if _stamp(path) != stamp:
                return str(path)
        for position, row in enumerate(rows if self.rows else ()):
            if self._of_row(row) != self.rows[start + position]:
                return str(file_of(row, self.base, strings_are_paths=self.strings_are_paths))
        return None

    def check(self, rows: Sequence[Any] = (), start: int = 0) -> None:
        """Raise DataError where `changed` names a file."""
        name = self.changed(rows, start)
        if name is not None:
            raise DataError(
                f"{name!r} changed while it was read, so the rows would be partly old and partly "
                "new: start again when nothing writes to it"
            )

    def _of_row(self, row: Any) -> int:
        path = file_of(row, self.base, strings_are_paths=self.strings_are_paths)
        return 0 if path is None else _stamp(path)


def _stamp(path: Path) -> int:
    """Return a number that changes when a file is replaced, written to or removed."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return 1
    return hash((found.st_ino, found.st_mtime_ns, found.st_size))
