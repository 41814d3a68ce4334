"""`Cluster`: one cluster of a result."""

from __future__ import annotations

from dataclasses import dataclass, field
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
