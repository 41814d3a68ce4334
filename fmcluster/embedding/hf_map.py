"""Embeddings as a column: `map_embed`, and the function it gives to ``Dataset.map``.

The datasets cache names its files by a hash of the mapped function. A model hashes to something
else in every process, so a cached column is made again each time; here the hash is that of the
encoder's own fingerprint, which changes exactly when the vectors would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fmcluster.embedding import encoders
from fmcluster.embedding.data.blocks import FILE_ROWS, decoded_blocks
from fmcluster.embedding.data.media import MEDIA
from fmcluster.embedding.data.source import Source
from fmcluster.utils.errors import DataError
from fmcluster.utils.files import stable_hash
from fmcluster.utils.validation import check_range

if TYPE_CHECKING:
    from fmcluster.embedding.encoders.base import Encoder


class EmbedFunction:
    """A function of a batch for ``ds.map(..., batched=True)`` that adds a column of vectors.

    Parameters
    ----------
    encoder : str or object
        As for `embed`, one of them; not ``tfidf``, which must see all rows first.
    column : str
        Column of texts, images or recordings.
    output : str
        Column that gets the vectors, float32.
    modality : {"image", "audio", "text"}, optional
        Only where ``auto`` or paths leave it open.
    device, batch_size, precision
        How to run the encoder; only the precision changes the vectors.

    Examples
    --------
    >>> from datasets import Dataset
    >>> ds = Dataset.from_dict({"text": ["a cat", "a dog"]})
    >>> embed = EmbedFunction("packaged:minilm", column="text")
    >>> ds.map(embed, batched=True).column_names
    ['text', 'embedding']
    """

    def __init__(
        self,
        encoder: Any = "auto",
        *,
        column: str,
        output: str = "embedding",
        modality: str | None = None,
        device: str | None = None,
        batch_size: int | None = None,
        precision: str = "auto",
    ) -> None:
        self.column, self.output = column, output
        self._options: dict[str, Any] = {"device": device, "batch_size": batch_size}
        self._encoder: Encoder | None = encoders.resolve(
            encoder, modality=modality, precision=precision, **self._options
        )
        self.modality = self._encoder.modality or modality
        self._custom = None if isinstance(encoder, str) else encoder
        self._spec = dict(self._encoder.spec)
        if hasattr(self._encoder, "fit") and hasattr(self._encoder, "from_state"):
            raise DataError(
                f"encoder {encoder!r} must see all rows before it can encode: use fmc.embed"
            )
        self.fingerprint = stable_hash(
            {"encoder": dict(self._encoder.fingerprint), "column": column, "output": output}
        )

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return the batch's new column."""
        if self._encoder is None:
            self._encoder = encoders.resolve(self._custom or self._spec, **self._options)
        rows = list(batch[self.column])
        source = Source(rows, modality=self.modality)
        most = FILE_ROWS if source.modality in MEDIA else len(rows)
        found: list[Any] = []
        for block in decoded_blocks(source, rows, 0, most_rows=most):
            found.extend(np.asarray(self._encoder.encode(block.rows), np.float32))
        return {self.output: found}

    def __getstate__(self) -> dict[str, Any]:
        # What the datasets cache hashes and what a worker process receives: no weights.
        return {**self.__dict__, "_encoder": None}


def map_embed(
    ds: Any,
    *,
    encoder: Any = "auto",
    column: str,
    output: str = "embedding",
    modality: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    precision: str = "auto",
    rows_at_once: int = 1_000,
) -> Any:
    """Return `ds` with a column of embeddings; the datasets cache serves the same call again.

    Parameters
    ----------
    ds : Dataset, DatasetDict or IterableDataset
        What gets the column; a stream is embedded while it is read.
    encoder, column, output, modality, device, batch_size, precision
        As for `EmbedFunction`.
    rows_at_once : int
        Rows that are read and encoded together.

    Returns
    -------
    The same kind of dataset. ``EmbeddingStore.from_dataset(ds, output)`` takes it from there.
    """
    check_range(rows_at_once, "rows_at_once", low=1)
    function = EmbedFunction(
        encoder,
        column=column,
        output=output,
        modality=modality,
        device=device,
        batch_size=batch_size,
        precision=precision,
    )
    if isinstance(ds, dict):
        return type(ds)({name: _mapped(part, function, rows_at_once) for name, part in ds.items()})
    return _mapped(ds, function, rows_at_once)


def _mapped(ds: Any, function: EmbedFunction, rows_at_once: int) -> Any:
    if function.column not in (ds.column_names or [function.column]):
        raise DataError(f"no column {function.column!r}: the dataset has {ds.column_names}")
    options: dict[str, Any] = {"batched": True, "batch_size": rows_at_once}
    if hasattr(ds, "_fingerprint"):
        # Given outright, so that an encoder of the user's own is cached as well.
        options["new_fingerprint"] = stable_hash([ds._fingerprint, function.fingerprint])
        options["desc"] = "embed"
    return ds.map(function, **options)
