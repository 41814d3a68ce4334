"""Calibration without labels: regions, references and the curves that join them.

See `fmcluster.calibrate` for the method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from fmcluster import _references as refs
from fmcluster._calibrator import Calibrator, Curve, Floats, Regions, isotonic
from fmcluster._validation import check_labels, check_proba, seed_of
from fmcluster.functional.assignment import align_labels
from fmcluster.heads._rows import JointRows, as_spaces
from fmcluster.index import KNNGraph, iter_blocks

VIEW_SHARE = 0.2


def _relevel(shape: Floats, counts: Floats, level: float) -> Floats:
    """Shift the logits of `shape` until their weighted mean probability is `level`."""
    logits = logit(np.clip(shape, 0.02, 0.98))
    low, high = -12.0, 12.0
    for _ in range(50):
        middle = (low + high) / 2
        if np.average(expit(logits + middle), weights=counts) < level:
            low = middle
        else:
            high = middle
    return expit(logits + (low + high) / 2)


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
    graph: KNNGraph | None = None,
    labels: ArrayLike | None = None,
    views: Sequence[Sequence[Any]] | None = None,
    random_state: Any = 0,
) -> Calibrator:
    """Calibrate a head's probabilities without labels; see the module's docstring.

    Parameters
    ----------
    proba : (n, k) array-like
        The head's probabilities of its rows; k-means' softmax does as well.
    spaces : array, store or list of arrays
        The rows' embeddings, one a space.
    graph : KNNGraph, optional
        The rows' neighbours; only its number of rows is checked (regions made it superfluous).
    labels : (n,) array-like of int, optional
        The head's labels, by default the argmax.
    views : list (spaces) of lists (views) of (n, d) arrays, optional
        Cached embeddings of augmented inputs: where a view of a row falls into another cluster's
        region, votes there go to that cluster. They move the ranking, not the level.
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
    own_labels = values.argmax(axis=1) if labels is None else np.asarray(labels, dtype=np.int64)
    if rows[0].n_rows != n_rows or (graph is not None and graph.n_rows != n_rows):
        other = rows[0].n_rows if graph is None else f"{rows[0].n_rows} and {graph.n_rows}"
        raise ValueError(f"proba has {n_rows} rows, embeddings and graph {other}: not the same")
    check_labels(own_labels, n_rows)
    if n_rows < 2:
        raise ValueError("n_samples=1: at least 2 rows are needed to calibrate")
    if k == 1:
        return Calibrator("regions", 1.0, curves={"score": Curve(np.zeros(1), np.ones(1))})
    seed = seed_of(random_state, "label_free")
    joint = JointRows(rows)
    inputs = [JointRows(rows[:1])] + ([joint] if len(rows) > 1 else [])
    references = [r for s, X in enumerate(inputs) for r in refs.fit_references(X, s, k, seed)]
    assigned = refs.assign_all(references, inputs)
    weights = refs.family_weights([r.family for r in references], assigned, k)
    aligned = np.stack([align_labels(own_labels, each, n_clusters=k) for each in assigned])
    level = float(weights @ (aligned == own_labels).mean(axis=1))
    regions = _fit_regions(references, weights, aligned, inputs[-1], own_labels, k, views, rows)
    calibrator = Calibrator("regions", level, regions=regions)
    own = values.max(axis=1).astype(np.float64)
    return _fit_curves(calibrator, regions.support(inputs[-1], own_labels), own, level, k)


def _fit_regions(
    references: list[refs.Reference],
    weights: Floats,
    aligned: NDArray[np.int64],
    X: Any,
    labels: NDArray[np.int64],
    k: int,
    views: Sequence[Sequence[Any]] | None,
    rows: list[Any],
) -> Regions:
    """Count weighted votes for every label in every mini-cluster of the joint space."""
    # The mini-clusters under the joint space's linkage on all dimensions are the regions.
    centroids = next(
        r.centroids
        for r in reversed(references)
        if r.family == "ward" and isinstance(r.columns, slice)
    )

    def nearest(block: NDArray[np.float32]) -> NDArray[np.int64]:
        return (block @ centroids.T).argmax(axis=1)

    region = np.concatenate([nearest(block) for _, block in iter_blocks(X)])
    shape = (len(centroids), k)
    votes = refs.region_sums(region, aligned, lambda q: float(weights[q]), shape)
    sizes = np.maximum(np.bincount(region, minlength=len(centroids)), 1)[:, None]
    if views is not None and any(len(each) for each in views):
        counts = refs.region_sums(region, labels[None], lambda _: 1.0, shape)
        seen = np.stack(_view_labels(views, rows, nearest, counts.argmax(axis=1)))
        moved = refs.region_sums(region, seen, lambda _: 1.0 / len(seen), shape)
        votes = (1 - VIEW_SHARE) * votes + VIEW_SHARE * moved
    return Regions(centroids, (votes / sizes).astype(np.float32))


def _fit_curves(
    calibrator: Calibrator, support: Floats, own: Floats, level: float, k: int
) -> Calibrator:
    """Complete a label-free calibrator: the order of rows, the shape and the level."""
    curves = {"support_rank": Curve.ranks(support), "own_rank": Curve.ranks(own)}
    mixed = replace(calibrator, curves=curves).mix(support, own)
    order = Curve.ranks(mixed)
    shape = np.quantile(support, order.y)
    counts = np.bincount(
        np.searchsorted(order.x, mixed).clip(0, len(order.x) - 1), minlength=len(order.x)
    )
    level = float(np.clip(level, 1.0 / k, 0.99))
    curves["mixed"] = Curve(order.x, _relevel(shape, counts.astype(np.float64), level))
    found = curves["mixed"](mixed)
    curves["own"] = isotonic(own, found, np.ones(len(own)))
    return replace(calibrator, curves=curves, level=float(found.mean()))
