"""Writing a store shard by shard: whole shards or none, resumable after any kind of end.

Order is what makes it safe. A shard's arrays are written first, each under a temporary name that
replaces the real one when its bytes are on disk; its completion marker is written last; the
manifest is finalized after every marker is there. Whatever stops the process, the markers tell what
is done.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fmcluster.embedding.data.ids import row_ids
from fmcluster.embedding.data.values import as_array
from fmcluster.embedding.store.manifest import (
    CONTENT,
    MANIFEST,
    FileRecord,
    Manifest,
    ShardRecord,
    check_same,
    marker_path,
    read_manifest,
    read_marker,
    shard_damage,
    shard_path,
    write_manifest,
    write_marker,
)
from fmcluster.embedding.store.sharded import ShardedArray, map_shard
from fmcluster.utils.errors import CorruptShardError, DataError
from fmcluster.utils.files import TEMPORARY, digest_file, is_abandoned, write_array
from fmcluster.utils.ids import check_ids
from fmcluster.utils.validation import check_finite_rows

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def prepare(folder: Path, header: dict[str, Any]) -> Manifest:
    """Create a store's folder, or take up the one that is there.

    The caller holds the folder's lock. Temporary files of a killed process are removed.

    Parameters
    ----------
    folder : Path
        The store's folder.
    header : dict
        What the store will be made of.

    Returns
    -------
    Manifest
        The manifest on disk: complete, or to be completed. Its ``layout`` is that of the first
        call, so that shards written before and after agree.

    Raises
    ------
    StoreMismatchError
        The folder holds a store made otherwise; the differing fields are shown.
    FileExistsError
        The folder holds something that is no store.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MANIFEST).exists():
        manifest = read_manifest(folder)
        check_same(folder, manifest.header, header)
    else:
        others = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        if others:
            raise FileExistsError(
                f"{folder} holds {others[0]!r} and no {MANIFEST}: give an empty or a new folder"
            )
        manifest = Manifest(header=header)
        with explained(folder, "the manifest"):
            write_manifest(folder, manifest)
    remove_leftovers(folder)
    return manifest


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes that are dead; a living writer keeps its own."""
    for leftover in folder.glob(".*.tmp"):
        # Any other name is of an old version, and dead.
        if not TEMPORARY.fullmatch(leftover.name) or is_abandoned(leftover):
            leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def explained(folder: Path, what: str) -> Iterator[None]:
    """Turn "no space left on device" into what was kept and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        done = sum(1 for _ in folder.glob("shard-*.json"))
        raise OSError(
            error.errno,
            f"the disk is full while writing {what} of {folder}: {done} finished shard(s) are "
            "kept and no partial one; free some space and run the same call again",
        ) from error


def write_shard(
    folder: Path,
    manifest: Manifest,
    number: int,
    arrays: Mapping[str, NDArray[Any]],
    about: ShardRecord,
) -> None:
    """Write the arrays of one shard and then its completion mark.

    Parameters
    ----------
    folder : Path
        The store.
    manifest : Manifest
        What `prepare` returned.
    number : int
        The shard.
    arrays : mapping of str to ndarray
        ``ids`` (rows,), one (rows, d) array for each space and view, and, where it is known,
        the digests ``content`` (rows, 16).
    about : ShardRecord
        What `arrays` do not tell: rows left out or kept as zeros, texts cut, rows copied.
    """
    with explained(folder, f"shard {number}"):
        files = {}
        try:
            for key, array in arrays.items():
                path = shard_path(folder, key, number)
                write_array(path, array)
                files[key] = FileRecord(bytes=path.stat().st_size, sha256=digest_file(path))
        except BaseException:
            # A shard without a mark is written anew; on a full disk its bytes are better freed.
            for key in arrays:
                shard_path(folder, key, number).unlink(missing_ok=True)
            raise
        dims = {k: array.shape[1] for k, array in arrays.items() if k not in ("ids", CONTENT)}
        record = replace(about, rows=len(arrays["ids"]), dims=dims, files=files)
        write_marker(folder, number, record, manifest.header)


