"""Images or recordings in a zip or tar archive: read where they lie, nothing is unpacked."""

from __future__ import annotations

import functools
import itertools
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
from fmcluster.embedding.data.media import kind_of_files, suffixes_of
from fmcluster.embedding.data.values import DamagedBytes
from fmcluster.utils.errors import DataError

logger = logging.getLogger(__name__)
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# A member larger than this is no row but something that unpacks without end.
MOST_BYTES = 2**29
# What zipfile, tarfile and the decompressors raise of a damaged or locked member.
_BROKEN = (
    *(OSError, EOFError, RuntimeError, NotImplementedError, ValueError, KeyError),
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
)


def is_archive(path: Path) -> bool:
    """Return whether a file's name is that of an archive."""
    return path.name.lower().endswith((".zip", *TAR_ENDINGS))


def open_archive(path: Path, *, modality: str | None = None) -> Reader:
    """Read the images or recordings of an archive; ids are their paths in it.

    Those of a zip come sorted, those of a tar in its own order: a compressed one can only be read
    from its start on.

    Raises
    ------
    DataError
        It cannot be read, holds neither (or both, and `modality` does not say which are meant),
        or holds two of one path.
    """
    media, names = _files(path, names_in(path), modality)
    return Reader(
        lambda start: (_zip_rows if _is_zip(path) else _tar_rows)(path, names, start),
        len(names),
        column=media,
        ids=ids_of_paths(names),
        seekable=_is_zip(path),
        files=(path,),
        media=media,
    )


def join_archives(paths: list[Path], *, modality: str | None = None) -> Reader:
    """Read several archives as one; ids begin with the name of the archive.

    Raises
    ------
    DataError
        As of `open_archive`, or they hold images here and recordings there.
    """
    readers = [open_archive(path, modality=modality) for path in paths]
    kinds = {reader.media for reader in readers}
    if len(kinds) > 1:
        raise DataError(f"{paths[0].parent}: some archives hold images and some recordings")
    parts = zip(paths, readers, strict=True)
    return Reader(
        lambda start: itertools.islice(
            itertools.chain.from_iterable(reader.rows(0) for reader in readers), start, None
        ),
        sum(reader.n_rows or 0 for reader in readers),
        column=readers[0].column,
        ids=[f"{path.name}/{name}" for path, reader in parts for name in reader.ids or ()],
        seekable=False,
        files=tuple(paths),
        media=readers[0].media,
    )


def _is_zip(path: Path) -> bool:
    return path.name.lower().endswith(".zip")


def names_in(path: Path) -> list[str]:
    """Return the names of the files in an archive: of a zip sorted, of a tar as they lie.

    Raises
    ------
    DataError
        It cannot be read.
    """
    try:
        if _is_zip(path):
            with zipfile.ZipFile(path) as archive:
                return sorted(m.filename for m in archive.infolist() if not m.is_dir())
        with tarfile.open(path) as archive:
            return [member.name for member in archive if member.isreg()]
    except _BROKEN as error:
        said = str(error).strip().splitlines()  # of tar: a line for each compression tried
        reason = said[-1] if said else type(error).__name__
        raise DataError(f"{path} is not a readable archive: {reason.strip()}") from None


def members(path: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield name and opener of each file in an archive, in the order of `names_in`."""
    if _is_zip(path):
        with zipfile.ZipFile(path) as zipped:
            for name in sorted(m.filename for m in zipped.infolist() if not m.is_dir()):
                yield name, functools.partial(zipped.open, name)
        return
    with tarfile.open(path) as archive:
        inside = iter(archive)
        while True:
            try:
                member = next(inside, None)
            except _BROKEN as error:
                raise DataError(f"{path} is damaged: {error}") from None
            if member is None:
                return
            if member.isreg():
                yield member.name, functools.partial(archive.extractfile, member)


def _files(path: Path, names: list[str], modality: str | None) -> tuple[str, list[str]]:
    """Return what the rows are and their names; others are counted in a warning, as in a folder."""
    shown = [name for name in names if not is_hidden(name)]
    media = kind_of_files(path, shown, modality)
    readable = suffixes_of(media)
    found = [name for name in shown if PurePosixPath(name).suffix.lower() in readable]
    if not found:
        raise DataError(
            f"{path} holds no {'recording' if media == 'audio' else 'image'}: "
            f"{len(names)} file(s), as {sorted(names)[:1]}"
        )
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise DataError(f"{path} holds {twice[0]!r} more than once: ids must differ, pack it anew")
    others = sorted(set(shown) - set(found))
    if others:
        logger.warning(
            "%d file(s) of %s are left out, as %r: not read as %s",
            len(others),
            path,
            others[0],
            media,
        )
    return media, found


def is_hidden(name: str) -> bool:
    """Return whether a member is a hidden file, or what a Mac packs beside each file."""
    parts = PurePosixPath(name).parts
    return any(part == "__MACOSX" or (part[:1] == "." and part != ".") for part in parts)


def _zip_rows(path: Path, names: list[str], start: int) -> Iterator[bytes]:
    with zipfile.ZipFile(path) as archive:
        for name in names[start:]:
            yield member_bytes(functools.partial(archive.open, name))


def _tar_rows(path: Path, names: list[str], start: int) -> Iterator[bytes]:
    wanted = set(names[start:])
    for name, opened in members(path):
        if name in wanted:
            yield member_bytes(opened)


def member_bytes(opened: Callable[[], Any]) -> bytes:
    """Return the bytes of a member, or what says why they cannot be had."""
    try:
        with opened() as handle:
            content = handle.read(MOST_BYTES + 1)
    except _BROKEN as error:
        return DamagedBytes(f"it cannot be unpacked: {error}")
    if len(content) > MOST_BYTES:
        return DamagedBytes(f"it unpacks to more than {MOST_BYTES} bytes")
    return bytes(content)
