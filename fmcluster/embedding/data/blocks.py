"""Rows decoded block by block, so that large images and long recordings do not fill the memory."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any

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
    raw: list[Any],
    start: int,
    *,
    most_rows: int,
    copies: int = 1,
    on_error: str = "raise",
    pool: Executor | None = None,
) -> Iterator[Block]:
    """Decode raw rows block by block: as many as `BLOCK_BYTES` once decoded, one at least.

    No file of the data may change meanwhile (`Source.check_unchanged`).

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
    low = 0
    while low < len(raw):
        high, held = low, 0
        while high < min(low + most_rows, len(raw)):
            if source.modality in MEDIA:
                held += copies * decoded_bytes(raw[high], source.base, media=source.modality)
            if held > BLOCK_BYTES and high > low:
                break
            high += 1
        block = source.decode(raw[low:high], start + low, on_error=on_error, pool=pool)
        source.check_unchanged(raw[low:high], start + low)
        yield block
        low = high
