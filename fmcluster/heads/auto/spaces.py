"""Several spaces: all of them side by side, or the one whose clusters come out again.

A second space helps where it knows something else (words beside sentences) and hurts where it only
adds noise. Partitions of two halves of the rows agree (`agreement`) the better, the more of a space
is clusters: the space, or all of them together, with the best agreement is taken.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fmcluster.heads.auto.agreement import split_agreement
from fmcluster.partition.refine import N_NEIGHBORS, RefinementContext
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import JointRows, Rows, sample_indices, unit_rows

# Agreement of more rows changes no choice of the nineteen worlds of two spaces that were looked at.
SAMPLE_ROWS = 3_000
# Halves are chance: one pair of them errs by .02, which decides between spaces that differ by less.
N_DRAWS = 3
# All spaces together are left only for one that is better by more than chance (log, 35).
MARGIN = 0.01


def choose_space(data: HeadData) -> int | None:
    """Return the number of the only space to look at, None where all are to be."""
    seed = data.seed("spaces")
    index = np.arange(data.n_rows)
    if data.n_rows > SAMPLE_ROWS:
        index = sample_indices(data.joint, SAMPLE_ROWS, seed)
    whole = _agreement(data.spaces, index, data.n_clusters, seed)
    each = [_agreement([space], index, data.n_clusters, seed) for space in data.spaces]
    best = int(np.argmax(each))
    return best if each[best] > whole + MARGIN else None


def only(data: HeadData, space: int | None) -> HeadData:
    """Return the data with one of its spaces; a graph of all of them does not serve it."""
    return data if space is None else replace(data, spaces=[data.spaces[space]], _graph=None)


def _agreement(spaces: list[Rows], index: np.ndarray, n_clusters: int, seed: int) -> float:
    rows = JointRows(spaces)[index]
    rows = rows[np.abs(rows).sum(axis=1) > 0]  # of a row that is zero here nothing is known here
    # Halves of fewer than two rows a cluster have nothing to agree on.
    if len(rows) < 4 * n_clusters:
        return 0.0
    rows = unit_rows(rows - (1 - 1 / n_clusters) * rows.mean(axis=0))
    graph = KNNGraph.build(rows, k=N_NEIGHBORS)
    context = RefinementContext(rows, graph, seed)
    draws = [split_agreement(context, n_clusters, seed=seed + i) for i in range(N_DRAWS)]
    return float(np.mean(draws))
