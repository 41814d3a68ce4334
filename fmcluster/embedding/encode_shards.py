"""One process's share of the embedding loop: read, decode, augment ahead; encode; write shards."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.audio import Sound
from fmcluster.embedding.data.batches import Digesting
from fmcluster.embedding.data.blocks import FILE_ROWS, decoded_blocks, kept_rows
from fmcluster.embedding.data.media import MEDIA
from fmcluster.embedding.data.source import Block, Source
from fmcluster.embedding.encoders.augment import augment
from fmcluster.embedding.encoders.base import Encoder
from fmcluster.embedding.prefetch import prefetch
from fmcluster.embedding.reuse import Known, digests_of
from fmcluster.embedding.store.manifest import (
    CONTENT,
    Manifest,
    ShardRecord,
    array_key,
    read_marker,
)
from fmcluster.embedding.store.writer import cast, write_shard
from fmcluster.utils import distributed
from fmcluster.utils.progress import bar
from fmcluster.utils.random import seed_of
from fmcluster.utils.threads import n_threads

# Threads that decode: four keep a GPU fed; more take cores from the encoder.
MOST_DECODERS = 4
# The smallest input that the convolutional encoders take.
_PLACEHOLDER_SIDE = 32
# One second at the rate of speech models.
_PLACEHOLDER_RATE = 16_000


@dataclass
class _Shard:
    """What has been gathered of the shard in the making."""

    parts: dict[str, list[NDArray[Any]]] = field(default_factory=lambda: defaultdict(list))
    about: ShardRecord = field(default_factory=ShardRecord)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays to be written."""
        return {key: np.concatenate(blocks) for key, blocks in self.parts.items()}


@dataclass(frozen=True)
class _Work:
    """A block to encode, the augmented inputs of its views, and the digest of a stream so far."""

    number: int
    block: Block
    views: list[list[Any]]
    content: str
    digests: NDArray[np.uint8]


