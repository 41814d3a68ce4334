"""What a fit looks at: all rows, or of very many the nodes that their neighbor graph is made to.

Everything that is said of a point is said of its rows, so memory and time of what votes, students
and answers cost do not grow with the rows, and no row is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.labels.answers import RowAnswers
from fmcluster.partition.mini_clusters import group_sums
from fmcluster.partition.nodes import affinities, coarsen
from fmcluster.partition.refine import N_NEIGHBORS
from fmcluster.utils.blocks import row_blocks
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import BLOCK_ROWS, unit_rows

# Edges that join very many rows to nodes: the nearest decide, and all would take more memory than
# the rows that are not held.
FEW = 3


@dataclass(frozen=True)
class Points:
    """Rows, or nodes of them.

    Attributes
    ----------
    of_row : (n,) int64
        The point of each row.
    rows : (m, d) float32
        Unit rows: a point's own, or the mean of its rows.
    graph : KNNGraph
        Their neighbors.
    weights : (m,) float64 or None
        How many rows each stands for; None where each is one row.
    """

    of_row: NDArray[np.int64]
    rows: NDArray[np.float32]
    graph: KNNGraph
    weights: NDArray[np.float64] | None = None

    def mean(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the rows' `values` (n, k) are on the mean of each point, (m, k)."""
        if self.weights is None:
            return values
        total = np.zeros((len(self.weights), values.shape[1]))
        for part in row_blocks(values):
            there, of = np.unique(self.of_row[part], return_inverse=True)
            total[there] += group_sums(values[part], of, len(there))
        return (total / self.weights[:, None]).astype(np.float32)

    def answers(self, answers: RowAnswers) -> RowAnswers:
        """Return answers about rows as answers about points."""
        if self.weights is None:
            return answers
        rows = answers.answered
        return answers.moved(rows, self.of_row[rows])


def points_of(data: HeadData, most: int) -> Points:
    """Return the rows as points; of more than `most` rows, as many nodes."""
    graph = data.graph(N_NEIGHBORS)
    if data.n_rows <= most:
        return Points(np.arange(data.n_rows), data.joint[:], graph)
    node = coarsen(affinities(graph.take(min(FEW, graph.k))), most)
    if node.max() >= most:  # so few edges leave too many parts
        node = coarsen(affinities(graph), most)
    m = int(node.max()) + 1
    sums = np.zeros((m, data.joint.shape[1]))
    for start in range(0, data.n_rows, BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        sums += group_sums(data.joint[part], node[part], m)
    rows = unit_rows(sums)
    near = KNNGraph.build(rows, k=N_NEIGHBORS)
    return Points(node, rows, near, np.bincount(node).astype(np.float64))
