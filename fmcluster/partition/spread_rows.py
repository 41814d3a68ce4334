"""How good spread labels are, on any number of rows: told from a sample where there are many."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.labels.spread import affinity, spread_labels
from fmcluster.functional.labels.spread_accuracy import SpreadAccuracy, spread_accuracy
from fmcluster.vectors.graph import evidence_graph
from fmcluster.vectors.rows import unit_rows

# Labels spread along these edges: few, since with a few labels per class each wrong edge carries.
N_NEIGHBORS = 15
# Beyond it labels are spread over so many rows again, and how well they do is told from those.
TRIAL_ROWS = 5_000


class Centered:
    """Rows less their mean, read in blocks."""

    def __init__(self, rows: Any) -> None:
        self.rows, self.shape = rows, rows.shape
        size = 65_536
        total = np.zeros(rows.shape[1])
        for i in range(0, rows.shape[0], size):
            total += np.asarray(rows[i : i + size]).sum(axis=0, dtype=np.float64)
        self.mean = (total / rows.shape[0]).astype(np.float32)

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        return np.asarray(self.rows[index], dtype=np.float32) - self.mean


def accuracy_of_spread(
    x: Any,
    graph: Any,
    rows: NDArray[np.int64],
    target: NDArray[np.int64],
    proba: NDArray[np.floating],
    agreement: float,
    *,
    seed: int = 0,
) -> SpreadAccuracy:
    """Return what to expect of spread labels.

    Parameters
    ----------
    x, graph, rows, target
        As of `functional.labels.spread.spread_labels`.
    proba : (n, c) array
        What it gave, before any calibration.
    agreement : float
        Its second value.
    seed : int
        Of the sample, of halves and random draws.
    """
    n = len(proba)
    if n > TRIAL_ROWS:
        rng = np.random.default_rng(seed)
        others = np.setdiff1d(np.arange(n), rows)
        count = min(len(others), max(TRIAL_ROWS - len(rows), len(rows)))
        some = np.sort(np.concatenate([rows, rng.choice(others, count, replace=False)]))
        x, rows = np.asarray(x[some], np.float32), np.searchsorted(some, rows)
        near = evidence_graph(unit_rows(x), k=N_NEIGHBORS, random_state=seed)
        graph = affinity(near.indices, near.similarities)
        proba, agreement = spread_labels(x, graph, rows, target, proba.shape[1])
    return spread_accuracy(x, graph, rows, target, proba, agreement, seed=seed)
