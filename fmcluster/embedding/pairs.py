"""Rows of several parts, a picture and its caption: spaces for each part under one id.

Each part is embedded by an encoder of its own (or several) into a store of the cache, as any data
are; then the spaces of all are written side by side. A row that lacks one part has zeros in that
part's spaces. Joined rows are of unit length, so the other part alone stands for it, with its whole
weight.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fmcluster.embedding.data.columns import choose_split, is_hf
from fmcluster.embedding.data.media import MEDIA
from fmcluster.embedding.data.same_rows import SameRows
from fmcluster.embedding.data.source import ON_ERROR, Block, Source
from fmcluster.embedding.data.values import NOTHING, is_blank, is_missing
from fmcluster.embedding.embed import embed_to_store, name_spaces
from fmcluster.embedding.encoders import resolve
from fmcluster.embedding.encoders.base import Encoder
from fmcluster.embedding.encoders.texts.tower import TextTower
from fmcluster.embedding.join import join_stores
from fmcluster.embedding.store.store import EmbeddingStore
from fmcluster.utils.errors import DataError
from fmcluster.utils.validation import check_in

# What a row can be made of; the spaces come in this order.
PARTS = (*MEDIA, "text")
logger = logging.getLogger(__name__)


class Part(Source):
    """One column of the rows; where nothing is in it, the row is not unreadable but lacks it.

    Attributes
    ----------
    strict : bool
        Whether a part that is there and cannot be read is an error that names the row.
    parts : dict or None
        All parts of the rows, where this one stands for them (`open_rows`).
    """

    strict = True
    parts: dict[str, Part] | None = None
    _stream: SameRows | None = None

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
        self._read_by(self.reader.rows)

    def _read_by(self, rows: Callable[[int], Iterator[Any]]) -> None:
        # An empty cell of a table is the text "": as a path it would name the data's own folder.
        self.reader = replace(
            self.reader, rows=lambda start: (None if lacks(row) else row for row in rows(start))
        )

    def read_with(self, stream: SameRows) -> None:
        """Read from a stream that sees to it that all parts are of the same rows."""
        column = str(self.column)
        self._stream = stream
        self._read_by(lambda start: stream.rows(column, start))

    def check_same_rows(self) -> None:
        """Raise DataError where the parts of a stream were read from other rows."""
        if self._stream is not None:
            self._stream.check()

    def decode(
        self,
        raw: list[Any],
        start: int,
        *,
        on_error: str = "raise",
        pool: Executor | None = None,
    ) -> Block:
        """Turn raw rows into what is encoded; None where one is missing."""
        block = super().decode(raw, start, on_error="mark", pool=pool)
        damaged = [at for at in sorted(block.problems) if not lacks(raw[at])]
        if damaged and self.strict:
            raise self.refusal(block.ids[damaged[0]].item(), block.problems[damaged[0]])
        return block

    def refusal(self, row: Any, reason: str) -> DataError:
        """Return the error that names a row whose part is damaged."""
        return DataError(
            f"row {row!r}, column {self.column!r}: {reason}; pass on_error='mark' to go on "
            "without that part of it, or 'skip' to leave the row out"
        )


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
    """Return the source of each part, in the order of `PARTS`; arguments as of `Source`.

    A stream is read once for each part; that it gives the same rows each time is held by
    `Part.check_same_rows`.

    Raises
    ------
    DataError
        The columns are no pair.
    """
    if len(columns) < 2 or not set(columns) <= set(PARTS):
        raise DataError(
            f"column={dict(columns)!r} names no pair: give one column for each of two of "
            f"{', '.join(map(repr, PARTS))}, as {{'image': 'photo', 'text': 'caption'}}"
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
        if part in columns
    }
    if is_hf(data) and any(part.is_stream for part in parts.values()):
        stream = SameRows(choose_split(data, split), list(columns.values()))
        for part in parts.values():
            part.read_with(stream)
    return parts


def open_rows(
    data: Any,
    *,
    column: str | Mapping[str, str] | None = None,
    id_column: str | None = None,
    modality: str | None = None,
) -> Source:
    """Return the source of raw rows; of rows of several parts that of the text, if there is one.

    Its `parts` has the others then. Arguments as of `Source`; `column` may be a mapping.
    """
    if isinstance(data, Source):
        return data
    if not isinstance(column, Mapping):
        return Source(data, column=column, id_column=id_column, modality=modality)
    return lead_of(open_parts(data, column, id_column=id_column))


def lead_of(parts: dict[str, Part]) -> Part:
    """Return the part that stands for the rows where one is shown: the text, else the first."""
    lead = parts.get("text") or next(iter(parts.values()))
    lead.parts, lead.strict = parts, False
    return lead


def encoders_of_parts(
    encoder: Any, run: Mapping[str, Any], *, parts: Sequence[str] = ("image", "text")
) -> dict[str, list[Encoder]]:
    """Return the encoders of each part.

    Parameters
    ----------
    encoder : mapping, str, object or None
        Part -> what `resolve` takes, or a list of these; one vision-language encoder for images
        and texts (its two towers); None for the default of each.
    run : mapping
        How to run them: `device`, `batch_size`, `precision` of `resolve`.
    parts : sequence of str
        The parts that there are.

    Raises
    ------
    ValueError
        A part has no encoder, or there is one for a part that is not there.
    """
    if encoder is None:
        encoder = dict.fromkeys(parts, "auto")
    if isinstance(encoder, Mapping) and set(encoder) <= set(PARTS):
        if set(encoder) != set(parts):
            raise ValueError(
                f"encoder={encoder!r} names {', '.join(encoder) or 'nothing'}, the parts of the "
                f"rows are {', '.join(parts)}: give an encoder for each"
            )
        return {part: _resolved(encoder[part], part, run) for part in parts}
    both = None if isinstance(encoder, (list, tuple)) else resolve(encoder, **run)
    if both is None or not hasattr(both, "encode_text") or set(parts) != {"image", "text"}:
        raise ValueError(
            f"encoder={encoder!r} is not one of images and texts alike: name one for each part "
            "of the pairs, as {'image': 'facebook/dinov2-base', 'text': 'packaged:minilm'}"
        )
    return {"image": [both], "text": [TextTower(both)]}


def _resolved(given: Any, part: str, run: Mapping[str, Any]) -> list[Encoder]:
    each = list(given) if isinstance(given, (list, tuple)) else [given]
    if not each:
        raise ValueError(f"no encoder was given for {part!r}: name at least one")
    return [resolve(one, modality=part, **run) for one in each]


def _named(part: str, encoders: Sequence[Encoder]) -> dict[str, Encoder]:
    """Return the spaces of a part by name: the part's own, or with the encoder's where several."""
    if len(encoders) == 1:
        return {part: encoders[0]}
    named = name_spaces(list(encoders), part)
    return {f"{part}:{name}": encoder for name, encoder in named.items()}


def embed_pairs(
    parts: Mapping[str, Part],
    encoders: Mapping[str, Sequence[Encoder]],
    *,
    folder: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    on_error: str = "raise",
    settings: Mapping[str, Any] | None = None,
) -> EmbeddingStore:
    """Embed all parts of all rows and return one store, a space a part and encoder.

    Parameters
    ----------
    parts : mapping
        "image", "audio", "text" -> their sources, of one number of rows under one id.
    encoders : mapping
        The same keys -> their encoders. A space is called by its part, where a part has several
        encoders by these, too (``text:tfidf``).
    folder : path, optional
        Where the joined store is; by default a folder of its own in the cache.
    cache_dir : path, optional
        Where the parts' own stores are.
    on_error : "raise", "skip" or "mark"
        What to do with a row of which a part is there and cannot be read, or that has no part at
        all: stop and name it; leave the row out; or go on without the part, with zeros in its
        place. A part that is missing is no error.
    settings : mapping, optional
        More arguments of `fmcluster.embedding.embed.embed_to_store`.

    Raises
    ------
    DataError
        A damaged part, or a row of none, under ``on_error="raise"``; a stream that gave other rows
        for one part than for another.
    """
    check_in(on_error, ON_ERROR, "on_error")
    stores = {}
    for name, part in parts.items():
        part.strict = on_error == "raise"
        stores[name] = embed_to_store(
            part,
            _named(name, encoders[name]),
            cache_dir=cache_dir,
            on_error="mark",
            **(settings or {}),
        )
    for part in parts.values():
        part.check_same_rows()
    lost = {name: dict(store.unreadable("marked")) for name, store in stores.items()}
    damaged = {
        name: {i: r for i, r in rows.items() if r not in NOTHING} for name, rows in lost.items()
    }
    if on_error == "raise":  # of a store that is there nothing was decoded now
        for name, rows in damaged.items():
            for row, reason in rows.items():
                raise parts[name].refusal(row, reason)
    nothing = _of_all(lost)
    if nothing and on_error == "raise":
        raise DataError(
            f"{len(nothing)} row(s) have neither {' nor '.join(parts)}, the first is "
            f"{next(iter(nothing))!r}: leave them out, pass on_error='skip', or 'mark' to keep "
            "them as zero rows"
        )
    for name, rows in lost.items():
        if rows:
            logger.warning(
                "%d of %d rows have no %s: the other part alone stands for them",
                len(rows), len(stores[name]), name,
            )  # fmt: skip
    skipped = {row: reason for rows in damaged.values() for row, reason in rows.items()}
    store = join_stores(
        list(stores.values()),
        skipped={**nothing, **skipped} if on_error == "skip" else {},
        marked=nothing if on_error == "mark" else {},
        folder=folder,
        cache_dir=cache_dir,
    )
    store.source = lead_of(dict(parts))
    return store


def _of_all(lost: Mapping[str, Mapping[Any, str]]) -> dict[Any, str]:
    """Return the rows that are lost in every part, with the reasons of all."""
    first, *others = lost.values()
    rows = [row for row in first if all(row in other for other in others)]
    return {row: "; ".join(part[row] for part in lost.values()) for row in rows}


@contextmanager
def temporary_pairs(
    parts: Mapping[str, Part], encoders: Sequence[Encoder], *, on_error: str = "raise"
) -> Iterator[EmbeddingStore]:
    """Embed pairs into a store that lasts as long as the context; arguments as of `embed_pairs`.

    Raises
    ------
    DataError
        The encoders are not of these parts.
    """
    by_part = {name: [each for each in encoders if each.modality == name] for name in parts}
    if not all(by_part.values()) or sum(map(len, by_part.values())) != len(encoders):
        raise DataError(
            f"the encoders take {', '.join(str(each.modality) for each in encoders)}, the columns "
            f"are of {' and '.join(parts)}: name what the result was made from"
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
