"""Embeddings made elsewhere: clip-retrieval folders and datasets, to and from a store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.ids import row_ids
from fmcluster.embedding.store.sharded import ShardedArray
from fmcluster.utils.errors import DataError
from fmcluster.utils.files import read_array

if TYPE_CHECKING:
    from datasets import Dataset

_KINDS = ("img_emb", "text_emb")
_REMEDY = "restore the file"


def _in_order(folder: Path, pattern: str) -> list[Path]:
    """List files by the number in their name, so that part 10 follows part 9."""

    def key(path: Path) -> list[Any]:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]

    return sorted(folder.glob(pattern), key=key)


def _files_of(folder: Path, kind: str) -> list[Path]:
    return _in_order(folder / kind, f"{kind}_*.npy") or _in_order(folder, f"{kind}_*.npy")


def open_npy_folder(
    folder: Path, id_column: str | None
) -> tuple[dict[str, ShardedArray], NDArray[Any] | None]:
    """Return the spaces of a folder of ``.npy`` files, mapped, and the ids of its metadata."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    found = {kind: files for kind in _KINDS if (files := _files_of(folder, kind))}
    if not found and (plain := _in_order(folder, "*.npy")):
        found = {"embedding": plain}
    if not found:
        raise DataError(
            f"{folder} holds no embeddings: expected img_emb/img_emb_*.npy, "
            "text_emb/text_emb_*.npy or *.npy files"
        )
    arrays = {name: _mapped(files) for name, files in found.items()}
    return arrays, None if id_column is None else _metadata_ids(folder, id_column)


def _mapped(files: list[Path]) -> ShardedArray:
    headers = [read_array(path, mmap=True) for path in files]
    for path, header in zip(files, headers, strict=True):
        if header.ndim != 2 or header.shape[1:] != headers[0].shape[1:]:
            raise DataError(
                f"{path} has shape {header.shape}, expected (rows, {headers[0].shape[-1]})"
            )
        if header.dtype != headers[0].dtype:
            raise DataError(f"{path} holds {header.dtype}, {files[0]} {headers[0].dtype}")
    rows = [header.shape[0] for header in headers]
    return ShardedArray(files, rows, headers[0].shape[1], headers[0].dtype, remedy=_REMEDY)


def _metadata_ids(folder: Path, column: str) -> NDArray[Any]:
    import pyarrow.parquet as pq

    files = _in_order(folder / "metadata", "metadata_*.parquet") or _in_order(
        folder.parent / "metadata", "metadata_*.parquet"
    )
    if not files:
        raise DataError(f"{folder} has no metadata/metadata_*.parquet to read {column!r} from")
    known = pq.read_schema(files[0]).names
    if column not in known:
        raise DataError(f"no column {column!r} in {files[0]}: it has {', '.join(known)}")
    parts = [pq.read_table(path, columns=[column])[column].to_pylist() for path in files]
    return row_ids([value for part in parts for value in part])


def dataset_of_store(store: Any) -> Dataset:
    """Return a Dataset over the store's own memory: ``id`` and one column of vectors a space."""
    import pyarrow as pa
    from datasets import Dataset

    table = {"id": pa.chunked_array([pa.array(store.ids)])}
    for name in store.spaces:
        array = store.space(name)
        if isinstance(array, ShardedArray):
            parts = [array.shard(number) for number in range(len(array.paths))]
        else:
            parts = [np.ascontiguousarray(array)]
        table[name] = pa.chunked_array([_vectors(part) for part in parts if len(part)])
    return Dataset(pa.table(table))


def _vectors(part: NDArray[Any]) -> Any:
    """Wrap (rows, d) as an Arrow array of fixed-size lists over the same memory."""
    import pyarrow as pa

    flat = np.asarray(part).reshape(-1)
    values = pa.Array.from_buffers(
        pa.from_numpy_dtype(flat.dtype), len(flat), [None, pa.py_buffer(flat)]
    )
    return pa.FixedSizeListArray.from_arrays(values, part.shape[1])
