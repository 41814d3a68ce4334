"""EmbeddingStore: embeddings with row ids, in memory or as a folder of memory-mapped shards.

A store holds one or several *spaces* (embeddings of the same rows by different encoders), and for
each space the cached embeddings of augmented inputs, its *views*. ``store.shape`` and
``store[rows]`` speak of its first space; ``np.asarray(store)`` is for a store of one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fmcluster.embedding.store.manifest import (
    DTYPES,
    REMEDY,
    Manifest,
    ShardRecord,
    array_key,
    damage,
    read_manifest,
    shard_path,
)
from fmcluster.embedding.store.sharded import ShardedArray
from fmcluster.embedding.store.writer import (
    as_ids,
    as_matrix,
    cast,
    finish,
    folder_of,
    load_ids,
    prepare,
    write_shard,
)
from fmcluster.utils.errors import CorruptShardError
from fmcluster.utils.files import digest_bytes, lock, stable_hash
from fmcluster.utils.validation import check_finite_rows, check_in

if TYPE_CHECKING:
    from datasets import Dataset

# Rows checked, hashed or saved at once: 64 thousand rows of 768 floats are 200 MB.
_BLOCK = 65_536
DEFAULT_SPACE = "embedding"


class EmbeddingStore:
    """Embeddings of n rows under stable ids.

    Made by :meth:`open`, :meth:`from_array`, :meth:`from_npy_folder`, :meth:`from_dataset` and
    by ``fmcluster.embed``, not by its constructor.

    Attributes
    ----------
    ids : ndarray (n,)
        int64 or strings, unique; row number in the data unless the data had ids of its own.
    spaces : tuple of str
        Names of the spaces.
    skipped_ids, bad_ids : list
        Ids of rows left out of the store (``on_error="skip"``), and of rows kept as zero rows
        because they could not be read (``on_error="mark"``).
    folder : Path or None
        None for a store in memory.
    """

    ndim = 2

    def __init__(
        self,
        arrays: Mapping[str, Any],
        *,
        ids: NDArray[Any] | None = None,
        views: Mapping[str, Sequence[Any]] | None = None,
        manifest: Manifest | None = None,
        folder: Path | None = None,
    ) -> None:
        self._arrays = dict(arrays)
        self._views = {name: list((views or {}).get(name, ())) for name in self._arrays}
        self._ids = ids
        self.manifest = manifest
        self.folder = folder
        # The raw rows, where this process still has them: for names and examples, never saved.
        self.source: Any = None

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> EmbeddingStore:
        """Open a finished store; nothing but its manifest is read until rows are asked for.

        Raises
        ------
        FileNotFoundError
            The folder is no store.
        CorruptShardError
            The store is unfinished or its manifest was edited, or a shard is missing or has not
            its size. Bytes changed in place are found by :meth:`verify`.
        """
        path = folder_of(folder)
        manifest = read_manifest(path)
        if not manifest.complete:
            raise CorruptShardError(
                f"the store in {path} is unfinished: run the embedding that makes it again, "
                "it goes on where it stopped"
            )
        _raise_damage(damage(path, manifest, checksums=False))

        def sharded(space: int, view: int | None = None) -> ShardedArray:
            key = array_key(space, view)
            return ShardedArray(
                [shard_path(path, key, number) for number in range(len(manifest.shards))],
                [record.rows for record in manifest.shards],
                manifest.shards[0].dims[key],
                manifest.dtype,
                remedy=REMEDY,
            )

        names = list(enumerate(manifest.space_names))
        return cls(
            {name: sharded(space) for space, name in names},
            views={name: [sharded(s, v) for v in range(manifest.n_views)] for s, name in names},
            manifest=manifest,
            folder=path,
        )

    @classmethod
    def from_array(
        cls, X: ArrayLike | Mapping[str, ArrayLike], ids: ArrayLike | None = None
    ) -> EmbeddingStore:
        """Wrap an (n, d) array, a memory map, or a mapping of space names to such arrays.

        Arrays of float16, float32 and float64 are not copied.

        Raises
        ------
        ValueError, TypeError
            Not 2-D, not numeric, empty, of differing row counts, or with NaN or infinite rows
            (named by id).
        DataError
            Ids of another length, or repeated.
        """
        given = X if isinstance(X, Mapping) else {DEFAULT_SPACE: X}
        if not given:
            raise ValueError("no spaces were given: pass at least one (n, d) array")
        arrays = {str(name): as_matrix(array, str(name)) for name, array in given.items()}
        counts = {name: array.shape[0] for name, array in arrays.items()}
        if len(set(counts.values())) > 1:
            raise ValueError(f"spaces hold differing numbers of rows: {counts}")
        row_ids = as_ids(ids, next(iter(counts.values())))
        for name, array in arrays.items():
            for start in range(0, array.shape[0], _BLOCK):
                rows = slice(start, start + _BLOCK)
                check_finite_rows(np.asarray(array[rows]), name=name, ids=row_ids[rows])
        return cls(arrays, ids=row_ids)

    @classmethod
    def from_npy_folder(
        cls, folder: str | os.PathLike[str], *, id_column: str | None = None
    ) -> EmbeddingStore:
        """Open a folder of ``.npy`` files of the clip-retrieval layout, without a copy.

        Parameters
        ----------
        folder : path
            Holds ``img_emb/img_emb_*.npy`` and/or ``text_emb/text_emb_*.npy`` (two spaces under
            the same rows), or such files themselves, or any ``*.npy`` files of (rows, d).
        id_column : str, optional
            Column of ``metadata/metadata_*.parquet`` that holds the row ids, such as
            ``image_path``; by default rows are counted from 0.
        """
        from fmcluster.embedding.store.interop import open_npy_folder

        arrays, ids = open_npy_folder(folder_of(folder), id_column)
        return cls.from_array(arrays, ids)

    @classmethod
    def from_dataset(
        cls, ds: Dataset, column: str, *, id_column: str | None = None
    ) -> EmbeddingStore:
        """Take a column of vectors of a ``datasets.Dataset``."""
        from fmcluster.embedding.data.arrow import vectors_of_dataset

        ids = None if id_column is None else list(ds[id_column][:])
        return cls.from_array({column: vectors_of_dataset(ds, column)}, ids)

    @property
    def spaces(self) -> tuple[str, ...]:
        """Names of the spaces."""
        return tuple(self._arrays)

    def space(self, name: str | None = None) -> Any:
        """Return a space (n, d): an array, or a :class:`ShardedArray` that indexes like one."""
        return self._arrays[self._known(name)]

    def views(self, name: str | None = None) -> list[Any]:
        """Return the cached augmented views of a space, each (n, d); maybe none."""
        return list(self._views[self._known(name)])

    def _known(self, name: str | None) -> str:
        return self.spaces[0] if name is None else check_in(name, self.spaces, "space")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the first space."""
        return tuple(self.space().shape)  # type: ignore[return-value]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the first space's values."""
        return self.space().dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if len(self.spaces) > 1:
            raise TypeError(
                f"a store of {len(self.spaces)} spaces ({', '.join(self.spaces)}) is not one array:"
                " take store.space(name), or give the store itself, whose rows are joined"
            )
        array = np.asarray(self.space(), dtype=dtype)
        return array.copy() if copy and array is self.space() else array

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self.space()[key])

    def __repr__(self) -> str:
        spaces = ", ".join(f"{name}: {self.space(name).shape[1]}" for name in self.spaces)
        views = len(self.views())
        return (
            f"EmbeddingStore({len(self):,} rows, {spaces}, {self.dtype}"
            + (f", {views} views" if views else "")
            + (f", in {self.folder}" if self.folder else "")
            + ")"
        )

    @property
    def ids(self) -> NDArray[Any]:
        """Row ids (n,)."""
        if self._ids is None:
            assert self.folder is not None and self.manifest is not None
            self._ids = load_ids(self.folder, self.manifest.shards, remedy=REMEDY)
        return self._ids

    @property
    def skipped_ids(self) -> list[Any]:
        """Ids of rows that could not be read and are not in the store."""
        return [row[0] for row in self.unreadable("skipped")]

    @property
    def bad_ids(self) -> list[Any]:
        """Ids of rows that could not be read and are zero rows in the store."""
        return [row[0] for row in self.unreadable("marked")]

    def unreadable(self, kind: str) -> list[list[Any]]:
        """Return [id, reason] of the rows that were "skipped" or "marked"."""
        shards = self.manifest.shards if self.manifest else ()
        return [row for record in shards for row in getattr(record, kind)]

    @property
    def truncated(self) -> dict[str, int]:
        """Texts that were longer than an encoder's token limit and were cut, by space."""
        return self._counted("truncated")

    @property
    def reused(self) -> dict[str, int]:
        """Rows that were copied from an earlier store rather than encoded, by space."""
        return self._counted("reused")

    @property
    def n_reused(self) -> int:
        """Rows that were copied from an earlier store, in the space that has most of them."""
        return max(self.reused.values(), default=0)

    def _counted(self, what: str) -> dict[str, int]:
        counts = [getattr(record, what) for record in self.manifest.shards] if self.manifest else []
        names = enumerate(self.spaces)
        total = {name: sum(one.get(array_key(i), 0) for one in counts) for i, name in names}
        return {name: count for name, count in total.items() if count}

    @property
    def readable(self) -> NDArray[np.bool_]:
        """Mask (n,) of the rows that were really embedded: False for those in `bad_ids`."""
        bad = self.bad_ids
        return ~np.isin(self.ids, bad) if bad else np.ones(len(self), dtype=bool)

    @property
    def encoders(self) -> dict[str, dict[str, Any]]:
        """Fingerprint of the encoder of each space; empty for a store made from arrays."""
        if self.manifest is None:
            return {}
        return {e["name"]: e["fingerprint"] for e in self.manifest.header["encoders"]}

    @cached_property
    def fingerprint(self) -> str:
        """Digest of data, encoders and settings, or of the values of a store in memory."""
        if self.manifest is not None:
            return stable_hash(self.manifest.header)
        parts = [digest_bytes(np.ascontiguousarray(self.ids).tobytes())]
        for name in self.spaces:
            array = self.space(name)
            parts += [name, str(array.dtype), str(array.shape)]
            for start in range(0, len(self), _BLOCK):
                block = np.ascontiguousarray(array[start : start + _BLOCK])
                parts.append(digest_bytes(block.tobytes()))
        return stable_hash(parts)

    def verify(self) -> None:
        """Read every shard and compare its checksum.

        Raises
        ------
        CorruptShardError
            Names the first damaged file, how many shards are damaged, and the remedy.
        """
        if self.folder is not None:
            _raise_damage(damage(self.folder, read_manifest(self.folder), checksums=True))

    def save(
        self, folder: str | os.PathLike[str], *, dtype: str | None = None, shard_rows: int = _BLOCK
    ) -> EmbeddingStore:
        """Write the store to a folder of its own and open it from there.

        Parameters
        ----------
        folder : path
            New, empty, or holding this very store.
        dtype : "float16" or "float32", optional
            By default that of the first space, float64 becoming float32.
        shard_rows : int
            Rows of a shard.
        """
        target = folder_of(folder)
        if dtype is None:
            dtype = "float16" if self.dtype == np.float16 else "float32"
        check_in(dtype, DTYPES, "dtype")
        known = self.encoders
        header = {
            "data": {"fingerprint": self.fingerprint, "n_rows": len(self)},
            "encoders": [{"name": n, "fingerprint": known.get(n, {})} for n in self.spaces],
            "settings": {"dtype": dtype, "n_views": len(self.views())},
            "layout": {"shard_rows": int(shard_rows)},
        }
        with lock(target / ".lock"):
            self._write(target, header, dtype)
        return type(self).open(target)

    def _write(self, target: Path, header: dict[str, Any], dtype: str) -> None:
        """Write the shards and the manifest; the caller holds the folder's lock."""
        manifest = prepare(target, header)
        if not manifest.complete:
            shard_rows = manifest.header["layout"]["shard_rows"]
            starts = range(0, len(self), shard_rows)
            for number, start in enumerate(starts):
                rows = slice(start, start + shard_rows)
                marked = [row for row in self.unreadable("marked") if row[0] in self.ids[rows]]
                arrays = self._rows_of_shard(rows, dtype)
                write_shard(target, manifest, number, arrays, ShardRecord(marked=marked))
            finish(target, manifest, len(starts))

    def _rows_of_shard(self, rows: slice, dtype: str) -> dict[str, NDArray[Any]]:
        arrays = {"ids": self.ids[rows]}
        for number, name in enumerate(self.spaces):
            arrays[array_key(number)] = cast(self.space(name)[rows], dtype, self.ids[rows])
            for view, array in enumerate(self.views(name)):
                arrays[array_key(number, view)] = cast(array[rows], dtype, self.ids[rows])
        return arrays

    def to_dataset(self) -> Dataset:
        """Return a ``datasets.Dataset`` of columns ``id`` and one a space, sharing the memory.

        Vectors are fixed-size lists over the store's own maps or array: no value is copied.
        """
        from fmcluster.embedding.store.interop import dataset_of_store

        return dataset_of_store(self)

    def close(self) -> None:
        """Let go of the memory maps; reading opens them again."""
        for array in (*self._arrays.values(), *(v for vs in self._views.values() for v in vs)):
            if isinstance(array, ShardedArray):
                array.close()


def _raise_damage(damaged: Mapping[int, str]) -> None:
    if damaged:
        first = next(iter(damaged.values()))
        more = f" ({len(damaged)} shards are damaged)" if len(damaged) > 1 else ""
        raise CorruptShardError(f"{first}{more}: {REMEDY}")
