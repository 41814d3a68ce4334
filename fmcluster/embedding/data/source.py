"""Any input as a `Source`: rows with ids, a modality and a fingerprint of their content.

Rows are read in chunks and turned into texts, RGB images or samples only when they are about to be
encoded. What to do with one that cannot be read is the caller's choice: ``on_error="raise"`` stops
and names it, ``"skip"`` leaves it out (ids keep the numbering of the data), ``"mark"`` keeps it as
a zero row and lists its id.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.embedding.data.batches import Digesting
from fmcluster.embedding.data.columns import Reader
from fmcluster.embedding.data.digest import update_digest
from fmcluster.embedding.data.ids import row_ids
from fmcluster.embedding.data.labels import read_labels
from fmcluster.embedding.data.media import MEDIA
from fmcluster.embedding.data.readers import open_reader
from fmcluster.embedding.data.values import (
    UnreadableRow,
    as_array,
    is_file,
    is_missing,
    is_written_vector,
    kind_of,
    media_of_rows,
    media_of_text,
    read_audio,
    read_image,
    read_text,
)
from fmcluster.embedding.data.watch import Watch
from fmcluster.utils.errors import DataError
from fmcluster.utils.files import stable_hash
from fmcluster.utils.frames import kind_of_frame
from fmcluster.utils.validation import check_in, check_range

__all__ = ["Block", "Source", "read_labels"]

ON_ERROR = ("raise", "skip", "mark")
MODALITIES = (*MEDIA, "text", "embedding")
# Rows that tell what the data is, and by which a stream finds its store: more would hold up one
# whose rows come slowly.
_HEAD_ROWS = 64
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Block:
    """Consecutive rows, decoded.

    Attributes
    ----------
    start : int
        Row number of the first.
    ids : ndarray (m,)
        Row ids.
    rows : list
        Texts, RGB images or `Sound`; None where a row could not be read.
    problems : dict
        Position in the block -> why that row could not be read.
    is_last : bool
        Whether no block of the same rows comes after.
    """

    start: int
    ids: NDArray[Any]
    rows: list[Any]
    problems: dict[int, str] = field(default_factory=dict)
    is_last: bool = True


class Source:
    """Rows of any input, with ids, modality and fingerprint.

    Parameters
    ----------
    data : Dataset, DatasetDict, IterableDataset, path, DataFrame, mapping, list or array
        A path is a folder of images or recordings (or of Parquet files, or a saved Dataset) or a
        file: Parquet, CSV, TSV, JSONL, txt (a text a line), npy, npz.
    column : str, optional
        Which column; by default the only image or text column.
    split : str, optional
        Which split of a DatasetDict.
    ids : array-like, optional
        Row ids, unique. By default the row number, and for a folder the relative path.
    id_column : str, optional
        Column that holds the row ids.
    modality : "image", "audio", "text" or "embedding", optional
        Only needed where strings are paths that the first row does not reveal, or where a folder
        holds images and recordings.
    n_rows : int, optional
        Read so many rows and no more: for streams.

    Attributes
    ----------
    modality : str
        "image", "audio", "text" or "embedding".
    column, id_column : str or None
        Names of the columns of rows and of their ids.
    frame_kind : str or None
        "pandas", "polars" or "arrow" where the data came as a frame.

    Raises
    ------
    DataError
        No such column (the columns are listed), unknown input, no rows, mixed modalities (the
        first offending row is named), ids that repeat.
    """

    def __init__(
        self,
        data: Any,
        *,
        column: str | None = None,
        split: str | None = None,
        ids: ArrayLike | None = None,
        id_column: str | None = None,
        modality: str | None = None,
        n_rows: int | None = None,
    ) -> None:
        if modality is not None:
            check_in(modality, MODALITIES, "modality")
        if n_rows is not None:
            check_range(n_rows, "n_rows", low=1)
        if ids is not None and id_column is not None:
            raise DataError("give ids or id_column, not both")
        self.reader: Reader = open_reader(data, column=column, split=split, modality=modality)
        self.column = self.reader.column
        self.frame_kind = kind_of_frame(data)
        self.id_column = id_column
        self._limit = n_rows
        first = self._first_rows()
        self.base = self.reader.base
        self._paths = modality in MEDIA or (modality is None and self._are_paths(first))
        self._watch = Watch(self.reader.files, self.base, strings_are_paths=self._paths)
        # What files hold is decided once: a damaged one does not tell by itself.
        self._media = modality if modality in MEDIA else self.reader.media or media_of_rows(first)
        self.modality = modality or str(self._kind_of(first[0]))
        if modality is None and self.modality == "text" and all(map(is_written_vector, first)):
            raise DataError(
                f"the texts are vectors written out ({first[0][:40]!r}): read them as numbers "
                "(json.loads for each) and pass the (n, d) array, or say modality='text'"
            )
        if id_column is not None:
            if self.reader.values_of is None:
                raise DataError(f"no column {id_column!r}: the data has no columns beside its rows")
            ids = self.reader.values_of(id_column)
        self._ids = None if ids is None else row_ids(ids)

    def __repr__(self) -> str:
        size = "?" if self.reader.n_rows is None else f"{self.reader.n_rows:,}"
        return f"Source({size} rows of {self.modality}, column={self.column!r})"

    def _first_rows(self) -> list[Any]:
        """Return the first rows that are not missing, at least one."""
        empty, found = True, []
        for number, row in enumerate(itertools.islice(self.reader.rows(0), self._limit)):
            empty = False
            if not is_missing(row):
                found.append(row)
            # A stream gives each row at a cost: as few as can tell.
            if found and (number >= _HEAD_ROWS or not isinstance(row, str)):
                break
        if not found:
            raise DataError(
                "the data is empty: no rows" if empty else "every row of the data is missing"
            )
        return found

    def _are_paths(self, first: list[Any]) -> bool:
        """Return whether strings are paths of files: one that is not there changes nothing.

        Relative ones start from the data's own folder; where none is there, from the working
        directory.
        """
        named = [row for row in first if media_of_text(row)]
        if not named:
            return False
        for base in dict.fromkeys((self.reader.base, None)):
            there = [is_file(row, base) for row in named]
            if (there[0] and named[0] is first[0]) or (any(there) and 2 * len(named) > len(first)):
                if base != self.reader.base:
                    logger.warning("file paths are taken from %s", Path.cwd())
                self.base = base
                return True
        if len(named) == len(first):
            raise DataError(
                f"the strings name files, as {named[0][:80]!r}, and no such file is there (looked "
                f"in {self.reader.base or Path.cwd()}): give paths that exist, or say "
                "modality='text' to embed the names themselves"
            )
        return False

    @property
    def is_stream(self) -> bool:
        """Whether rows come once, in order, and are never read just to be counted."""
        return not self.reader.repeatable

    @property
    def numbers_rows(self) -> bool:
        """Whether ids are row numbers, for nothing names the rows."""
        return self._ids is None and self.reader.ids is None

    @property
    def n_rows(self) -> int | None:
        """Number of rows; of a stream, the stated number or None."""
        if self.is_stream:
            return self._limit
        known = self.reader.n_rows if self.reader.n_rows is not None else self._scan[1]
        return known if self._limit is None else min(known, self._limit)

    @property
    def fingerprint(self) -> str:
        """Digest of every row's content and of the ids, whatever the format they came in.

        A stream is not read just for this: its digest covers its first 64 rows and the stated
        number, and `embed` holds every shard against the digest of its own rows.
        """
        return self._scan[0]

    @cached_property
    def _scan(self) -> tuple[str, int]:
        """Read all rows once: (digest, count); types are checked on the way."""
        digest = hashlib.sha256()
        count = 0
        limit = _HEAD_ROWS if self.is_stream else self._limit
        del self._watch.rows[:]
        for row in itertools.islice(self.reader.rows(0), limit):
            self._check_kind(row, count)
            if self.modality in MEDIA and not self.is_stream:
                self._watch.note(row)
            update_digest(digest, row, base=self.base, strings_are_paths=self._paths)
            count += 1
        parts = {"modality": self.modality, "rows": digest.hexdigest()}
        if self.is_stream:
            parts["stream"] = str(self._limit)
        if self._ids is not None or self.reader.ids is not None:
            parts["ids"] = stable_hash(self.ids(0, count))
        return stable_hash(parts), count

    def check_unchanged(self, rows: Sequence[Any] = (), start: int = 0) -> None:
        """Raise DataError if a file of the data is not the one that was opened.

        Parameters
        ----------
        rows : sequence
            Raw rows that were just read: files that they name are held against the fingerprint.
        start : int
            Row number of the first.
        """
        self._watch.check(rows, start)

    def digesting(self, raw: Iterable[Any]) -> Digesting:
        """Return raw rows that add up to a digest: by it a stream's shards are known again."""
        return Digesting(raw, base=self.base, strings_are_paths=self._paths)

    def _kind_of(self, row: Any) -> str | None:
        return kind_of(row, strings_are_paths=self._paths, media=self._media)

    def _check_kind(self, row: Any, number: int) -> None:
        try:
            kind = self._kind_of(row)
        except DataError as error:
            raise DataError(f"row {number}: {error}") from None
        if kind is not None and kind != self.modality:
            raise DataError(
                f"row {number} is of modality {kind!r} among rows of {self.modality!r}: "
                "embed each modality by itself"
            )

    def ids(self, start: int, stop: int) -> NDArray[Any]:
        """Return the ids of rows start..stop-1."""
        if self._ids is not None:
            part = self._ids[start:stop]
            if len(part) < stop - start:
                raise DataError(
                    f"{len(self._ids)} ids were given for more rows: they must be equal"
                )
            return part
        if self.reader.ids is not None:
            return np.asarray(self.reader.ids[start:stop], dtype=np.str_)
        return np.arange(start, stop, dtype=np.int64)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over all raw rows, as often as asked (a stream: read again from its start)."""
        return itertools.islice(self.reader.rows(0), self._limit)

    def texts(self) -> Iterator[str]:
        """Iterate over the texts that can be read; the others are left out."""
        for row in self:
            try:
                yield read_text(row)
            except UnreadableRow:
                continue

    def vectors(self) -> NDArray[Any]:
        """Return the rows of an "embedding" source as (n, d), mapped where they are on disk."""
        if self.modality != "embedding":
            raise DataError(f"the data is of modality {self.modality!r}: embed it by an encoder")
        if self.reader.vectors is not None:
            return self.reader.vectors()[: self._limit]
        try:
            return np.asarray([as_array(row) for row in self], dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(f"the rows are no vectors of one length: {error}") from None

    def pieces(self, size: int, numbers: Iterable[int]) -> Iterator[tuple[int, list[Any]]]:
        """Yield (number, raw rows) of pieces of `size` rows; empty once past the end, then stop."""
        for number, rows in self.runs(size, numbers):
            yield number, list(rows)

    def runs(self, size: int, numbers: Iterable[int]) -> Iterator[tuple[int, Iterator[Any]]]:
        """Yield what `pieces` does, its rows read only as they are asked for.

        Rows of a run can be asked for until the next run is. Rows between the asked pieces are
        passed over: for free where the input can seek.
        """
        rows: Iterator[Any] = iter(())
        position = -1
        for number in numbers:
            start = number * size
            if position < 0 or (position != start and self.reader.seekable):
                rows = self.reader.rows(start)
            elif position < start:
                next(itertools.islice(rows, start - position - 1, start - position), None)
            stop = start + size if self._limit is None else min(start + size, self._limit)
            counted = itertools.count()
            run = (
                row
                for row, _ in zip(
                    itertools.islice(rows, max(0, stop - start)), counted, strict=False
                )
            )
            yield number, run
            for _ in run:  # what nobody asked for
                pass
            position = start + size
            if next(counted) < size:
                return

    def decode(
        self,
        raw: list[Any],
        start: int,
        *,
        on_error: str = "raise",
        pool: Executor | None = None,
    ) -> Block:
        """Turn raw rows into texts, images or recordings.

        Parameters
        ----------
        raw : list
            Consecutive raw rows.
        start : int
            Row number of the first.
        on_error : "raise", "skip" or "mark"
            "raise" stops at the first row that cannot be read; else it is None in ``rows``.
        pool : Executor, optional
            Decodes files side by side.
        """
        for position, row in enumerate(raw):
            self._check_kind(row, start + position)
        one = read_text if self.modality == "text" else self._file
        attempts = list((pool.map if pool else map)(lambda row: _attempt(one, row), raw))
        ids = self.ids(start, start + len(raw))
        problems = {}
        for position, (_, reason) in enumerate(attempts):
            if reason is None:
                continue
            if on_error == "raise":
                raise DataError(
                    f"row {ids[position].item()!r}: {reason}; pass on_error='skip' to leave such "
                    "rows out or 'mark' to keep them as zero rows"
                )
            problems[position] = reason
        return Block(start, ids, [row for row, _ in attempts], problems)

    def _file(self, row: Any) -> Any:
        return (read_audio if self.modality == "audio" else read_image)(row, self.base)


def _attempt(one: Callable[[Any], Any], row: Any) -> tuple[Any, str | None]:
    try:
        return one(row), None
    except UnreadableRow as error:
        return None, str(error)
