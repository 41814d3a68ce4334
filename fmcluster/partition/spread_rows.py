"""Labels spread from a few rows over all, and how good they are: told from a sample of many."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.labels.spread import affinity, spread_labels
from fmcluster.functional.labels.spread_accuracy import SpreadAccuracy, spread_accuracy
from fmcluster.utils import distributed
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import BLOCK_ROWS, unit_rows

# No row without an answer is surer: one in two hundred is an answer's own error.
MOST_SURE = 0.995
# Labels spread along these edges: few, since with a few labels per class each wrong edge carries.
N_NEIGHBORS = 15
# Beyond it labels are spread over so many rows again, and how well they do is told from those.
TRIAL_ROWS = 5_000


def believable(level: float, n_classes: int) -> float:
    """Return an expected accuracy above chance and below what answers themselves allow."""
    # A little above chance: at it, a temperature would have nothing to fit.
    return float(np.clip(level, 1 / n_classes + 1e-3, MOST_SURE))


class Centered:
    """Rows less their mean, read in blocks."""

    def __init__(self, rows: Any) -> None:
        self.rows, self.shape = rows, rows.shape
        size = 8 * BLOCK_ROWS
        total = np.zeros(rows.shape[1])
        for i in range(0, rows.shape[0], size):
            total += np.asarray(rows[i : i + size]).sum(axis=0, dtype=np.float64)
        self.mean = (total / rows.shape[0]).astype(np.float32)

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        return np.asarray(self.rows[index], dtype=np.float32) - self.mean


def spread_with_accuracy(
    x: Any,
    near: KNNGraph,
    rows: NDArray[np.int64],
    target: NDArray[np.int64],
    n_classes: int,
    *,
    seed: int = 0,
) -> tuple[NDArray[np.float32], SpreadAccuracy]:
    """Return class scores (n, c) of all rows, before any calibration, and what to expect of them.

    Parameters
    ----------
    x, rows, target, n_classes
        As of `functional.labels.spread.spread_labels`.
    near : KNNGraph
        Neighbors of the rows.
    seed : int
        Of the sample, of halves and random draws.
    """
    graph = affinity(near.indices, near.similarities)
    found, agreement = spread_labels(x, graph, rows, target, n_classes, device=distributed.gpu())
    proba, n = found, len(found)
    if n > TRIAL_ROWS:
        rng = np.random.default_rng(seed)
        others = np.setdiff1d(np.arange(n), rows)
        count = min(len(others), max(TRIAL_ROWS - len(rows), len(rows)))
        some = np.sort(np.concatenate([rows, rng.choice(others, count, replace=False)]))
        x, rows = np.asarray(x[some], np.float32), np.searchsorted(some, rows)
        near = KNNGraph.build(unit_rows(x), k=N_NEIGHBORS, random_state=seed)
        graph = affinity(near.indices, near.similarities)
        proba, agreement = spread_labels(
            x, graph, rows, target, n_classes, device=distributed.gpu()
        )
    return found, spread_accuracy(x, graph, rows, target, proba, agreement, seed=seed)
