"""Rows that come to a result: read as its own were, named, and held against the ids it has."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.source import Source
from fmcluster.embedding.pairs import open_rows
from fmcluster.result.predictor import Prediction, media_of_records
from fmcluster.utils.errors import DataError
from fmcluster.utils.ids import IdIndex
from fmcluster.vectors.rows import is_embeddings, is_store

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """The rows that come.

    Attributes
    ----------
    ids : (m,)
        As the result will have them.
    proba : (m, k) float32
        What the pipeline predicts.
    xs : list of (m, d) float32
        Prepared embeddings, one array a space.
    source : Source or None
        The raw rows.
    offset : int
        What was added to the ids of the source.
    skipped, unreadable : list
        Ids of rows that were left out, and of rows of which nothing is known.
    n_known : int
        Rows that were left out because the result has their ids.
    """

    ids: NDArray[Any]
    proba: NDArray[np.float32]
    xs: list[NDArray[np.float32]]
    source: Any
    offset: int
    skipped: list[Any]
    unreadable: list[Any]
    n_known: int


def source_of(
    data: Any,
    result: ClusterResult,
    *,
    column: str | Mapping[str, str] | None,
    id_column: str | None,
) -> Source | None:
    """Return raw rows as a Source, its ids from the column that the result's are from."""
    if is_embeddings(data):
        if column is not None or id_column is not None:
            raise ValueError("embeddings have no columns: give a store, whose rows have ids")
        return None
    if isinstance(data, Source):
        return data
    specs = result.provenance.get("encoders") or []
    modality = media_of_records(specs)
    known = result.provenance.get("id_column")
    if id_column is None and known is not None:
        try:
            return open_rows(data, column=column, id_column=known, modality=modality)
        except (KeyError, ValueError):
            source = open_rows(data, column=column, modality=modality)
            if _has_column(source, known):  # its values are wrong, then: repeated, missing
                raise
            logger.info("the new data has no column %r for ids", known)
            return source
    return open_rows(data, column=column, id_column=id_column, modality=modality)


def _has_column(source: Source, name: str) -> bool:
    values_of = source.reader.values_of
    try:
        return values_of is not None and values_of(name) is not None
    except (KeyError, ValueError):
        return False


def batch_of(
    result: ClusterResult,
    found: Prediction,
    data: Any,
    source: Source | None,
    *,
    on_error: str,
    on_known: str,
) -> Batch:
    """Name the new rows, and leave out those that are not to come."""
    raw = source if source is not None else getattr(data, "source", None)
    left_out = list(getattr(data, "skipped_ids", ()))
    ids, offset = _new_ids(result, found.ids, left_out, raw, is_store(data))
    unreadable = np.isin(found.ids, list(found.unreadable))
    known = result.index.find(ids) >= 0
    if known.any() and on_known == "raise":
        some = ", ".join(map(repr, ids[known][:3].tolist()))
        raise DataError(
            f"{int(known.sum())} of {len(ids)} new ids are already in the result, such as {some}: "
            "give new rows only, or on_known='skip' to leave those out"
        )
    kept = ~(known | unreadable) if on_error == "skip" else ~known
    if not kept.any():
        raise DataError(
            f"no new rows: {int(known.sum())} of {len(ids)} are already in the result, "
            f"{int((unreadable & ~known).sum())} cannot be read"
        )
    shift = [each + offset if isinstance(each, int) else each for each in left_out]
    skipped = ids[unreadable & ~known].tolist() if on_error == "skip" else []
    return Batch(
        ids=ids[kept],
        proba=found.proba[kept],
        xs=[x[kept] for x in found.xs],
        source=raw,
        offset=offset,
        skipped=[*shift, *skipped],
        unreadable=[] if on_error == "skip" else ids[unreadable & ~known].tolist(),
        n_known=int(known.sum()),
    )


def _new_ids(
    result: ClusterResult, ids: NDArray[Any], left_out: list[Any], source: Any, is_store: bool
) -> tuple[NDArray[Any], int]:
    """Return the ids of new rows, and what was added to them: numbers go on after the old ones."""
    numbered = getattr(source, "numbers_rows", None)
    if numbered is None:
        numbered = IdIndex(ids, tuple(left_out)).are_positions
    if numbered and result.index.are_positions:
        offset = result.index.n_source
        return ids + offset, offset
    text = result.ids.dtype.kind == "U"
    example = result.ids[0].item()
    if numbered and not is_store:
        raise DataError(
            f"ids of this result are names such as {example!r}, and nothing names the new rows: "
            "give id_column=, or a store whose rows have ids"
        )
    if text != (ids.dtype.kind == "U"):
        raise DataError(
            f"ids of this result are such as {example!r}, new ids are such as {ids[0].item()!r}: "
            "name the new rows in the same way"
        )
    return ids, 0
