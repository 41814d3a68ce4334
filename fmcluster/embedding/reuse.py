"""Rows that an earlier store holds are copied, not encoded: data that grew, shrank or moved.

A store keeps a digest of what its encoders saw of each row: the text, RGB pixels or samples.
A later store whose encoder has the same fingerprint looks its rows up by that digest, whatever
their order and ids. Only finished stores are read, and only shards that match their checksums.

An embedding here depends on its own row and encoder alone, up to the rounding of a product of
matrices of another height. So these are never copied: spaces of encoders that are fitted on the
data (every row moves them), of encoders whose fingerprint does not cover them, and augmented views
(their random stream is that of the row number).
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.audio import Sound
from fmcluster.embedding.encoders.base import Encoder
from fmcluster.embedding.encoders.fitted import is_fitted_on_data
from fmcluster.embedding.store.manifest import (
    CONTENT,
    MANIFEST,
    REMEDY,
    Manifest,
    array_key,
    read_manifest,
    shard_path,
)
from fmcluster.embedding.store.sharded import map_shard
from fmcluster.utils.errors import CorruptShardError
from fmcluster.utils.files import digest_file, stable_hash

# 128 bits: among 10^9 rows two different ones agree with a chance of 10^-21.
DIGEST_BYTES = 16
# Pixels of an image digested at once: 768 KiB of RGB.
_STRIP_PIXELS = 2**18
# Stores of a cache that are looked at, newest first: a manifest of a large store takes 10 ms.
MOST_STORES = 64
# Stores that rows are taken from: their digests are held in memory, 16 bytes a row.
MOST_SOURCES = 8


def digests_of(rows: Sequence[Any]) -> NDArray[np.uint8]:
    """Return a digest (m, 16) of each decoded row: text, RGB image, `Sound`; zeros for None."""
    out = np.zeros((len(rows), DIGEST_BYTES), np.uint8)
    for place, row in enumerate(rows):
        if row is not None:
            out[place] = np.frombuffer(_digest(row), np.uint8)
    return out


def _digest(row: Any) -> bytes:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    if isinstance(row, str):
        digest.update(b"text" + row.encode("utf-8", "surrogatepass"))
    elif isinstance(row, Sound):
        digest.update(f"sound{row.rate}".encode())
        digest.update(row.samples.tobytes())
    else:
        digest.update(f"image{row.mode}{row.size}".encode())
        # By strips: whole, a photograph would lie in memory three times.
        height = max(1, _STRIP_PIXELS // max(row.width, 1))
        for top in range(0, row.height, height):
            strip = (0, top, row.width, min(top + height, row.height))
            digest.update(row.crop(strip).tobytes())
    return digest.digest()


@dataclass(frozen=True)
class _Shard:
    """A shard of an earlier store: where one space of it lies, and its checksums."""

    rows: int
    dim: int
    dtype: str
    path: Path
    sha256: str
    content: Path
    content_sha256: str


@dataclass
class Known:
    """Embeddings of one encoder by the content of their rows.

    Attributes
    ----------
    shards : list
        Where they lie; the first that holds a content gives it.
    """

    shards: list[_Shard] = field(default_factory=list)

    def __getstate__(self) -> dict[str, Any]:
        # A worker process reads for itself.
        return {"shards": self.shards}

    @cached_property
    def _index(self) -> tuple[NDArray[np.bytes_], NDArray[np.int64], NDArray[np.int64]]:
        """Distinct digests in order, and the shard and row of each."""
        parts, shards, rows = [np.empty(0, f"S{DIGEST_BYTES}")], [], []
        for number, shard in enumerate(self.shards):
            shape = (shard.rows, DIGEST_BYTES)
            found = _mapped(shard.content, shard.content_sha256, shape, "uint8")
            if found is not None:
                parts.append(_keys(found))
                shards.append(np.full(shard.rows, number))
                rows.append(np.arange(shard.rows))
        keys, first = np.unique(np.concatenate(parts), return_index=True)
        none = np.empty(0, np.int64)
        return keys, np.concatenate([none, *shards])[first], np.concatenate([none, *rows])[first]

    @cached_property
    def _sound(self) -> dict[int, NDArray[Any] | None]:
        return {}

    def _values(self, number: int) -> NDArray[Any] | None:
        """Return a shard's rows, mapped; None where it does not match its checksum."""
        if number not in self._sound:
            shard = self.shards[number]
            shape = (shard.rows, shard.dim)
            self._sound[number] = _mapped(shard.path, shard.sha256, shape, shard.dtype)
        return self._sound[number]

    def find(self, digests: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[Any] | None]:
        """Return which rows are known (m,), and the embeddings of those, in their order."""
        found = np.zeros(len(digests), bool)
        keys, shard_of, row_of = self._index
        if not len(keys) or not len(digests):
            return found, None
        asked = _keys(digests)
        place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
        there = (keys[place] == asked) & digests.any(axis=1)  # zeros: a row nobody could read
        values: NDArray[Any] | None = None
        for number in np.unique(shard_of[place[there]]):
            mapped = self._values(int(number))
            if mapped is None:
                continue
            mine = np.flatnonzero(there & (shard_of[place] == number))
            if values is None:
                values = np.empty((len(digests), mapped.shape[1]), mapped.dtype)
            values[mine] = mapped[row_of[place[mine]]]
            found[mine] = True
        return found, None if values is None else values[found]


