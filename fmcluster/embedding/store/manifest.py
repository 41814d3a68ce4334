"""What a store's folder says about itself: the manifest, and one completion mark a shard.

A store is a folder::

    manifest.json            who made it from what, and every shard's rows, bytes and checksums
    shard-00000.json         completion mark of shard 0, written last, so shard 0 is whole
    ids-00000.npy            its row ids
    space0-00000.npy         its rows in the first space
    space0.view1-00000.npy   its rows from the second augmented view of that space
    content-00000.npy        a digest of what the encoders saw of each row, so that a later store
                             copies rows it knows

File names follow from the space, view and shard numbers and are never read from JSON, so that no
manifest can point outside its folder. Both kinds of JSON carry a digest of their own content.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fmcluster.utils.errors import CorruptShardError, StoreMismatchError
from fmcluster.utils.files import digest_file, read_json, safe_child, stable_hash, write_json

SCHEMA = 1  # of the files; another one is refused, not guessed at
MANIFEST = "manifest.json"
DTYPES = ("float16", "float32")
REMEDY = "embed once more with repair=True (--repair), which encodes only the damaged shards"
CONTENT = "content"  # array of the row digests; stores of version 0.1 have none
_KEY = re.compile(rf"ids|{CONTENT}|space\d+(\.view\d+)?")
# What must agree before rows of an existing store are reused; layout and info may differ.
COMPARED = ("data", "encoders", "settings")


@dataclass(frozen=True)
class FileRecord:
    """Size and SHA-256 of one file of a shard."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardRecord:
    """One shard: rows kept, columns by array, its files, and the rows that could not be read.

    `truncated` counts, by space, the texts that an encoder cut; `content` is the digest of the raw
    rows, where only a stream gives them; `reused` counts, by space, the rows that were copied from
    an earlier store.
    """

    rows: int = 0
    dims: dict[str, int] = field(default_factory=dict)
    files: dict[str, FileRecord] = field(default_factory=dict)
    skipped: list[list[Any]] = field(default_factory=list)
    marked: list[list[Any]] = field(default_factory=list)
    truncated: dict[str, int] = field(default_factory=dict)
    content: str = ""
    reused: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """A store's description.

    Attributes
    ----------
    header : dict
        ``data``, ``encoders`` (one a space: name and fingerprint), ``settings``, ``layout``.
    shards : tuple of ShardRecord
        Empty until the store is complete.
    complete : bool
        Whether every shard is there.
    """

    header: dict[str, Any]
    shards: tuple[ShardRecord, ...] = ()
    complete: bool = False

    @property
    def space_names(self) -> tuple[str, ...]:
        """Names of the spaces, first the one the store itself stands for."""
        return tuple(encoder["name"] for encoder in self.header["encoders"])

    @property
    def n_views(self) -> int:
        """Augmented views cached beside every space."""
        return int(self.header["settings"]["n_views"])

    @property
    def dtype(self) -> str:
        """Type of the stored values."""
        return str(self.header["settings"]["dtype"])


def array_key(space: int, view: int | None = None) -> str:
    """Name of one array of a shard: the clean rows of a space, or one of its views."""
    return f"space{space}" + ("" if view is None else f".view{view}")


def array_keys(n_spaces: int, n_views: int) -> list[str]:
    """Every array a shard must hold, ids first."""
    views = [None, *range(n_views)]
    return ["ids", *(array_key(space, view) for space in range(n_spaces) for view in views)]


def shard_path(folder: str | os.PathLike[str], key: str, number: int) -> Path:
    """Path of one array of one shard; a key that is not one of ours is refused."""
    if not _KEY.fullmatch(key):
        raise CorruptShardError(f"array name {key!r} in {folder} is not one of a store: {REMEDY}")
    return safe_child(folder, f"{key}-{number:05d}.npy")


def marker_path(folder: str | os.PathLike[str], number: int) -> Path:
    """Path of a shard's completion mark."""
    return safe_child(folder, f"shard-{number:05d}.json")


def _with_digest(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "digest": stable_hash(body)}


def _checked(path: Path) -> dict[str, Any]:
    """Read JSON that carries its own digest, and refuse it when it was edited."""
    body = read_json(path)
    if not isinstance(body, dict) or body.pop("digest", None) != stable_hash(body):
        raise CorruptShardError(
            f"{path} does not match its own digest, so it was edited or damaged: {REMEDY}"
        )
    return body


