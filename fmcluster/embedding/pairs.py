"""Rows of two parts, a picture and its caption: a space for each under one id.

Each part is embedded by an encoder of its own into a store of the cache, as any data are; then the
two are written side by side. A row that lacks one part has zeros in that part's space. Joined rows
are of unit length, so the other part alone stands for it, with its whole weight.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.source import Block, Source
from fmcluster.embedding.data.values import is_blank, is_missing
from fmcluster.embedding.embed import default_folder, embed_to_store
from fmcluster.embedding.encoders import resolve
from fmcluster.embedding.encoders.base import Encoder
from fmcluster.embedding.encoders.fitted import is_fitted_on_data
from fmcluster.embedding.store.manifest import MANIFEST, array_key, read_manifest
from fmcluster.embedding.store.store import EmbeddingStore
from fmcluster.embedding.store.writer import finish, folder_of, prepare, write_shard
from fmcluster.utils.errors import DataError
from fmcluster.utils.files import lock, stable_hash
from fmcluster.utils.validation import check_in

PARTS = ("image", "text")
logger = logging.getLogger(__name__)


class Part(Source):
    """One column of the rows; where nothing is in it, the row is not unreadable but lacks it.

    Attributes
    ----------
    strict : bool
        Whether a part that is there and cannot be read is an error that names the row.
    """

    strict = True

    def __init__(
        self,
        data: Any,
        *,
        column: str,
        modality: str,
        split: str | None = None,
        n_rows: int | None = None,
        id_column: str | None = None,
    ) -> None:
        super().__init__(
            data, column=column, modality=modality, split=split, n_rows=n_rows, id_column=id_column
        )
        rows = self.reader.rows
        # An empty cell of a table is the text "": as a path it would name the data's own folder.
        self.reader = replace(
            self.reader,
            rows=lambda start: (None if lacks(row) else row for row in rows(start)),
        )

    def decode(
        self,
        raw: list[Any],
        start: int,
        *,
        on_error: str = "raise",
        pool: Executor | None = None,
    ) -> Block:
        """Turn raw rows into texts or images; None where one is missing."""
        block = super().decode(raw, start, on_error="mark", pool=pool)
        damaged = [at for at in sorted(block.problems) if not lacks(raw[at])]
        if damaged and self.strict:
            row, reason = block.ids[damaged[0]].item(), block.problems[damaged[0]]
            raise DataError(
                f"row {row!r}, column {self.column!r}: {reason}; pass on_error='mark' to go on "
                "without that part of it"
            )
        return block


def lacks(row: Any) -> bool:
    """Return whether nothing is in a part: a missing value or an empty text."""
    return is_missing(row) or is_blank(row)


def open_parts(
    data: Any,
    columns: Mapping[str, str],
    *,
    split: str | None = None,
    n_rows: int | None = None,
    id_column: str | None = None,
) -> dict[str, Part]:
    """Return the source of each part, the image first; arguments as of `Source`.

    Raises
    ------
    DataError
        The columns are no pair, or the data come only once (a stream).
    """
    if set(columns) != set(PARTS):
        raise DataError(
            f"column={dict(columns)!r} names no pair: give one column for 'image' and one for "
            "'text', as {'image': 'photo', 'text': 'caption'}"
        )
    parts = {
        part: Part(
            data,
            column=columns[part],
            modality=part,
            split=split,
            n_rows=n_rows,
            id_column=id_column,
        )
        for part in PARTS
    }
    if any(part.is_stream for part in parts.values()):
        raise DataError("pairs need data that can be read twice: save the stream first")
    return parts


class TextTower:
    """The text tower of a vision-language encoder, as an Encoder beside its image tower.

    Parameters
    ----------
    encoder : Encoder with ``encode_text(list) -> (n, d)``
    """

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder
        self.modality: str | None = "text"
        self.dim: int | None = encoder.dim
        self.spec: dict[str, Any] = {**encoder.spec, "modality": "text", "tower": "text"}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The encoder's own, of the other tower."""
        changed = {"preprocessing": "the model's tokenizer", "normalisation": "l2"}
        return {**self.encoder.fingerprint, **changed, "tower": "text"}

    def encode(self, rows: list[Any]) -> NDArray[np.float32]:
        """Return unit rows (n, d) float32 of texts."""
        values = np.asarray(self.encoder.encode_text(list(rows)), np.float32)
        self.dim = int(values.shape[1])
        return values


def encoders_of_parts(encoder: Any, run: Mapping[str, Any]) -> dict[str, Encoder]:
    """Return the encoder of each part.

    Parameters
    ----------
    encoder : mapping, str, object or None
        "image" and "text" -> what `resolve` takes; one vision-language encoder for both (its two
        towers); None for the default of each.
    run : mapping
        How to run them: `device`, `batch_size`, `precision` of `resolve`.

    Raises
    ------
    ValueError
        One encoder without a text tower, or one that is fitted on the data.
    """
    if encoder is None:
        encoder = dict.fromkeys(PARTS, "auto")
    if isinstance(encoder, Mapping) and set(encoder) == set(PARTS):
        found = {part: resolve(encoder[part], modality=part, **run) for part in PARTS}
    else:
        images = None if isinstance(encoder, (list, tuple)) else resolve(encoder, **run)
        if images is None or not hasattr(images, "encode_text"):
            raise ValueError(
                f"encoder={encoder!r} is not one of images and texts alike: name one for each part "
                "of the pairs, as {'image': 'facebook/dinov2-base', 'text': 'packaged:minilm'}"
            )
        found = {"image": images, "text": TextTower(images)}
    fitted = [part for part in PARTS if is_fitted_on_data(found[part])]
    if fitted:
        raise ValueError(
            f"the encoder of {fitted[0]!r} is fitted on the data: pairs take ready encoders only"
        )
    return found


