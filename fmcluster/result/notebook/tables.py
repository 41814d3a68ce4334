"""A result as tables: one row a cluster, and one row a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.result.cluster import mean_confidence, names_of, ranked_rows
from fmcluster.result.loop.joined import is_readable
from fmcluster.result.report.items import read_items
from fmcluster.utils.frames import to_kind
from fmcluster.utils.validation import check_in, label_text
from fmcluster.vectors.rows import BLOCK_ROWS

if TYPE_CHECKING:
    import pandas as pd

    from fmcluster.result.result import ClusterResult

# Characters of an example: a cell that still can be read.
TEXT_LENGTH = 200


# One may be odd, three show what they have in common; more make cells too wide.
def table(result: ClusterResult, *, n_examples: int = 3, items: Any = None) -> pd.DataFrame:
    """Return one row a cluster, in the order of their numbers.

    Parameters
    ----------
    n_examples : int
        Rows shown of each cluster, the most typical first; 0 leaves the raw data unread.
    items : Source or sequence, optional
        The raw rows, as `report` takes them. Default: the result's own source, where it has one.

    Returns
    -------
    DataFrame
        ``cluster`` (number), ``name``, ``size`` (rows), ``share`` (of all rows), ``confidence``
        (mean over its rows; before calibration the score; NaN in a cluster without rows) and
        ``examples`` (a list: texts, cut at 200 characters, or ids where the rows are no texts or
        no raw data are at hand).

    Raises
    ------
    ValueError
        `n_examples` is negative, or `items` are not those of this result.
    DataError
        The raw data cannot be read any more.
    """
    if n_examples < 0:
        raise ValueError(f"n_examples={n_examples} is negative: give 0 or more")
    rows = [some[:n_examples] for some in ranked_rows(result)]
    source = result.source if is_readable(result.source) else None
    shown = read_items(source if items is None else items, result.index, rows)
    examples = [
        [shown.text(row, TEXT_LENGTH) or result.ids[row].item() for row in some.tolist()]
        for some in rows
    ]
    if items is not None and n_examples and shown.missing_reason:
        raise ValueError(f"no examples can be shown: {shown.missing_reason}")
    return as_frame(
        {
            "cluster": np.arange(result.n_clusters),
            "name": names_of(result),
            "size": result.sizes,
            "share": result.sizes / result.n_rows,
            "confidence": mean_confidence(result),
            "examples": examples,
        }
    )


def frame(result: ClusterResult, *, kind: str | None = None) -> Any:
    """Return one row a row, in the order of ``result.ids``.

    Parameters
    ----------
    kind : {"pandas", "arrow", "polars"}, optional
        A ``pandas.DataFrame``, a ``pyarrow.Table`` or a ``polars.DataFrame``. Default: what the
        data came as, where the result still has them; else pandas.

    Returns
    -------
    DataFrame or Table
        ``id``, ``cluster`` (-1 for rows that fit none), ``name`` (missing for those),
        ``confidence`` (before calibration the score), ``next_cluster`` (the most probable other
        one, -1 where there is only one), ``outlier_score`` (as `ClusterResult.outlier_score`; NaN
        where the result has no neighbor graph), and ``answer`` (the class that a person said) if
        there are answers.

    Raises
    ------
    ValueError
        Another kind.

    Examples
    --------
    >>> result.frame().query("confidence < 0.5")  # doctest: +SKIP
    """
    names = np.array([*names_of(result), None], dtype=object)  # the last one is that of -1
    columns: dict[str, Any] = {
        "id": result.ids,
        "cluster": result.labels,
        "name": names[result.labels].tolist(),
        "confidence": result.confidence,
        "next_cluster": _next_clusters(result),
        "outlier_score": (
            np.full(result.n_rows, np.nan) if result.graph is None else result.outlier_score
        ),
    }
    if result.answers.labels:
        given = result.answers.labels
        columns["answer"] = [
            None if (label := given.get(one)) is None else label_text(label)
            for one in result.ids.tolist()
        ]
    return as_frame(columns, kind or getattr(result.source, "frame_kind", None) or "pandas")


def as_frame(columns: Mapping[str, Any], kind: str = "pandas") -> Any:
    """Return columns, arrays (n,) or lists in which None is missing, as a frame of one kind."""
    if check_in(kind, ("pandas", "arrow", "polars"), "kind") == "pandas":
        import pandas as pd

        return pd.DataFrame(dict(columns))
    import pyarrow as pa

    return to_kind(pa.table(dict(columns)), kind)


def _next_clusters(result: ClusterResult) -> NDArray[np.int64]:
    """Return the most probable cluster (n,) of each row but its own."""
    found = np.full(result.n_rows, -1, np.int64)
    if result.n_clusters < 2:
        return found
    for start in range(0, result.n_rows, BLOCK_ROWS):
        proba = result.proba[start : start + BLOCK_ROWS].copy()
        labels = result.labels[start : start + BLOCK_ROWS]
        placed = np.flatnonzero(labels >= 0)
        proba[placed, labels[placed]] = -1
        found[start : start + BLOCK_ROWS] = proba.argmax(axis=1)
    return found
