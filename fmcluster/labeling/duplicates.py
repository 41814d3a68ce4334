"""Near-duplicates and outliers, from the neighbor graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.utils.validation import check_range
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.near_pairs import NEAR_DUPLICATE, near_duplicates
from fmcluster.vectors.rows import BLOCK_ROWS

if TYPE_CHECKING:
    import pandas as pd


def find_near_duplicates(
    graph: KNNGraph, threshold: float = NEAR_DUPLICATE, *, ids: ArrayLike | None = None
) -> pd.DataFrame:
    """Group rows that are joined by neighbors of at least `threshold` cosine.

    Returns
    -------
    DataFrame
        Rows with a near-duplicate only: ``id``, ``group`` (0 is the largest), ``nearest`` (id of
        the row's most similar one), ``similarity``.

    Raises
    ------
    ValueError
        A threshold outside [-1, 1], ids of another length.
    """
    import pandas as pd

    names = _ids(graph, ids)
    found = near_duplicates(graph, threshold)
    return pd.DataFrame(
        {
            "id": names[found.rows],
            "group": found.group,
            "nearest": names[found.nearest],
            "similarity": found.similarity,
        }
    )


def find_outliers(
    graph: KNNGraph, *, share: float = 0.01, ids: ArrayLike | None = None
) -> pd.DataFrame:
    """Find the rows that are furthest from their neighbors.

    The score is the row's mean cosine to its neighbors over the mean of theirs, cut at one: like
    the local outlier factor it compares a row with its surroundings, so that a sparse cluster is
    not a crowd of outliers.

    Returns
    -------
    DataFrame
        The `share` lowest: ``id``, ``score`` in [0, 1], lowest first.
    """
    import pandas as pd

    check_range(share, "share", low=0, high=1)
    names = _ids(graph, ids)
    own = 1 - graph.similarities.mean(axis=1, dtype=np.float64)
    around = np.empty(graph.n_rows)
    for i in range(0, graph.n_rows, BLOCK_ROWS):
        around[i : i + BLOCK_ROWS] = own[graph.indices[i : i + BLOCK_ROWS]].mean(axis=1)
    score = np.minimum(1, (around + 1e-9) / (own + 1e-9))
    n_found = int(np.ceil(share * graph.n_rows)) if share > 0 else 0
    rows = np.lexsort((np.arange(graph.n_rows), score))[:n_found]
    return pd.DataFrame({"id": names[rows], "score": score[rows]})


def _ids(graph: KNNGraph, ids: ArrayLike | None) -> NDArray[Any]:
    names = np.arange(graph.n_rows) if ids is None else np.asarray(ids)
    if len(names) != graph.n_rows:
        raise ValueError(f"ids has {len(names)} entries, the graph {graph.n_rows} rows")
    return names
