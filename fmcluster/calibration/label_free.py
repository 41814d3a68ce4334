"""Calibration without labels: regions, base_partitions and the curves that join them.

See `fmcluster.calibration.from_labels` for the method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from fmcluster.calibration import base_partitions
from fmcluster.calibration.calibrator import (
    KNOTS,
    Calibrator,
    Curve,
    Floats,
    MiniClusterVotes,
    isotonic,
)
from fmcluster.functional.assignment import align_labels
from fmcluster.functional.calibration import COUNTED_ENDS, shift_to_mean
from fmcluster.utils.blocks import row_argmax, row_max
from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import check_labels, check_proba
from fmcluster.vectors.rows import JointRows, as_spaces, iter_blocks

# Views speak for the encoder's invariance, not for the clusters: they move the ranking a little.
VIEW_SHARE = 0.2
# One algorithm predicts another less well than all of them predict the truth.
SHARPEN = 1.3
# Agreement of all with all is no proof that one row in a hundred is not wrong alike.
MOST_TOLD = 0.99


def _relevel(shape: Floats, level: float) -> Floats:
    """Sharpen the logits of `shape`, then shift them until the mean probability is `level`."""
    logits = SHARPEN * logit(np.clip(shape, *COUNTED_ENDS))
    return expit(logits + shift_to_mean(logits, level))


def _view_labels(
    views: Sequence[Sequence[Any]],
    spaces: list[Any],
    nearest: Callable[[NDArray[np.float32]], NDArray[np.int64]],
    majority: NDArray[np.int64],
) -> list[NDArray[np.int64]]:
    """Return the label that each augmented view of every row falls to, a list over views."""
    n_views = max((len(each) for each in views), default=0)
    found = []
    for v in range(n_views):
        parts = [w[v] if v < len(w) else x for w, x in zip(views, spaces, strict=True)]
        regions = [nearest(block) for _, block in iter_blocks(JointRows(as_spaces(parts)))]
        found.append(majority[np.concatenate(regions)])
    return found


def label_free(
    proba: ArrayLike,
    *,
    spaces: Any,
    labels: ArrayLike | None = None,
    views: Sequence[Sequence[Any]] | None = None,
    at_most: float = 1.0,
    random_state: Any = 0,
) -> Calibrator:
    """Calibrate a head's probabilities without labels; see the module's docstring.

    Parameters
    ----------
    proba : (n, k) array-like
        The head's probabilities of its rows; k-means' softmax does as well.
    spaces : array, store or list of arrays
        The rows' embeddings, one a space.
    labels : (n,) array-like of int, optional
        The head's labels, by default the argmax.
    views : list (spaces) of lists (views) of (n, d) arrays, optional
        Cached embeddings of augmented inputs: where a view of a row falls into another cluster's
        region, votes there go to that cluster. They move the ranking, not the level.
    at_most : float
        No larger share of the rows can be right, by what else is known (`most_correct`).
    random_state : None, int or generator
        Seed of the reference partitions.

    Raises
    ------
    ValueError
        Lengths that differ, fewer than 2 rows, probabilities that are none.
    """
    values = check_proba(proba)
    n_rows, k = values.shape
    rows = as_spaces(spaces)
    own_labels = row_argmax(values) if labels is None else np.asarray(labels, dtype=np.int64)
    if rows[0].n_rows != n_rows:
        raise ValueError(f"proba has {n_rows} rows, embeddings {rows[0].n_rows}: not the same")
    check_labels(own_labels, n_rows)
    if n_rows < 2:
        raise ValueError("n_samples=1: at least 2 rows are needed to calibrate")
    if k == 1:
        return Calibrator("regions", 1.0, curves={"score": Curve(np.zeros(1), np.ones(1))})
    seed = seed_of(random_state, "label_free")
    inputs = [JointRows(rows[:1])] + ([JointRows(rows)] if len(rows) > 1 else [])
    partitions = [
        r for s, X in enumerate(inputs) for r in base_partitions.fit_base_partitions(X, s, k, seed)
    ]
    assigned = base_partitions.assign_all(partitions, inputs)
    names = [r.algorithm for r in partitions]
    weights = base_partitions.algorithm_weights(names, assigned, k)
    aligned = np.stack([align_labels(own_labels, each, n_clusters=k) for each in assigned])
    members = {f: aligned[[name == f for name in names]] for f in weights}
    regions = _fit_votes(partitions, members, inputs[-1], own_labels, views, rows, k)
    own = row_max(values).astype(np.float64)
    return _fit_curves(regions, weights, members, inputs[-1], own_labels, own, at_most)


@dataclass(frozen=True)
class _Votes:
    """Every algorithm's vote shares (regions, clusters) in every region, and the views' if any."""

    centroids: NDArray[np.float32]
    by_algorithm: dict[str, Floats]
    by_views: Floats | None

    def joined(self, weights: dict[str, float]) -> MiniClusterVotes:
        """Return the regions with the votes of some algorithms, weighted."""
        total = sum(weights.values())
        votes = sum((w / total) * self.by_algorithm[f] for f, w in weights.items())
        if self.by_views is not None:
            votes = (1 - VIEW_SHARE) * votes + VIEW_SHARE * self.by_views
        return MiniClusterVotes(self.centroids, np.asarray(votes, dtype=np.float32))


def _fit_votes(
    partitions: list[base_partitions.BasePartition],
    members: dict[str, NDArray[np.int64]],
    X: Any,
    labels: NDArray[np.int64],
    views: Sequence[Sequence[Any]] | None,
    rows: list[Any],
    k: int,
) -> _Votes:
    """Count votes for every label in every mini-cluster of the joint space."""
    # The mini-clusters under the joint space's linkage on all dimensions are the regions.
    centroids = next(
        r.centroids
        for r in reversed(partitions)
        if r.algorithm == "ward" and isinstance(r.columns, slice)
    )

    def nearest(block: NDArray[np.float32]) -> NDArray[np.int64]:
        return (block @ centroids.T).argmax(axis=1)

    region = np.concatenate([nearest(block) for _, block in iter_blocks(X)])
    shape = (len(centroids), k)
    by_algorithm = {
        f: base_partitions.vote_shares(region, votes, shape) for f, votes in members.items()
    }
    by_views = None
    if views is not None and any(len(each) for each in views):
        majority = base_partitions.vote_shares(region, labels[None], shape).argmax(axis=1)
        seen = np.stack(_view_labels(views, rows, nearest, majority))
        by_views = base_partitions.vote_shares(region, seen, shape)
    return _Votes(centroids, by_algorithm, by_views)


def _fit_curves(
    votes: _Votes,
    weights: dict[str, float],
    members: dict[str, NDArray[np.int64]],
    X: Any,
    labels: NDArray[np.int64],
    own: Floats,
    at_most: float,
) -> Calibrator:
    """Fit the order of rows, the shape (each algorithm predicted by the others) and the level."""
    k = next(iter(votes.by_algorithm.values())).shape[1]
    grid = np.linspace(0.0, 1.0, KNOTS)
    shape = np.zeros(KNOTS)
    level = 0.0
    for algorithm, weight in weights.items():
        others = {f: w for f, w in weights.items() if f != algorithm}
        mixed, _ = _mixed(votes.joined(others), X, labels, own)
        agrees = (members[algorithm] == labels).mean(axis=0)
        predicted = isotonic(Curve.ranks(mixed)(mixed), agrees, np.ones(len(own)))
        shape += weight * predicted(grid)
        level += weight * float(agrees.mean())
    regions = votes.joined(weights)
    mixed, curves = _mixed(regions, X, labels, own)
    order = Curve.ranks(mixed)
    level = float(np.clip(level, 1.0 / k, max(1.0 / k, min(MOST_TOLD, at_most))))
    at_rows = _relevel(np.interp(order(mixed), grid, shape), level)
    first = np.unique(mixed, return_index=True)[1]
    knots = first[np.unique(np.linspace(0, len(first) - 1, KNOTS).astype(int))]
    curves["mixed"] = Curve(mixed[knots], at_rows[knots])
    curves["own"] = isotonic(own, at_rows, np.ones(len(own)))
    return Calibrator("regions", float(at_rows.mean()), curves=curves, regions=regions)


def _mixed(
    regions: MiniClusterVotes, X: Any, labels: NDArray[np.int64], own: Floats
) -> tuple[Floats, dict[str, Curve]]:
    """Return the blended ranks of all rows and the curves that give them for any row."""
    vote_share = regions.vote_share(X, labels)
    curves = {"support_rank": Curve.ranks(vote_share), "own_rank": Curve.ranks(own)}
    return Calibrator("regions", 0.0, curves=curves).mix(vote_share, own), curves
