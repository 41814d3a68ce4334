"""Files that are whole or absent: atomic writes, locks, checksums, stable hashes."""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fmcluster.utils.errors import CorruptShardError, DataError

CACHE_VARIABLE = "FMCLUSTER_CACHE"
# How `temporary_beside` names files and folders in the making; `folders` puts the old one aside.
TEMPORARY = re.compile(r"\..*\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}(-old)?\.tmp")


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, else it is removed.

    A killed writer removes nothing: what it left of `path` goes when `path` is written again.
    """
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder: name a file")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(target)
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, target)
    except Exception as error:
        # Writers in Rust give the system's error number in words alone.
        told = re.search(r"\(os error (\d+)\)", str(error))
        if told is None or isinstance(error, OSError):
            raise
        raise OSError(int(told[1]), os.strerror(int(told[1])), str(target)) from None
    finally:
        temporary.unlink(missing_ok=True)


def temporary_beside(target: Path) -> Path:
    """Return a name beside `target` that is this writer's own; what killed ones left there goes."""
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.{machine_id()}-*.tmp"):
        if is_abandoned(leftover) and leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        elif is_abandoned(leftover):
            leftover.unlink(missing_ok=True)
    unique = f"{machine_id()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return target.with_name(f".{target.name}.{unique}.tmp")


def is_abandoned(temporary: Path) -> bool:
    """Return whether something in the making is of a process of this machine that is dead."""
    name = TEMPORARY.fullmatch(temporary.name)
    return name is not None and name["machine"] == machine_id() and not is_alive(int(name["pid"]))


def check_place(path: str | os.PathLike[str]) -> None:
    """Refuse a path that nothing can be written to, before the work that is to end there.

    Raises
    ------
    DataError
        A part of it above the last is a file.
    PermissionError
        The folder that it goes into takes nothing from this user.
    """
    above = next(p for p in Path(path).expanduser().absolute().parents if os.path.exists(p))
    if not above.is_dir():
        raise DataError(f"{path} cannot be written: {above} is a file, so name a place elsewhere")
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"nothing can be written in {above}", os.fspath(path))


def cache_folder(kind: str, given: str | os.PathLike[str] | None = None) -> Path:
    """Return a folder of the cache, below `given` or where this machine has it; none is made."""
    home = given or os.environ.get(CACHE_VARIABLE)
    if home:
        return Path(home).expanduser().absolute() / kind
    from huggingface_hub.constants import HF_ASSETS_CACHE

    return Path(HF_ASSETS_CACHE) / "fmcluster" / kind


@functools.cache
def machine_id() -> str:
    """Return a digest of what makes a process number unique: the host and its process table."""
    table = "/proc/self/ns/pid"
    return stable_hash([platform.node(), os.readlink(table) if os.path.islink(table) else ""])[:8]


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine lives, or may."""
    if os.name != "posix":  # Windows cannot ask without harm, and refuses to remove an open file
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 `text` to `path`, whole or not at all."""
    write_bytes(path, text.encode())


def _plain(value: Any) -> Any:
    """Turn numpy scalars and arrays, paths and sets into what JSON knows."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def to_json(value: Any) -> str:
    """Return `value` as indented JSON; numpy values become plain ones, NaN an error."""
    return json.dumps(value, indent=2, default=_plain, allow_nan=False)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all; NaN becomes an error."""
    write_text(path, to_json(value) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read JSON; a damaged file is a CorruptShardError that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorruptShardError(
            f"{path} is not valid JSON ({error}): restore or delete it"
        ) from None


def write_array(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an array as ``.npy``, whole or not at all, never pickled."""
    with atomic_path(path) as temporary, open(temporary, "wb") as handle:
        np.lib.format.write_array(_ByPython(handle), np.asanyarray(array), allow_pickle=False)


class _ByPython:
    """A file that numpy writes through Python: its own fast path loses errno on a full disk."""

    def __init__(self, handle: BinaryIO) -> None:
        self.write = handle.write


def read_array(path: str | os.PathLike[str], *, mmap: bool = False) -> NDArray[Any]:
    """Read a ``.npy`` array; a damaged or pickled file is a CorruptShardError that names it."""
    try:
        return np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except (ValueError, EOFError, MemoryError, OverflowError) as error:
        raise CorruptShardError(f"{path} is not a readable .npy file ({error})") from None


@contextlib.contextmanager
def as_corrupt(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Turn whatever a malformed or hostile folder provokes into one CorruptShardError."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError, MemoryError) as error:
        raise CorruptShardError(
            f"{folder} is malformed ({type(error).__name__}: {error}): fetch or save it again"
        ) from None


def digest_bytes(data: bytes) -> str:
    """Return the hex SHA-256 of `data`, 32 characters."""
    return hashlib.sha256(data).hexdigest()[:32]


def digest_file(path: str | os.PathLike[str]) -> str:
    """Return the hex SHA-256 of a file, 32 characters, in constant memory."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:32]


def stable_hash(value: Any) -> str:
    """Return a hex digest of a JSON-able value: the same in every process and on every machine."""
    text = json.dumps(value, sort_keys=True, default=_plain, separators=(",", ":"))
    return digest_bytes(text.encode())


def safe_child(folder: str | os.PathLike[str], name: str) -> Path:
    """Join a file name read from a file to `folder`, refusing to leave it."""
    if not name or name != os.path.basename(name) or name in (".", "..") or "\0" in name:
        raise CorruptShardError(f"file name {name!r} in {folder} is not a plain file name")
    return Path(folder) / name


@contextlib.contextmanager
def lock(path: str | os.PathLike[str], *, timeout: float = -1) -> Iterator[None]:
    """Hold an advisory lock on `path`; the system frees a dead process's lock by itself."""
    from filelock import FileLock

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(os.fspath(path), timeout=timeout):
        yield
