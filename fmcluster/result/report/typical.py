r"""Which rows stand for a cluster: such that every row of it has one like it among them.

The most confident rows of a cluster are often one question asked eight times. Among its confident
rows R, a set T of a few is chosen greedily that covers the whole cluster C (facility location,
of which greedy choice reaches a share 1 - 1/e of the best; Nemhauser et al. 1978):

.. math:: \max_{T \subset R} \sum_{i \in C} \max_{t \in T} \cos(x_i, x_t).

The first is the medoid; a row that is like one chosen before it gains nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmcluster.vectors.rows import JointRows, as_spaces

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# Rows of a cluster that may stand for it, and rows that are to be covered: a thousand clusters take
# seconds, and more of them change no choice.
MOST_CANDIDATES, MOST_COVERED = 150, 300
# The share of a cluster that is confident enough to stand for it: the better half.
CONFIDENT = 0.5
# What another row must add at least, as a share of what the first gave: less is one more of a kind.
LEAST_GAIN = 1e-3

Choose = Callable[[NDArray[np.int64], int], NDArray[np.int64]]


def chooser(result: ClusterResult) -> Choose:
    """Return what chooses, of a cluster's rows, most confident first, those that stand for it.

    Without embeddings neighbors of a row that is chosen are passed over; without a graph, too, the
    most confident rows are taken.
    """
    if result.embeddings is not None:
        x = JointRows(as_spaces(result.embeddings))
        return lambda rows, count: _covering(x, rows, count)
    if result.graph is not None:
        near = result.graph.indices
        return lambda rows, count: _apart(near, rows, count)
    return lambda rows, count: rows[:count]


def cover(similarity: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Return at most `count` columns that cover the rows, the most telling one first.

    Parameters
    ----------
    similarity : (m, c)
        Of m rows to c candidates.
    count : int
        Most columns; fewer come back where more would add nothing.
    """
    best = np.zeros(len(similarity))
    chosen: list[int] = []
    first = 0.0
    for _ in range(min(count, similarity.shape[1])):
        gain = np.maximum(similarity - best[:, None], 0).sum(axis=0)
        gain[chosen] = -1
        column = int(gain.argmax())
        if chosen and gain[column] <= LEAST_GAIN * first:
            break
        first = first or float(gain[column])
        chosen.append(column)
        best = np.maximum(best, similarity[:, column])
    return np.array(chosen, np.int64)


def _covering(x: JointRows, rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    confident = rows[: max(count, int(np.ceil(CONFIDENT * len(rows))))]
    candidates, covered = _evenly(confident, MOST_CANDIDATES), _evenly(rows, MOST_COVERED)
    similarity = np.maximum(_rows(x, covered) @ _rows(x, candidates).T, 0)
    return candidates[cover(similarity, count)]


def _rows(x: JointRows, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    order = np.argsort(rows)  # a store reads forward
    out = np.empty((len(rows), x.shape[1]), np.float32)
    out[order] = x[rows[order]]
    return out


def _apart(near: NDArray[np.integer], rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the most confident rows of which none is a neighbor of another, as far as any."""
    chosen: list[int] = []
    around: set[int] = set()
    for row in rows.tolist():
        if len(chosen) == count:
            break
        if row not in around and not around.intersection(near[row].tolist()):
            chosen.append(row)
            around.update((row, *near[row].tolist()))
    rest = [row for row in rows[: 2 * count].tolist() if row not in chosen]
    return np.array([*chosen, *rest][:count], np.int64)


def _evenly(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
