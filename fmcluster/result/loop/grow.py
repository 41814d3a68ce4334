r"""Clusters for new rows that fit none: found among them, and a step that predicts them.

**Found.** The rows that fit nothing are counted as everywhere (`estimates.number`) and clustered by
the toolkit's own head. A row stays where at least half of its nearest rows, old ones among them,
are of its own group; groups of fewer than `FEWEST` rows are no clusters. So rows that are only far
from everything, and from each other, remain without one.

**Predicted.** With the direction :math:`\mu_j` of new cluster j and those of all clusters, a row's
contrast is :math:`z_j(x) = \langle x, \mu_j\rangle - \max_{c \ne j} \langle x, \mu_c\rangle`, and

.. math::

    q_j(x) = \sigma(a_j + b_j z_j(x)), \qquad
    P' = \big[\,(1 - \textstyle\sum_j q_j)\, P,\; q\,\big]

(a, b) by logistic regression of the cluster's own rows, each held against the mean of the others,
against all old rows. Old clusters keep their numbers; new ones are k, k + 1, ...
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fmcluster.functional.labels.few_labels import LinePrior, fit_line
from fmcluster.heads import make_head
from fmcluster.partition.estimates.number import N_NEIGHBORS, STRUCTURE, estimate_number
from fmcluster.result.editing.chain import Edit, Names, Prior, full_names
from fmcluster.result.editing.columns import Labels, Proba
from fmcluster.result.loop.reference import Reference
from fmcluster.utils.errors import CollapseWarning
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import (
    BLOCK_ROWS,
    GATHER_ROWS,
    as_spaces,
    count_distinct,
    joint,
    unit_rows,
    zero_rows,
)

# Rows that make a cluster: fewer look alike by chance, and have no mean to be held against.
FEWEST = 5
# Rows of a group's own among so many nearest rows; and clusters counted from so many rows on.
NEAREST, FEWEST_COUNTED = 5, 8
# Wide but for the slope, which separated rows would drive to infinity.
LINE = LinePrior(mean=(0.0, 4.0), sd=(10.0, 4.0))


@dataclass(frozen=True)
class NewClusters:
    """What predicts new clusters.

    Attributes
    ----------
    centroids : (g, d) float32
        Their directions, the spaces side by side.
    others : (k, d) float32
        Directions of the clusters there were.
    lines : (g, 2) float64
        Intercept and slope of each.
    """

    centroids: NDArray[np.float32]
    others: NDArray[np.float32]
    lines: NDArray[np.float64]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the attributes by name."""
        return {name: np.ascontiguousarray(value) for name, value in vars(self).items()}

    def proba(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probabilities (m, g) of the new clusters for unit rows; sums are at most 1."""
        q = expit(self.lines[:, 0] + self.lines[:, 1] * _contrast(x, self.centroids, self.others))
        return q / np.maximum(q.sum(axis=1, keepdims=True), 1)


@dataclass(frozen=True)
class Grow(Edit):
    """New clusters after the last.

    Attributes
    ----------
    names : tuple of str or None
        Names of the new clusters; None where nothing is named.
    part_shares : (g,) tuple of float
        Their shares of all rows.
    model : NewClusters
        What predicts them.
    """

    op: ClassVar[str] = "update"
    names: tuple[str, ...] | None = None
    part_shares: tuple[float, ...] = ()
    model: NewClusters | None = field(default=None, compare=False)

    def count(self, n_clusters: int) -> int:
        return n_clusters + len(self.part_shares)

    def parts(self, xs: Any) -> NDArray[np.float32]:
        """Return the probabilities (m, g) of the new clusters; even for rows of zeros."""
        assert self.model is not None
        spaces = as_spaces(xs)
        g, k = len(self.model.centroids), len(self.model.others)
        out = np.empty((spaces[0].n_rows, g), np.float32)
        for start in range(0, len(out), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            out[rows] = self.model.proba(joint([space[rows] for space in spaces]))
        out[zero_rows(spaces)] = 1 / (g + k)
        return out

    def columns(self, proba: Proba, labels: Labels, parts: Any) -> tuple[Proba, Labels]:
        out = grown_columns(proba, parts)
        return out, np.where(labels >= 0, out.argmax(axis=1), -1)

    def named(self, names: Names, n_clusters: int) -> Names:
        if names is None and self.names is None:
            return None
        new = range(n_clusters, self.count(n_clusters))
        return (*full_names(names, n_clusters), *(self.names or (f"cluster {c}" for c in new)))

    def shares(self, prior: Prior) -> Prior:
        new = np.asarray(self.part_shares)
        return np.concatenate([prior * (1 - new.sum()), new])

    def log(self) -> dict[str, Any]:
        return {"op": self.op, "new_clusters": len(self.part_shares)}


def grown_columns(proba: Proba, parts: NDArray[Any]) -> Proba:
    """Return probabilities (m, k + g) with those of new clusters (m, g) beside them."""
    rest = proba * (1 - parts.sum(axis=1, keepdims=True, dtype=np.float64))
    out = np.concatenate([rest, parts], axis=1)
    return np.asarray(out / out.sum(axis=1, keepdims=True), np.float32)


def find_clusters(x: NDArray[np.float32], reference: Reference, *, seed: int) -> NDArray[np.int64]:
    """Return the new cluster (m,) of unit rows that fit no old one, largest first; -1 for none."""
    m = len(x)
    if m < FEWEST:
        return np.full(m, -1, np.int64)
    groups = _groups(x, seed)
    n_near = min(NEAREST, m - 1)
    own = np.zeros(m, np.int64)
    for start in range(0, m, GATHER_ROWS):
        rows = np.arange(start, min(start + GATHER_ROWS, m))
        cosines = x[rows] @ x.T
        cosines[rows - start, rows] = -np.inf
        near = np.argsort(-cosines, axis=1, kind="stable")[:, :n_near]
        ours = np.take_along_axis(cosines, near, axis=1)
        theirs, _ = reference.index.search(x[rows], min(NEAREST, len(reference.labels)))
        # Among the nearest of both kinds: its rank among ours, and the old rows before it.
        place = np.arange(n_near) + (theirs[:, None, :] > ours[:, :, None]).sum(axis=2)
        own[rows] = ((place < n_near) & (groups[near] == groups[rows][:, None])).sum(axis=1)
    sizes = np.bincount(groups)
    enough = np.minimum(NEAREST, np.maximum(sizes[groups] - 1, 1)) / 2
    groups = np.where(own >= enough, groups, -1)
    sizes = np.bincount(groups[groups >= 0], minlength=len(sizes))
    order = np.argsort(-sizes, kind="stable")[: int((sizes >= FEWEST).sum())]
    number = np.full(len(sizes) + 1, -1, np.int64)
    number[order] = np.arange(len(order))
    return number[groups]


def _groups(x: NDArray[np.float32], seed: int) -> NDArray[np.int64]:
    """Return one group (m,) for each row: one for all, where nothing tells several."""
    one = np.zeros(len(x), np.int64)
    if len(x) < FEWEST_COUNTED or count_distinct(x, 2) < 2:
        return one
    graph = KNNGraph.build(x, k=min(N_NEIGHBORS, len(x) - 1))
    found = estimate_number(x, graph, k_range=(2, max(2, len(x) // FEWEST)), random_state=seed)
    if found.gain < STRUCTURE:
        return one
    with warnings.catch_warnings(action="ignore", category=CollapseWarning):
        return make_head("auto", n_clusters=found.best, random_state=seed).fit(x).labels_


def fit_new_clusters(
    x: NDArray[np.float32], groups: NDArray[np.int64], reference: Reference, n_clusters: int
) -> NewClusters:
    """Fit what predicts new clusters.

    Parameters
    ----------
    x : (m, d) float32
        Unit rows of the new clusters.
    groups : (m,) int64
        The new cluster of each, 0..g-1.
    reference : Reference
        The old rows.
    n_clusters : int
        Clusters there were.
    """
    g, n = int(groups.max()) + 1, len(reference.labels)
    sums = np.stack([x[groups == j].sum(axis=0, dtype=np.float64) for j in range(g)])
    centroids = unit_rows(sums)
    old = np.zeros((n_clusters, x.shape[1]))
    for start in range(0, n, BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        np.add.at(old, reference.labels[rows], np.asarray(reference.x[rows]))
    others = unit_rows(old)
    z_old = np.concatenate(
        [
            _contrast(np.asarray(reference.x[start : start + BLOCK_ROWS]), centroids, others)
            for start in range(0, n, BLOCK_ROWS)
        ]
    )
    left_out = unit_rows(sums[groups] - x)  # no row is held against itself
    z_new = _contrast(x, centroids, others)
    own = np.arange(len(x))
    z_new[own, groups] += np.einsum("id,id->i", x, left_out - centroids[groups])
    lines = np.empty((g, 2))
    for j in range(g):
        z = np.concatenate([z_new[groups == j, j], z_old[:, j], z_new[groups != j, j]])
        target = np.zeros(len(z))
        target[: int((groups == j).sum())] = 1
        mean, scale = z.mean(), max(float(z.std()), 1e-9)
        intercept, slope = fit_line((z - mean) / scale, target, np.ones(len(z)), LINE)
        lines[j] = intercept - slope * mean / scale, slope / scale
    return NewClusters(centroids, others, lines)


def _contrast(
    x: NDArray[np.float32], centroids: NDArray[np.float32], others: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return each new cluster's cosine (m, g) less the largest of any other cluster's."""
    ours = (x @ centroids.T).astype(np.float64)
    best = (x @ others.T).max(axis=1).astype(np.float64)
    out = np.empty_like(ours)
    for j in range(ours.shape[1]):
        rest = np.delete(ours, j, axis=1).max(axis=1, initial=-np.inf)
        out[:, j] = ours[:, j] - np.maximum(best, rest)
    return out
