"""Stores of the same rows written side by side: one store of all their spaces."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.embed import default_folder
from fmcluster.embedding.encoders.fitted import load_state, save_state
from fmcluster.embedding.store.manifest import MANIFEST, ShardRecord, array_key, read_manifest
from fmcluster.embedding.store.store import EmbeddingStore
from fmcluster.embedding.store.writer import finish, folder_of, prepare, write_shard
from fmcluster.utils.files import lock, stable_hash


def join_stores(
    stores: Sequence[EmbeddingStore],
    *,
    skipped: Mapping[Any, str],
    marked: Mapping[Any, str],
    folder: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> EmbeddingStore:
    """Write the spaces of stores with equal ids into one, shard by shard, or find it written.

    Parameters
    ----------
    stores : sequence of EmbeddingStore
        Stores on disk whose rows are the same, in one order; no space name twice.
    skipped, marked : mapping of id to reason
        Rows that are left out, and rows of which nothing is known.
    folder, cache_dir : path, optional
        Where the joined store is, as for `fmcluster.embedding.embed.embed_to_store`.
    """
    headers = [store.manifest.header for store in stores if store.manifest is not None]
    first = headers[0]
    header = {
        "data": {
            "fingerprint": stable_hash([each["data"]["fingerprint"] for each in headers]),
            "modality": "pair",
            "n_rows": first["data"]["n_rows"],
        },
        "encoders": [encoder for each in headers for encoder in each["encoders"]],
        "settings": {
            **first["settings"],
            **({"on_error": "skip"} if skipped else {}),
            "parts": [stable_hash(each["settings"]) for each in headers],
        },
        "layout": dict(first["layout"]),
        "info": {
            "column": [each["info"]["column"] for each in headers],
            "specs": [spec for each in headers for spec in each["info"]["specs"]],
        },
    }
    target = default_folder(header, cache_dir) if folder is None else folder_of(folder)
    target.mkdir(parents=True, exist_ok=True)
    with lock(target / ".lock"):
        _write(target, header, stores, skipped, marked)
    return EmbeddingStore.open(target)


def _write(
    target: Path,
    header: dict[str, Any],
    stores: Sequence[EmbeddingStore],
    skipped: Mapping[Any, str],
    marked: Mapping[Any, str],
) -> None:
    if (target / MANIFEST).is_file() and read_manifest(target).complete:
        prepare(target, header)  # refuses a store of other data
        return
    manifest = prepare(target, header)
    _copy_states(target, stores)
    size = manifest.header["layout"]["shard_rows"]
    ids = np.asarray(stores[0].ids)
    starts = range(0, len(ids), size)
    for number, start in enumerate(starts):
        own = ids[start : start + size].tolist()
        kept = np.array([row not in skipped for row in own], bool)
        rows = slice(start, start + size)
        arrays: dict[str, NDArray[Any]] = {"ids": ids[rows][kept]}
        space = 0
        for store in stores:
            for name in store.spaces:
                arrays[array_key(space)] = np.asarray(store.space(name)[rows])[kept]
                for view, values in enumerate(store.views(name)):
                    arrays[array_key(space, view)] = np.asarray(values[rows])[kept]
                space += 1
        about = ShardRecord(
            skipped=[[row, skipped[row]] for row in own if row in skipped],
            marked=[[row, marked[row]] for row in own if row in marked],
        )
        write_shard(target, manifest, number, arrays, about)
    finish(target, manifest, len(starts))


def _copy_states(target: Path, stores: Sequence[EmbeddingStore]) -> None:
    """Copy the states of encoders that were fitted on the data, by their new numbers."""
    offset = 0
    for store in stores:
        for number in range(len(store.spaces)):
            state = None if store.folder is None else load_state(store.folder, number)
            if state is not None:
                arrays = {k: v for k, v in state.items() if isinstance(v, np.ndarray)}
                rest = {k: v for k, v in state.items() if k not in arrays}
                save_state(target, offset + number, arrays, rest)
        offset += len(store.spaces)