@dataclass
class EncodingRun:
    """One process's pass over its shards of a store that `prepare` made ready.

    `numbers` names the shards; by default they are this process's share of all. Those that are
    there are skipped either way. `decoders` threads read images. `known` says, by space, what
    earlier stores hold.
    """

    folder: Path
    manifest: Manifest
    source: Source
    encoders: Sequence[Encoder]
    numbers: Sequence[int] | None = None
    decoders: int = field(default_factory=lambda: min(MOST_DECODERS, n_threads()))
    known: Sequence[Known | None] = ()

    def __post_init__(self) -> None:
        settings = self.manifest.header["settings"]
        self.shard_rows = int(self.manifest.header["layout"]["shard_rows"])
        self.block_rows = FILE_ROWS if self.source.modality in MEDIA else self.shard_rows
        self.mark = settings["on_error"] == "mark"
        self.settings = settings
        self.n_shards = 0

    def go(self) -> int:
        """Encode and write every shard of this process; return the number of all shards."""
        total = self.source.n_rows
        shard = _Shard()
        with bar(total=total, description="embed") as shown:
            for work in prefetch(self._work()):
                if work is None:
                    shown.update(self.shard_rows)
                    continue
                self._encode(work, shard)
                shown.update(len(work.block.rows))
                if work.block.is_last:
                    about = replace(shard.about, content=work.content)
                    write_shard(self.folder, self.manifest, work.number, shard.arrays(), about)
                    shard = _Shard()
                del work  # not held while the next one is waited for
        return self.n_shards

    def _wanted(self, number: int, content: str | None = "") -> bool:
        """Return whether this process is to encode a shard: not there, or of other rows.

        With `content` None, only whether it is not there.
        """
        mine = self.numbers is not None or number % distributed.world_size() == distributed.rank()
        record = read_marker(self.folder, number, self.manifest.header) if mine else None
        return mine and (record is None or content not in (None, record.content))

    def to_do(self) -> Iterable[int]:
        """Shards to read. A stream is read to its end by every process, which tells its length."""
        if self.source.is_stream:
            return itertools.count()
        assert self.source.n_rows is not None
        self.n_shards = -(-self.source.n_rows // self.shard_rows)
        asked = range(self.n_shards) if self.numbers is None else self.numbers
        return [n for n in asked if self._wanted(n)]

    def _work(self) -> Iterator[_Work | None]:
        """Read, decode and augment, block by block: runs in the thread that works ahead."""
        with ThreadPoolExecutor(self.decoders, thread_name_prefix="fmcluster-decode") as pool:
            for number, rows in self.source.runs(self.shard_rows, self.to_do()):
                if self.source.is_stream:
                    yield from self._of_stream(number, rows, pool)
                else:
                    yield from self._blocks(number, rows, pool)

    def _blocks(self, number: int, rows: Iterable[Any], pool: Executor) -> Iterator[_Work]:
        for block in decoded_blocks(
            self.source,
            rows,
            number * self.shard_rows,
            most_rows=self.block_rows,
            copies=1 + self.settings["n_views"],
            on_error=self.settings["on_error"],
            pool=pool if self.source.modality in MEDIA else None,
        ):
            content = rows.digest if isinstance(rows, Digesting) else ""
            yield _Work(number, block, self._augmented(block), content, digests_of(block.rows))
            del block

    def _of_stream(self, number: int, raw: Iterable[Any], pool: Executor) -> Iterator[_Work | None]:
        """Do a shard of a stream; one that is there is first held against all of its rows.

        As many rows as a block takes are kept meanwhile. Where a shard has more, and other rows
        than were encoded, the stream is read again up to there.
        """
        rows = self.source.digesting(raw)
        if self._wanted(number, None):
            yield from self._blocks(number, rows, pool)
        else:
            kept = kept_rows(rows)
            if self._wanted(number, rows.digest):
                again = next(self.source.runs(self.shard_rows, [number]))[1]
                rows_again = self.source.digesting(again if kept is None else kept)
                yield from self._blocks(number, rows_again, pool)
            else:
                yield None
        self.n_shards = number + bool(rows.count)

    def _augmented(self, block: Block) -> list[list[Any]]:
        """Return the readable rows of a block, augmented once for each view."""
        rows = _readable(block)
        numbers = [block.start + i for i in range(len(block.rows)) if i not in block.problems]
        return [
            augment(
                rows,
                self.source.modality,
                strength=self.settings["views"]["augment"],
                seed=seed_of(self.settings["views"]["seed"], "view", view),
                row_offset=numbers,
            )
            for view in range(self.settings["n_views"])
        ]

    def _encode(self, work: _Work, shard: _Shard) -> None:
        """Add the embeddings of one block to its shard."""
        block = work.block
        bad = sorted(block.problems)
        reasons = [[block.ids[i].item(), block.problems[i]] for i in bad]
        (shard.about.marked if self.mark else shard.about.skipped).extend(reasons)
        good = np.setdiff1d(np.arange(len(block.rows)), bad)
        shard.parts["ids"].append(block.ids if self.mark else block.ids[good])
        shard.parts[CONTENT].append(work.digests if self.mark else work.digests[good])
        inputs = [_readable(block), *work.views]
        for space, encoder in enumerate(self.encoders):
            for view, rows in enumerate(inputs):
                key = array_key(space, view - 1 if view else None)
                if view:
                    values = self._values(encoder, rows, block.ids[good])
                else:
                    values = self._clean(space, rows, block.ids[good], work.digests[good], shard)
                if self.mark and bad:
                    whole = np.zeros((len(block.rows), values.shape[1]), values.dtype)
                    whole[good] = values
                    values = whole
                shard.parts[key].append(values)

    def _clean(
        self,
        space: int,
        rows: list[Any],
        ids: NDArray[Any],
        digests: NDArray[np.uint8],
        shard: _Shard,
    ) -> NDArray[Any]:
        """Return the embeddings of rows as they are: copied where they are known, else encoded."""
        encoder, key = self.encoders[space], array_key(space)
        known = self.known[space] if self.known else None
        found, copied = known.find(digests) if known else (np.zeros(len(rows), bool), None)
        before = getattr(encoder, "truncated", 0)
        if copied is None:
            values = self._values(encoder, rows, ids)
        else:
            values = np.empty((len(rows), copied.shape[1]), copied.dtype)
            values[found] = copied
            new = np.flatnonzero(~found)
            if len(new):
                values[new] = self._values(encoder, [rows[i] for i in new], ids[new])
            if hasattr(encoder, "count_truncated"):
                encoder.count_truncated([rows[i] for i in np.flatnonzero(found)])
            shard.about.reused[key] = shard.about.reused.get(key, 0) + int(found.sum())
        if rows and (cut := getattr(encoder, "truncated", 0) - before):
            shard.about.truncated[key] = shard.about.truncated.get(key, 0) + cut
        return values

    def _values(self, encoder: Encoder, rows: list[Any], ids: NDArray[Any]) -> NDArray[Any]:
        """Return embeddings (m, d) in the stored type, checked."""
        given = rows or [_placeholder(self.source.modality)]
        values = np.asarray(encoder.encode(given))
        if values.ndim != 2 or len(values) != len(given):
            raise ValueError(
                f"the encoder returned shape {values.shape} for {len(given)} rows: "
                "expected one vector a row"
            )
        try:
            return cast(values[: len(rows)], self.settings["dtype"], ids)
        except ValueError as error:
            name = encoder.fingerprint.get("encoder", type(encoder).__name__)
            raise ValueError(f"encoder {name!r}: {error}") from None


def _readable(block: Block) -> list[Any]:
    return [row for i, row in enumerate(block.rows) if i not in block.problems]


def _placeholder(modality: str) -> Any:
    """Return a row that any encoder takes: shows the width where a block has no readable row."""
    if modality == "text":
        return "text"
    if modality == "audio":
        return Sound(np.zeros(_PLACEHOLDER_RATE, np.float32), _PLACEHOLDER_RATE)
    from PIL import Image

    return Image.new("RGB", (_PLACEHOLDER_SIDE, _PLACEHOLDER_SIDE))
