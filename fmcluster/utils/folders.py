"""Folders that are whole or absent: written beside, then swapped in by one rename.

A result, a pipeline, a head and a graph are several files that mean something together only. They
are written into a folder beside the target, which then takes the target's place; a kill, a full
disk or a second writer leaves one of them whole, the old one or a new one. What lies in the folder
and is not ours comes along; a folder in which nothing is ours is refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from fmcluster.utils.errors import CorruptShardError, DataError
from fmcluster.utils.files import check_place, digest_file, safe_child, temporary_beside

T = TypeVar("T")
# Loads of a folder that another process replaces meanwhile; a load is far shorter than a save.
TRIES = 20
_AT_FDCWD, _EXCHANGE = -100, 2  # of Linux' renameat2


def check_replaceable(
    folder: str | os.PathLike[str], marker: str, *, beside: Collection[str] = ()
) -> Path:
    """Return the resolved folder if it may be written: absent, empty, or ours.

    Parameters
    ----------
    folder : path
        Where something is to be saved.
    marker : str
        The file that a folder of ours has.
    beside : collection of str
        Names that may be in it already without it.

    Raises
    ------
    DataError
        There is a file, or a folder with other things in it.
    DataError, PermissionError
        Nothing can be written there: as `check_place`.
    """
    target = Path(folder).expanduser().resolve()
    if target.exists() and not target.is_dir():
        raise DataError(f"{folder} is a file: name a folder")
    if target.is_dir() and not (target / marker).is_file():
        # Hidden entries (.git, .DS_Store) are no data of anybody's.
        names = {p.name for p in target.iterdir() if not p.name.startswith(".")}
        others = sorted(names - set(beside))
        if others:
            shown = ", ".join(others[:3]) + (" ..." if len(others) > 3 else "")
            raise DataError(
                f"{folder} is not empty and has no {marker}, so it is not ours to replace "
                f"(it holds {shown}): name a new folder"
            )
    check_place(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


@contextlib.contextmanager
def replaced_folder(
    folder: str | os.PathLike[str],
    *,
    marker: str,
    owned: Collection[str],
    beside: Collection[str] = (),
) -> Iterator[Path]:
    """Yield an empty folder; when the block ends well, it takes the place of `folder`.

    Parameters
    ----------
    folder : path
        What is replaced or made.
    marker : str
        The file that a folder of ours has; the block must write it.
    owned : collection of str
        Names in the folder that are ours: they are replaced or go. All others are kept.
    beside : collection of str
        As for `check_replaceable`.

    Raises
    ------
    DataError
        As `check_replaceable`.
    """
    target = check_replaceable(folder, marker, beside=beside)
    fresh = temporary_beside(target)
    fresh.mkdir()
    try:
        yield fresh
        if target.is_dir():
            _carry_over(target, fresh, owned)
        _swap(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def read_whole(folder: Path, marker: str, read: Callable[[], T]) -> T:
    """Return what `read` makes of a folder, read again where a save came in between.

    Files that were opened before and after it are of two saves, each of them sound.

    Raises
    ------
    FileNotFoundError
        There is no such folder, or nothing of ours in it.
    """
    for _ in range(TRIES):
        before = _stamp(folder / marker)
        try:
            value = read()
        except Exception:  # a library that opens a file twice may have seen two
            if _stamp(folder / marker) == before:
                raise
            continue
        if _stamp(folder / marker) == before:
            return value
    raise CorruptShardError(f"{folder} was replaced {TRIES} times while it was read: load it again")


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder by its relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in paths}


def check_digests(folder: Path, files: Mapping[str, str], *, marker: str, what: str) -> None:
    """Hold files against the digests in the one file that vouches for all of them.

    Parameters
    ----------
    folder : Path
        Where they are.
    files : mapping of str to str
        Digest by relative path; none may lead outside the folder.
    marker : str
        The file that holds the digests.
    what : str
        What the files are of, for the message.

    Raises
    ------
    CorruptShardError
        One is missing, or another than was written.
    """
    for name, digest in files.items():
        path = folder.joinpath(*(safe_child(".", part).name for part in name.split("/")))
        if not path.is_file() or digest_file(path) != digest:
            raise CorruptShardError(
                f"{path} is missing or does not match its checksum in {marker}: damaged, or "
                f"not of this {what}; save it again"
            )


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Return what tells one save of a file from the next."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _carry_over(old: Path, new: Path, owned: Collection[str]) -> None:
    """Link (or copy) into `new` what `old` holds that is not ours."""

    def link(source: str, place: str) -> None:
        try:
            os.link(source, place)
        except OSError:
            shutil.copy2(source, place)

    for entry in old.iterdir():
        place = new / entry.name
        if entry.name in owned or place.exists():
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, place, symlinks=True, copy_function=link)
        elif entry.is_symlink():
            os.symlink(os.readlink(entry), place)
        else:
            link(os.fspath(entry), os.fspath(place))


def _swap(fresh: Path, target: Path) -> None:
    """Put `fresh` where `target` is; what was there is then at `fresh`, to be removed."""
    if not target.exists():
        try:
            os.rename(fresh, target)
            return
        except OSError:
            if not target.is_dir():
                raise
    if _exchange(fresh, target):
        return
    aside = fresh.with_name(fresh.name.removesuffix(".tmp") + "-old.tmp")
    try:
        os.rename(target, aside)
    except OSError:  # a mount point: its files can be replaced, it cannot
        _move_in(fresh, target)
        return
    os.rename(fresh, target)
    shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step, where the system can."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    return rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE) == 0


def _move_in(fresh: Path, target: Path) -> None:
    """Replace entry by entry, where the folder itself cannot be renamed."""
    for entry in fresh.iterdir():
        place = target / entry.name
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        shutil.move(os.fspath(entry), os.fspath(place))
