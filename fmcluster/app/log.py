"""Actions on disk before they are acknowledged: a line of JSON each, appended and synced.

A process that is killed while it writes leaves at most one torn line, the one that was never
acknowledged; it is passed over when the log is read and never joined with what comes after it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fmcluster.utils.errors import CorruptShardError

LOG = "answers.log"
SAVED = "saved"  # what stands before this entry is in the saved result


class ActionLog:
    """The log of a run folder.

    Parameters
    ----------
    folder : Path
        The run; a save replaces the folder and carries the log along, so no file is held open.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG

    def append(self, entry: dict[str, Any]) -> None:
        """Write one entry and return once it is on the disk."""
        line = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with open(self.path, "ab+", buffering=0, opener=_private) as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":  # a torn line ends here
                    line = b"\n" + line
            written = 0
            while written < len(line):
                written += file.write(line[written:]) or 0
            os.fsync(file.fileno())
        if size == 0:  # the name of a new file must be on the disk, too
            _sync_folder(self.path.parent)

    def unsaved(self) -> list[dict[str, Any]]:
        """Return the entries since the last save.

        Raises
        ------
        CorruptShardError
            A whole line is no entry: the file is not one that we wrote.
        """
        if self.path.is_symlink():
            raise CorruptShardError(f"{self.path} is a link and no log of ours: remove it")
        if not self.path.is_file():
            return []
        *lines, torn = self.path.read_bytes().split(b"\n")
        found: list[dict[str, Any]] = []
        for number, line in enumerate(lines, 1):
            entry = _entry(line)
            if entry is None:
                if _looks_torn(line):
                    continue
                raise CorruptShardError(
                    f"{self.path}, line {number} is no entry of ours: move the file away"
                )
            found = _with(found, entry)
        last = _entry(torn)  # killed between the line and its end
        return found if last is None else _with(found, last)


def _with(found: list[dict[str, Any]], entry: dict[str, Any]) -> list[dict[str, Any]]:
    return list(entry.get("pending", [])) if entry["op"] == SAVED else [*found, entry]


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("op"), str) else None


def _looks_torn(line: bytes) -> bool:
    """Return whether a line may be the beginning of an entry of ours."""
    return line.strip() == b"" or line.startswith(b'{"op":'[: len(line)])


def _private(path: str, flags: int) -> int:
    """Open a file, but no link, that, where it is made now, only its owner reads."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