def reopen(folder: Path, header: dict[str, Any]) -> tuple[Manifest, dict[int, str]]:
    """Make a store with damaged shards, or a damaged manifest, one to be completed.

    Every shard is held against its checksums. The damaged ones lose their completion mark; sound
    ones keep it, or get it back from the manifest. The caller holds the folder's lock.

    Returns
    -------
    manifest : Manifest
        No longer complete.
    damaged : dict
        Shard number -> what was wrong; -1 stands for the manifest.
    """
    damaged: dict[int, str] = {}
    try:
        manifest = read_manifest(folder)
        check_same(folder, manifest.header, header)
    except (FileNotFoundError, CorruptShardError) as error:
        damaged[-1] = str(error)
        manifest = Manifest(header=header)
    shards: Mapping[int, ShardRecord | None] = dict(enumerate(manifest.shards))
    if not manifest.complete:
        numbers = (int(path.stem.split("-")[1]) for path in folder.glob("shard-*.json"))
        shards = {
            number: read_marker(folder, number, manifest.header) for number in sorted(numbers)
        }
    for number, record in shards.items():
        problem = "its completion mark is damaged or of other settings"
        if record is not None:
            problem = shard_damage(folder, manifest, number, record, checksums=True) or ""
        if problem or record is None:
            damaged[number] = problem
            marker_path(folder, number).unlink(missing_ok=True)
        elif read_marker(folder, number, manifest.header) is None:
            write_marker(folder, number, record, manifest.header)
    if damaged:
        manifest = replace(manifest, shards=(), complete=False)
        write_manifest(folder, manifest)
    return manifest, damaged


def finish(folder: Path, manifest: Manifest, n_shards: int) -> Manifest:
    """Check that every shard is whole and every id there once, then seal the manifest.

    Raises
    ------
    CorruptShardError
        Shards are missing (another process died: run the call again), or differ in columns.
    DataError
        Row ids repeat, or no row could be read.
    """
    marks = [read_marker(folder, number, manifest.header) for number in range(n_shards)]
    missing = [number for number, mark in enumerate(marks) if mark is None]
    if missing:
        raise CorruptShardError(
            f"{len(missing)} of {n_shards} shards of {folder} are not written, the first is "
            f"{missing[0]}: run the same call again"
        )
    shards = tuple(mark for mark in marks if mark is not None)
    if not sum(record.rows for record in shards):
        reasons = [reason for record in shards for _, reason in record.skipped]
        raise DataError(
            f"no row could be embedded: {reasons[0] if reasons else 'the data is empty'}"
        )
    for number, record in enumerate(shards):
        if record.dims != shards[0].dims:
            raise CorruptShardError(
                f"shard {number} of {folder} has columns {record.dims}, shard 0 has "
                f"{shards[0].dims}: delete {marker_path(folder, number).name} and run again"
            )
    check_ids(load_ids(folder, shards))
    finalized = replace(manifest, shards=shards, complete=True)
    with explained(folder, "the manifest"):
        write_manifest(folder, finalized)
    return finalized


def load_ids(folder: Path, shards: tuple[ShardRecord, ...], *, remedy: str = "") -> NDArray[Any]:
    """Return the row ids of all shards, (n,)."""
    parts = [
        np.asarray(
            map_shard(shard_path(folder, "ids", number), (record.rows,), None, remedy=remedy)
        )
        for number, record in enumerate(shards)
    ]
    return np.concatenate([part for part in parts if len(part)] or parts[:1])


def as_ids(ids: Any, n_rows: int) -> NDArray[Any]:
    """Return row ids as int64 or fixed-width strings (n,), unique; None counts from 0."""
    if ids is None:
        return np.arange(n_rows, dtype=np.int64)
    array = row_ids(ids)
    if len(array) != n_rows:
        raise DataError(f"{len(array)} ids were given for {n_rows} rows: they must be equal")
    return array


def as_matrix(X: Any, name: str) -> Any:
    """Check shape and type of one space without reading its rows."""
    array = X if isinstance(X, (np.ndarray, ShardedArray)) else as_array(X)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be numeric, got dtype {array.dtype}: embed the data first")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must be (n, d) with rows and columns, got shape {array.shape}")
    if array.dtype not in (np.float16, np.float32, np.float64):
        array = np.asarray(array).astype(np.float32)
    return array


def folder_of(path: str | os.PathLike[str]) -> Path:
    """Return a store's folder as an absolute path, ``~`` expanded."""
    return Path(path).expanduser().absolute()


def cast(values: NDArray[Any], dtype: DTypeLike, ids: NDArray[Any]) -> NDArray[Any]:
    """Return finite `values` as `dtype`, or say which rows leave its range.

    Raises
    ------
    ValueError
        Rows with NaN or infinity, or too large for float16; ids are named.
    """
    values = np.asarray(values)
    check_finite_rows(values, name="embeddings", ids=ids)
    with np.errstate(over="ignore"):
        stored = values.astype(dtype, copy=False)
    if stored is values:
        return stored
    over = np.flatnonzero(~np.isfinite(stored).all(axis=1))
    if len(over):
        largest = float(np.abs(values).max())
        raise ValueError(
            f"{len(over)} row(s) do not fit {np.dtype(dtype)} (largest value {largest:.3g}), the "
            f"first is id {ids[over[0]].item()!r}: use dtype='float32'"
        )
    return stored
