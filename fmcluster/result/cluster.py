"""`Cluster`: one cluster of a result; and what tables, pages and maps show of all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult


@dataclass(frozen=True)
class Cluster:
    """One cluster of a result.

    Attributes
    ----------
    result : ClusterResult
        The result it is of.
    label : int
        Its number.
    """

    result: ClusterResult = field(repr=False)
    label: int = 0

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row numbers of the cluster, most confident first."""
        rows = np.flatnonzero(self.result.labels == self.label)
        return rows[np.argsort(-self.result.confidence[rows], kind="stable")]

    @property
    def size(self) -> int:
        """Number of rows."""
        return int((self.result.labels == self.label).sum())

    @property
    def name(self) -> str:
        """Its name, or its number."""
        return self.result.names[self.label] if self.result.names else str(self.label)

    # One may be odd, three show what they have in common.
    def exemplars(self, count: int = 3) -> NDArray[np.int64]:
        """Return the row numbers of the most confident rows."""
        return self.rows[:count]

    # One may be odd, three show what they have in common.
    def unsure(self, count: int = 3) -> NDArray[np.int64]:
        """Return the row numbers of the least confident rows, least confident first."""
        return self.rows[::-1][:count]


def ranked_rows(result: ClusterResult) -> list[NDArray[np.int64]]:
    """Return the row numbers of each cluster, most confident first."""
    order = np.lexsort((-result.confidence, result.labels))
    bounds = np.searchsorted(result.labels[order], np.arange(result.n_clusters + 1))
    return [order[a:b] for a, b in pairwise(bounds)]


def mean_confidence(result: ClusterResult) -> NDArray[np.float64]:
    """Return the mean confidence (k,) of each cluster's rows, NaN where it has none."""
    there, sizes = result.labels >= 0, result.sizes
    total = np.bincount(result.labels[there], result.confidence[there], minlength=len(sizes))
    return np.where(sizes > 0, total / np.maximum(sizes, 1), np.nan)


def names_of(result: ClusterResult) -> list[str]:
    """Return the name of each cluster, "cluster 3" where clusters have none."""
    return list(result.names or (f"cluster {c}" for c in range(result.n_clusters)))