def _shard_record(body: Any, path: Path) -> ShardRecord:
    try:
        return ShardRecord(
            rows=int(body["rows"]),
            dims={str(key): int(dim) for key, dim in body["dims"].items()},
            files={str(key): FileRecord(**record) for key, record in body["files"].items()},
            skipped=list(body["skipped"]),
            marked=list(body["marked"]),
            truncated={str(key): int(n) for key, n in body.get("truncated", {}).items()},
            content=str(body.get("content", "")),
            reused={str(key): int(n) for key, n in body.get("reused", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptShardError(f"{path} lacks or misstates {error}: {REMEDY}") from None


def write_marker(folder: Path, number: int, record: ShardRecord, header: dict[str, Any]) -> None:
    """Write a shard's completion mark: from here on the shard is whole."""
    body = {"header": stable_hash(header), **asdict(record)}
    write_json(marker_path(folder, number), _with_digest(body))


def read_marker(folder: Path, number: int, header: dict[str, Any]) -> ShardRecord | None:
    """Return a shard's record, or None.

    None means: no mark, a damaged one, one of a store made otherwise (shards of another length,
    say), or a file that has not the size in the mark.
    """
    path = marker_path(folder, number)
    try:
        body = _checked(path)
        record = _shard_record(body, path)
    except (FileNotFoundError, CorruptShardError):
        return None
    if body.get("header") != stable_hash(header):
        return None
    sizes_hold = all(
        _size(shard_path(folder, key, number)) == file.bytes for key, file in record.files.items()
    )
    return record if sizes_hold else None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, whole or not at all; equal content gives equal bytes."""
    body = {
        "schema": SCHEMA,
        "complete": manifest.complete,
        **manifest.header,
        "shards": [asdict(record) for record in manifest.shards],
    }
    write_json(folder / MANIFEST, _with_digest(body))


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """Read and check a manifest.

    Raises
    ------
    FileNotFoundError
        The folder is no store.
    CorruptShardError
        The manifest is not JSON, was edited, or is of a newer schema.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not an embedding store: it has no {MANIFEST}")
    body = _checked(path)
    schema = body.pop("schema", None)
    if not isinstance(schema, int) or schema > SCHEMA:
        raise CorruptShardError(
            f"{path} has schema {schema!r}, this version reads up to {SCHEMA}: upgrade fmcluster"
        )
    complete = bool(body.pop("complete", False))
    shards = tuple(_shard_record(shard, path) for shard in body.pop("shards", []))
    manifest = Manifest(header=body, shards=shards, complete=complete)
    try:
        known = bool(manifest.space_names) and manifest.dtype in DTYPES and manifest.n_views >= 0
    except (KeyError, TypeError, ValueError):
        known = False
    if not known:
        raise CorruptShardError(f"{path} names no spaces, dtype or views: {REMEDY}")
    return manifest


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, leaf) of nested dicts and lists of dicts."""
    if isinstance(value, Mapping):
        for key in value:
            yield from _flat(value[key], f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, (list, tuple)) and any(isinstance(part, Mapping) for part in value):
        for number, part in enumerate(value):
            yield from _flat(part, f"{prefix}[{number}]")
    else:
        yield prefix, list(value) if isinstance(value, tuple) else value


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """List the fields in which two headers differ, as ``field: stored X, asked Y``."""
    missing = "(nothing)"
    left = dict(_flat({key: stored.get(key) for key in COMPARED}))
    right = dict(_flat({key: asked.get(key) for key in COMPARED}))
    names = [*left, *(name for name in right if name not in left)]
    return [
        f"{name}: stored {left.get(name, missing)!r}, asked {right.get(name, missing)!r}"
        for name in names
        if left.get(name, missing) != right.get(name, missing)
    ]


def check_same(folder: Path, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise StoreMismatchError that shows the differing fields of two headers."""
    differing = differences(stored, asked)
    if differing:
        only_data = all(each.startswith("data.") for each in differing)
        hint = " (with reuse= this one, only new rows are encoded)" if only_data else ""
        raise StoreMismatchError(
            f"the store in {folder} was made otherwise ({'; '.join(differing)}): "
            f"use another folder{hint}, or delete this one"
        )


def damage(folder: Path, manifest: Manifest, *, checksums: bool) -> dict[int, str]:
    """Return shard number -> what is wrong with it, comparing files with a complete manifest.

    Parameters
    ----------
    folder : Path
        The store.
    manifest : Manifest
        A complete one.
    checksums : bool
        Read every byte and compare digests; otherwise only look whether sizes hold.
    """
    problems = {
        number: shard_damage(folder, manifest, number, record, checksums=checksums)
        for number, record in enumerate(manifest.shards)
    }
    return {number: problem for number, problem in problems.items() if problem}


def shard_damage(
    folder: Path, manifest: Manifest, number: int, record: ShardRecord, *, checksums: bool
) -> str | None:
    """Return what is wrong with one shard, or None."""
    expected = set(array_keys(len(manifest.space_names), manifest.n_views))
    if set(record.files) - {CONTENT} != expected:
        return f"shard {number} of {folder} lists other arrays than the manifest"
    for key, file in record.files.items():
        path = shard_path(folder, key, number)
        size = _size(path)
        if size < 0:
            return f"shard {path} is missing"
        if size != file.bytes:
            return f"shard {path} is {size} bytes, its record says {file.bytes}"
        if checksums and digest_file(path) != file.sha256:
            return f"shard {path} does not match its checksum"
    return None
