"""Images in a zip or tar archive: read where they lie, nothing is unpacked to the disk."""

from __future__ import annotations

import functools
import logging
import lzma
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from fmcluster.embedding.data.columns import Reader
from fmcluster.embedding.data.ids import ids_of_paths
from fmcluster.embedding.data.images import readable_suffixes
from fmcluster.embedding.data.values import DamagedBytes
from fmcluster.utils.errors import DataError

logger = logging.getLogger(__name__)
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# A member larger than this is no image but something that unpacks without end.
MOST_BYTES = 2**29
# What zipfile, tarfile and the decompressors raise of a damaged or locked member.
_BROKEN = (
    *(OSError, EOFError, RuntimeError, NotImplementedError, ValueError, KeyError),
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
)


def is_archive(path: Path) -> bool:
    """Return whether a file's name is that of an archive."""
    return path.name.lower().endswith((".zip", *TAR_ENDINGS))


def open_archive(path: Path) -> Reader:
    """Read the images of an archive; ids are their paths in it.

    Those of a zip come sorted, those of a tar in its own order: a compressed one can only be read
    from its start on.

    Raises
    ------
    DataError
        It cannot be read, holds no image, or holds two of one path.
    """
    try:
        names = _zip_names(path) if _is_zip(path) else _tar_names(path)
    except DataError:
        raise
    except _BROKEN as error:
        said = str(error).strip().splitlines()  # of tar: a line for each compression tried
        reason = said[-1] if said else type(error).__name__
        raise DataError(f"{path} is not a readable archive: {reason.strip()}") from None
    return Reader(
        lambda start: (_zip_rows if _is_zip(path) else _tar_rows)(path, names, start),
        len(names),
        column="image",
        ids=ids_of_paths(names),
        seekable=_is_zip(path),
    )


def _is_zip(path: Path) -> bool:
    return path.name.lower().endswith(".zip")


def _zip_names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return sorted(_images(path, [m.filename for m in archive.infolist() if not m.is_dir()]))


def _tar_names(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        return _images(path, [member.name for member in archive if member.isreg()])


def _images(path: Path, names: list[str]) -> list[str]:
    """Return the names of images; others are counted in a warning, as in a folder."""
    shown = [name for name in names if not _is_hidden(name)]
    readable = readable_suffixes()
    found = [name for name in shown if PurePosixPath(name).suffix.lower() in readable]
    if not found:
        raise DataError(f"{path} holds no image: {len(names)} file(s), as {sorted(names)[:1]}")
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise DataError(f"{path} holds {twice[0]!r} more than once: ids must differ, pack it anew")
    others = sorted(set(shown) - set(found))
    if others:
        logger.warning(
            "%d file(s) of %s are left out, as %r: no images", len(others), path, others[0]
        )
    return found


def _is_hidden(name: str) -> bool:
    """Return whether a member is a hidden file, or what a Mac packs beside each file."""
    parts = PurePosixPath(name).parts
    return any(part == "__MACOSX" or (part[:1] == "." and part != ".") for part in parts)


def _zip_rows(path: Path, names: list[str], start: int) -> Iterator[bytes]:
    with zipfile.ZipFile(path) as archive:
        for name in names[start:]:
            yield _member(functools.partial(archive.open, name))


def _tar_rows(path: Path, names: list[str], start: int) -> Iterator[bytes]:
    wanted = set(names[start:])
    with tarfile.open(path) as archive:
        members = iter(archive)
        while True:
            try:
                member = next(members, None)
            except _BROKEN as error:
                raise DataError(f"{path} is damaged: {error}") from None
            if member is None:
                return
            if member.isreg() and member.name in wanted:
                yield _member(functools.partial(archive.extractfile, member))


def _member(opened: Callable[[], Any]) -> bytes:
    """Return the bytes of a member, or what says why they cannot be had."""
    try:
        with opened() as handle:
            content = handle.read(MOST_BYTES + 1)
    except _BROKEN as error:
        return DamagedBytes(f"it cannot be unpacked: {error}")
    if len(content) > MOST_BYTES:
        return DamagedBytes(f"it unpacks to more than {MOST_BYTES} bytes")
    return bytes(content)