def _mapped(path: Path, sha256: str, shape: tuple[int, int], dtype: str) -> NDArray[Any] | None:
    """Map a file; None where it is gone or damaged meanwhile: its rows are encoded."""
    try:
        if digest_file(path) == sha256:
            return map_shard(path, shape, dtype, remedy=REMEDY)
    except (OSError, CorruptShardError):
        pass
    return None


def _keys(digests: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    return np.ascontiguousarray(digests).view(f"S{DIGEST_BYTES}").reshape(-1)


def known_rows(
    header: dict[str, Any],
    encoders: Sequence[Encoder],
    *,
    target: Path,
    cache: Path | None,
    given: Iterable[Path] = (),
) -> list[Known | None]:
    """Find what earlier stores hold of each space of a store to be made.

    Parameters
    ----------
    header : dict
        Of the store to be made.
    encoders : sequence of Encoder
        One a space.
    target : Path
        The store to be made; it is no source of its own.
    cache : Path, optional
        Folder of stores of which the newest are looked at.
    given : paths
        Stores to be looked at first, whatever their age.

    Returns
    -------
    list
        One entry a space: None where it may not be copied, or where nothing is known.

    Raises
    ------
    FileNotFoundError, CorruptShardError
        One of `given` is no finished store.
    """
    names = [stable_hash(each["fingerprint"]) for each in header["encoders"]]
    open_to = [
        not is_fitted_on_data(encoder) and not getattr(encoder, "uncovered", ())
        for encoder in encoders
    ]
    found: list[list[_Shard]] = [[] for _ in names]
    if not any(open_to):
        return [None] * len(names)
    for folder, manifest in _manifests(target, cache, given):
        if manifest.dtype != header["settings"]["dtype"]:
            continue
        theirs = [stable_hash(each["fingerprint"]) for each in manifest.header["encoders"]]
        for space, name in enumerate(names):
            if open_to[space] and name in theirs:
                found[space] += _shards(folder, manifest, theirs.index(name))
    return [Known(shards) if shards else None for shards in found]


def _manifests(
    target: Path, cache: Path | None, given: Iterable[Path]
) -> Iterator[tuple[Path, Manifest]]:
    """Yield the finished stores to look at: those given, then the newest of the cache."""
    for folder in given:
        manifest = read_manifest(folder)
        if not manifest.complete:
            raise CorruptShardError(f"the store in {folder} is unfinished: reuse= takes whole ones")
        yield folder, manifest
    if cache is not None:
        others = (each for each in _finished(cache) if each[0] != target)
        yield from itertools.islice(others, MOST_SOURCES)


def find_store(cache: Path, fingerprint: str) -> Path | None:
    """Return the folder of the cache's store of this fingerprint, if it is among the newest."""
    for folder, manifest in _finished(cache):
        if stable_hash(manifest.header) == fingerprint:
            return folder
    return None


def _finished(cache: Path) -> Iterator[tuple[Path, Manifest]]:
    """Yield the newest finished stores below a folder that are this user's own."""
    dated = []
    for path in cache.glob(f"*/{MANIFEST}"):
        try:
            about = path.stat()
        except OSError:
            continue
        # Another user's store in a shared folder is that user's word.
        if not hasattr(os, "getuid") or about.st_uid == os.getuid():
            dated.append((about.st_mtime_ns, path.parent))
    for _, folder in sorted(dated, reverse=True)[:MOST_STORES]:
        try:
            manifest = read_manifest(folder)
        except (OSError, CorruptShardError):
            continue
        if manifest.complete:
            yield folder, manifest


def _shards(folder: Path, manifest: Manifest, space: int) -> list[_Shard]:
    key = array_key(space)
    return [
        _Shard(
            rows=record.rows,
            dim=record.dims[key],
            dtype=manifest.dtype,
            path=shard_path(folder, key, number),
            sha256=record.files[key].sha256,
            content=shard_path(folder, CONTENT, number),
            content_sha256=record.files[CONTENT].sha256,
        )
        for number, record in enumerate(manifest.shards)
        if record.rows and CONTENT in record.files and key in record.files
    ]
