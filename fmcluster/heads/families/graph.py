"""What the heads that cluster the neighbor graph share: nodes for rows, and the map over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.heads.base import ClusterHead
from fmcluster.partition.landmarks import LandmarkMap
from fmcluster.vectors.rows import joint


@dataclass(eq=False, repr=False, kw_only=True)
class GraphHead(ClusterHead):
    """Base of the heads whose `_fit` leaves a `LandmarkMap` in ``space_``.

    Parameters
    ----------
    n_neighbors : int
        Neighbors per node in the graph.
    max_nodes : int
        Above so many rows, a third as many mini-clusters stand for them.
    """

    # Fewer break clusters into parts of the graph, more join small ones to others.
    n_neighbors: int = 20
    # Time of the eigenvectors and factors: of 20,000 rows they take seconds.
    max_nodes: int = 30_000

    def _proba(self, xs: list[NDArray[np.float32]]) -> NDArray[np.floating]:
        return self.space_.proba(joint(xs))

    def _state(self) -> dict[str, NDArray[Any]]:
        return self.space_.arrays()

    def _load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.space_ = LandmarkMap.from_arrays(arrays)
