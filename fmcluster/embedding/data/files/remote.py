"""Data behind a URL (``hf://``, ``s3://``, ``gs://``, ``https://``: whatever fsspec opens).

It is brought into this machine's cache once, and then read as local files are: in any format, and
the same bytes in every pass. A file is brought again when its store says that it changed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from fmcluster.utils.errors import DataError, MissingExtraError, first_line
from fmcluster.utils.files import (
    CACHE_VARIABLE,
    cache_folder,
    lock,
    read_json,
    stable_hash,
    write_json,
)
from fmcluster.utils.progress import bar

# "hf://datasets/...", and fsspec's chains, as "zip://a.csv::s3://bucket/b.zip". A drive of Windows
# has one letter.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# Files asked for in one call: object stores answer many at once, and a bar moves.
_AT_ONCE = 64
_NOTES = ".fetched.json"
# Room that is left on the disk for everything else.
_ROOM_LEFT = 2**28


def is_url(data: Any) -> bool:
    """Return whether `data` is a URL.

    >>> is_url("hf://datasets/a/b"), is_url("C://data"), is_url("folder/a.csv")
    (True, False, False)
    """
    return isinstance(data, str) and _URL.match(data) is not None


def fetched(url: str) -> Path | list[Path]:
    """Return where on this machine a file or folder behind a URL is, fetching what is new.

    The files of a pattern (``s3://bucket/part-*.parquet``) are returned as a list.

    Raises
    ------
    DataError
        No such protocol or file, the store out of reach, a file that came incomplete, or no room.
    MissingExtraError
        fsspec or the package of that protocol is not installed.
    """
    if url.startswith("file://"):
        return Path(url.removeprefix("file://"))
    with _explained(url):
        files, root = _open(url)
        is_folder, listed = _listing(files, root)
    if not listed:
        raise DataError(f"{url}: no such file or folder, or an empty one")
    home = cache_folder("remote") / stable_hash(url)[:24]
    home.mkdir(parents=True, exist_ok=True)
    with lock(home / ".lock"):
        _bring(url, files, listed, home)
    if is_folder:
        return home
    found = [home / name for name in listed]
    return found if _is_pattern(root) else found[0]


def _open(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise MissingExtraError(f"{url} needs fsspec: pip install fsspec") from error
    try:
        files, root = url_to_fs(url)
    except ImportError as error:
        raise MissingExtraError(f"{url} needs a package that reads it: {error}") from error
    return files, str(root).rstrip("/")


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn what the many clients raise into one line."""
    try:
        yield
    except (DataError, MissingExtraError):
        raise
    except FileNotFoundError:
        raise DataError(f"{url}: no such file or folder") from None
    except Exception as error:
        raise DataError(f"{url} cannot be read: {first_line(error)}") from error


def _listing(files: Any, root: str) -> tuple[bool, dict[str, str]]:
    """Return whether it is a folder, and the files to bring: local relative path -> remote path."""
    if _is_pattern(root):
        found = [path for path in files.glob(root) if files.isfile(path)]
        parents = [PurePosixPath(path).parent.parts for path in found]
        shared = os.path.commonprefix(parents) if parents else ()
        cut = len(shared)
        return False, {"/".join(PurePosixPath(path).parts[cut:]): path for path in sorted(found)}
    if files.isfile(root):
        name = PurePosixPath(root).name
        return False, {name.partition("?")[0] if _is_web(root) else name: root}
    if not files.isdir(root):
        return False, {}
    start = len(root.lstrip("/"))
    listed = {}
    for path in sorted(files.find(root)):
        name = path.lstrip("/")[start:].lstrip("/")
        if any(part.startswith(".") for part in PurePosixPath(name).parts):
            continue  # hidden files are no rows: a repository's .git, the cache's own notes
        listed[name] = path
    return True, listed


def _is_web(root: str) -> bool:
    return root.startswith(("http://", "https://"))


def _is_pattern(root: str) -> bool:
    # Of the web's addresses "?" begins what is asked for.
    return re.search(r"\*" if _is_web(root) else r"[*?\[]", root) is not None


def _bring(url: str, files: Any, listed: Mapping[str, str], home: Path) -> None:
    """Fetch what is new or changed into `home`, and remove what is no longer there."""
    for name in listed:
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or name.startswith("/") or "\\" in name:
            raise DataError(f"{url} holds a file named {name!r}, outside its own folder")
    with _explained(url):
        about = {name: files.info(path) for name, path in listed.items()}
    wanted = {
        name: stable_hash({k: str(v) for k, v in info.items()}) for name, info in about.items()
    }
    notes = read_json(home / _NOTES) if (home / _NOTES).is_file() else {}
    for name in set(notes) - set(wanted):
        (home / name).unlink(missing_ok=True)
    new = [n for n in listed if notes.get(n) != wanted[n] or not (home / n).is_file()]
    kept = {name: note for name, note in notes.items() if name in wanted and name not in new}
    _check_room(url, home, sum(int(about[name].get("size") or 0) for name in new))
    with bar(total=len(new), description="fetch", unit="files") as shown:
        for start in range(0, len(new), _AT_ONCE):
            part = new[start : start + _AT_ONCE]
            _fetch(url, files, {name: listed[name] for name in part}, about, home)
            kept.update({name: wanted[name] for name in part})
            write_json(home / _NOTES, kept)
            shown.update(len(part))
    write_json(home / _NOTES, kept)


def _fetch(
    url: str, files: Any, part: Mapping[str, str], about: Mapping[str, Any], home: Path
) -> None:
    """Fetch some files: each is whole under its name, or not there."""
    temporary = {name: home / f"{name}.part" for name in part}
    for path in temporary.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    with _explained(url):
        files.get(list(part.values()), [str(path) for path in temporary.values()])
    for name, path in temporary.items():
        size, there = about[name].get("size"), path.stat().st_size if path.is_file() else 0
        if not path.is_file() or (size is not None and there != size):
            path.unlink(missing_ok=True)
            raise DataError(f"{url}: {name} came incomplete ({there} of {size} bytes): try again")
        os.replace(path, home / name)


def _check_room(url: str, home: Path, size: int) -> None:
    free = shutil.disk_usage(home).free
    if size and size + _ROOM_LEFT > free:
        raise DataError(
            f"{url} holds {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {home}: free "
            f"some, or set {CACHE_VARIABLE} to a folder with room"
        )
