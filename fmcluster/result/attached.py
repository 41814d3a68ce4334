"""`attach`: give a loaded result the embeddings it was made from, row by row the same."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from fmcluster.result.loop.reference import sample_of
from fmcluster.result.predictor import prepared
from fmcluster.utils.errors import StoreMismatchError
from fmcluster.utils.ids import IdIndex
from fmcluster.vectors.rows import JointRows, as_spaces, is_store, one_or_list, space_list

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# Rows that are held against the result's own: another order or another encoder shows in a few.
COMPARED = 200
# Cosine of a row with itself, through float16 and another machine's arithmetic.
SAME = 0.99


def attach(result: ClusterResult, embeddings: Any) -> ClusterResult:
    """Return the result with the embeddings it was made from, after loading it.

    Parameters
    ----------
    embeddings : (n, d) array, store, or list of those
        A row for each row of the result: of an array in the result's order, of a store by its ids.

    Raises
    ------
    ValueError
        Another number of rows, other dimensions, or other rows than those kept with the result.
    StoreMismatchError
        A store of another encoder, or with other ids.
    """
    found = prepared(result.pipeline, embeddings)
    spaces = space_list(found)
    flat = [tuple(x.shape) for x in spaces if len(x.shape) != 2]
    if flat:
        raise ValueError(f"embeddings must be 2-D (rows, dimensions), got shape {flat[0]}")
    lengths = sorted({int(x.shape[0]) for x in spaces})
    if lengths != [result.n_rows]:
        raise ValueError(
            f"the embeddings have {', '.join(map(str, lengths))} rows, the result {result.n_rows}: "
            "attach those that it was made from"
        )
    dims = [int(x.shape[1]) for x in spaces]
    if dims != list(result.head.space_dims_):
        raise ValueError(
            f"the embeddings have {dims} dimensions, the result was made from "
            f"{list(result.head.space_dims_)}: attach those that it was made from"
        )
    ids = np.asarray(embeddings.ids) if is_store(embeddings) else result.ids
    if not np.array_equal(ids, result.ids):
        found = one_or_list(_by_id(spaces, ids, result))
    _check_rows(result, found)
    return dataclasses.replace(result, embeddings=found)


def _check_rows(result: ClusterResult, found: Any) -> None:
    """Hold some rows against those that are kept with the result: ids alone tell no order."""
    kept = sample_of(result)
    if kept is None:
        return
    some = np.unique(np.linspace(0, len(kept.rows) - 1, COMPARED).astype(np.int64))
    rows = kept.rows[some]
    alike = np.einsum("id,id->i", JointRows(as_spaces(found))[rows], kept.x[some].astype(float))
    if (alike < SAME).any():
        other = result.ids[rows[alike < SAME]][0].item()
        raise ValueError(
            f"row {other!r} of the embeddings is not the result's: attach those that it was made "
            "from, in the same order, or a store that has its ids"
        )


def _by_id(spaces: list[Any], ids: Any, result: ClusterResult) -> list[Any]:
    """Return the rows of a store in the order of a result."""
    rows = IdIndex(ids).find(result.ids)
    if (rows < 0).any():
        lost = result.ids[rows < 0][0].item()
        raise StoreMismatchError(
            f"the store lacks {int((rows < 0).sum())} of the result's {result.n_rows} ids, such as "
            f"{lost!r}: attach the store that it was made from"
        )
    return [np.asarray(x, np.float32)[rows] for x in spaces]