def embed_pairs(
    parts: Mapping[str, Part],
    encoders: Mapping[str, Encoder],
    *,
    folder: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    on_error: str = "raise",
    settings: Mapping[str, Any] | None = None,
) -> EmbeddingStore:
    """Embed both parts of all rows and return one store of two spaces, "image" and "text".

    Parameters
    ----------
    parts : mapping
        "image" and "text" -> their sources, of one number of rows under one id.
    encoders : mapping
        "image" and "text" -> their encoders.
    folder : path, optional
        Where the joined store is; by default a folder of its own in the cache.
    cache_dir : path, optional
        Where the parts' own stores are.
    on_error : "raise" or "mark"
        What to do with a part that is there and cannot be read, and with a row of no part at all:
        stop and name it, or keep zeros. A part that is missing is no error.
    settings : mapping, optional
        More arguments of `fmcluster.embedding.embed.embed_to_store`.

    Raises
    ------
    DataError
        A damaged part, or a row of neither, under ``on_error="raise"``.
    """
    check_in(on_error, ("raise", "mark"), "on_error of pairs")
    stores = {}
    for name in PARTS:
        parts[name].strict = on_error == "raise"
        stores[name] = embed_to_store(
            parts[name],
            {name: encoders[name]},
            cache_dir=cache_dir,
            on_error="mark",
            **(settings or {}),
        )
    lost = {name: dict(store.unreadable("marked")) for name, store in stores.items()}
    neither = [row for row in lost["image"] if row in lost["text"]]
    if neither and on_error == "raise":
        raise DataError(
            f"{len(neither)} row(s) have neither image nor text, the first is {neither[0]!r}: "
            "leave them out, or pass on_error='mark' to keep them as zero rows"
        )
    for name, rows in lost.items():
        if rows:
            logger.warning(
                "%d of %d rows have no %s: the other part alone stands for them",
                len(rows), len(stores[name]), name,
            )  # fmt: skip
    marked = {row: f"{lost['image'][row]}; {lost['text'][row]}" for row in neither}
    store = _joined(stores, marked, folder=folder, cache_dir=cache_dir)
    store.source = parts["text"]
    return store


@contextmanager
def temporary_pairs(
    parts: Mapping[str, Part], encoders: Sequence[Encoder], *, on_error: str = "raise"
) -> Iterator[EmbeddingStore]:
    """Embed pairs into a store that lasts as long as the context; arguments as of `embed_pairs`.

    Raises
    ------
    DataError
        The encoders are not one of images and one of texts.
    """
    by_part = {str(encoder.modality): encoder for encoder in encoders}
    if set(by_part) != set(PARTS) or len(encoders) != len(PARTS):
        raise DataError(
            f"the encoders take {', '.join(str(each.modality) for each in encoders)}, and not an "
            "image and a text each row: column= names one column"
        )
    with TemporaryDirectory(prefix="fmcluster-pairs-") as folder:
        where = Path(folder)
        store = embed_pairs(
            parts, by_part, folder=where / "joined", cache_dir=where, on_error=on_error
        )
        try:
            yield store
        finally:
            store.close()


def _joined(
    stores: Mapping[str, EmbeddingStore],
    marked: Mapping[Any, str],
    *,
    folder: str | os.PathLike[str] | None,
    cache_dir: str | os.PathLike[str] | None,
) -> EmbeddingStore:
    """Write the spaces of both stores into one, shard by shard, or find it written."""
    manifests = [store.manifest for store in stores.values()]
    headers = [manifest.header for manifest in manifests if manifest is not None]
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
        _write(target, header, list(stores.values()), marked)
    return EmbeddingStore.open(target)


def _write(
    target: Path, header: dict[str, Any], stores: list[EmbeddingStore], marked: Mapping[Any, str]
) -> None:
    if (target / MANIFEST).is_file() and read_manifest(target).complete:
        prepare(target, header)  # refuses a store of other data
        return
    manifest = prepare(target, header)
    size = manifest.header["layout"]["shard_rows"]
    ids = stores[0].ids
    starts = range(0, len(ids), size)
    for number, start in enumerate(starts):
        rows = slice(start, start + size)
        arrays: dict[str, NDArray[Any]] = {"ids": np.asarray(ids[rows])}
        for space, store in enumerate(stores):
            arrays[array_key(space)] = np.asarray(store.space()[rows])
            for view, values in enumerate(store.views()):
                arrays[array_key(space, view)] = np.asarray(values[rows])
        here = [[row, marked[row]] for row in ids[rows].tolist() if row in marked]
        write_shard(target, manifest, number, arrays, skipped=[], marked=here)
    finish(target, manifest, len(starts))
