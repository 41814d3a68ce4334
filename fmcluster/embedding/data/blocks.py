"""Rows decoded block by block, so that large images and long recordings do not fill the memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from fmcluster.embedding.data.batches import Digesting, held_bytes
from fmcluster.embedding.data.media import MEDIA
from fmcluster.embedding.data.source import Block, Source
from fmcluster.embedding.data.values import decoded_bytes

# Images or recordings decoded and encoded together at most: a full batch of any encoder on a CPU.
FILE_ROWS = 128
# Decoded pixels or samples of a block: three blocks are in memory at once while rows are embedded.
# Small images (up to 0.7 megapixels) fill a block of 128 all the same.
BLOCK_BYTES = 256 * 2**20


def decoded_blocks(
    source: Source,
    raw: Iterable[Any],
    start: int,
    *,
    most_rows: int,
    copies: int = 1,
    on_error: str = "raise",
    pool: Executor | None = None,
) -> Iterator[Block]:
    """Decode raw rows block by block: as many as `BLOCK_BYTES` once decoded, one at least.

    Rows are asked for as blocks are, so that encoded images are held for one block alone. No file
    of the data may change meanwhile (`Source.check_unchanged`).

    Parameters
    ----------
    source : Source
        What the rows are of.
    raw, start, on_error, pool
        As for `Source.decode`.
    most_rows : int
        Rows of a block at most.
    copies : int
        Images or recordings that are held for each row: itself and its augmented views.
    """
    for rows, is_last in _portions(source, raw, most_rows, copies):
        block = source.decode(rows, start, on_error=on_error, pool=pool)
        source.check_unchanged(rows, start)
        yield block if is_last else replace(block, is_last=False)
        del block  # not held while the next one is decoded
        start += len(rows)


def _portions(
    source: Source, raw: Iterable[Any], most_rows: int, copies: int
) -> Iterator[tuple[list[Any], bool]]:
    """Yield raw rows of a block each, and whether no row comes after."""
    rows: list[Any] = []
    held = 0
    for row in raw:
        own = held_bytes(row)
        if source.modality in MEDIA:
            decoded = decoded_bytes(row, source.base, media=source.modality)
            own = max(own, copies * decoded)
        if rows and (held + own > BLOCK_BYTES or len(rows) == most_rows):
            yield rows, False
            rows, held = [], 0
        rows.append(row)
        held += own
    if rows:
        yield rows, True


def kept_rows(rows: Digesting) -> list[Any] | None:
    """Return all rows, or None where they are more than a block takes; either way, all pass."""
    kept: list[Any] = []
    held = 0
    for row in rows:
        kept.append(row)
        held += held_bytes(row)
        if held > BLOCK_BYTES:
            rows.pass_all()
            return None
    return kept
