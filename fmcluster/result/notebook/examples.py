"""The rows that stand for a cluster in a table, and their texts or pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.result.report.items import Items

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult


def typical_rows(result: ClusterResult, count: int) -> list[NDArray[np.int64]]:
    """Return the row numbers of at most `count` rows of each cluster, most confident first."""
    order = np.lexsort((-result.confidence, result.labels))
    bounds = np.searchsorted(result.labels[order], np.arange(result.n_clusters + 1))
    return [order[a : min(a + count, b)] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]


def read_examples(result: ClusterResult, rows: list[NDArray[np.int64]], items: Any) -> Items:
    """Return texts or pictures of the rows of some clusters.

    Parameters
    ----------
    result : ClusterResult
        The result.
    rows : list of (m,) arrays
        As `typical_rows` gives them.
    items : Source, sequence or None
        The raw rows; None stands for none.
    """
    found = Items(items, result.index)
    wanted = np.unique(np.concatenate([*rows, np.empty(0, np.int64)])).astype(np.int64)
    found.load(wanted, n_examples=len(wanted))
    return found


def mean_confidence(result: ClusterResult) -> NDArray[np.float64]:
    """Return the mean confidence (k,) of each cluster's rows, NaN where it has none."""
    there = result.labels >= 0
    total = np.bincount(result.labels[there], result.confidence[there], minlength=result.n_clusters)
    sizes = result.sizes
    return np.where(sizes > 0, total / np.maximum(sizes, 1), np.nan)


def cluster_names(result: ClusterResult) -> list[str]:
    """Return the name of each cluster, "cluster 3" where clusters have none."""
    return [str(n) for n in result.names or (f"cluster {c}" for c in range(result.n_clusters))]
