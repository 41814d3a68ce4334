r"""Which cluster is which class: contingency tables and Hungarian matching.

For a table :math:`C_{ab}` of how many rows of cluster *a* belong to class *b*, the matching is the
one-to-one map that keeps most rows,

.. math:: \max_{\sigma} \sum_a C_{a\,\sigma(a)},

found by the Hungarian algorithm (Kuhn, 1955). The table need not be square: clusters beyond the
number of classes stay unmatched, and so do classes beyond the number of clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from fmcluster.utils.validation import check_labels

UNASSIGNED = -1


@dataclass(frozen=True)
class Contingency:
    """How many rows of each cluster belong to each class.

    Attributes
    ----------
    table : (n_clusters, n_classes) int64
        Rows of cluster *a* and class *b*.
    clusters : (n_clusters,)
        The label of each row of the table.
    classes : (n_classes,)
        The class of each column, sorted.
    cluster_index : (n,) int64
        Each row's position in `clusters`, -1 where it is unassigned.
    class_index : (n,) int64
        Each row's position in `classes`.
    """

    table: NDArray[np.int64]
    clusters: NDArray[np.generic]
    classes: NDArray[np.generic]
    cluster_index: NDArray[np.int64]
    class_index: NDArray[np.int64]


def _indexed(values: NDArray[np.generic]) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
    distinct, index = np.unique(values, return_inverse=True)
    return distinct, index.reshape(-1).astype(np.int64)


def contingency(y: ArrayLike, labels: ArrayLike, *, n_clusters: int | None = None) -> Contingency:
    """Count rows by cluster and class.

    Parameters
    ----------
    y : (n,) array-like
        Classes: integers, strings or anything that numpy can sort.
    labels : (n,) array-like
        Clusters, likewise; the number -1 means that a row was assigned to none.
    n_clusters : int, optional
        When given, labels are positions 0..n_clusters-1 (or -1) and the table has a row for each,
        empty ones included.

    Raises
    ------
    ValueError
        No rows, unequal lengths, or labels outside 0..n_clusters-1.
    """
    labels_ = check_labels(labels)
    y_ = check_labels(y, len(labels_), name="y")
    if len(y_) == 0:
        raise ValueError("y and labels are empty: at least one row is needed")
    classes, class_index = _indexed(y_)
    numbers = labels_.dtype.kind in "if"
    assigned = labels_ != UNASSIGNED if numbers else np.ones(len(labels_), dtype=bool)
    cluster_index = np.full(len(y_), UNASSIGNED, dtype=np.int64)
    if n_clusters is None:
        clusters, cluster_index[assigned] = _indexed(labels_[assigned])
    else:
        clusters = np.arange(n_clusters)
        if labels_.dtype.kind not in "iuf":
            raise ValueError(
                f"labels of dtype {labels_.dtype} do not name the {n_clusters} columns of proba: "
                "give integers 0..k-1"
            )
        found = labels_[assigned].astype(np.int64)
        if len(found) and (found.min() < 0 or found.max() >= n_clusters):
            raise ValueError(
                f"labels run from {found.min()} to {found.max()}, expected 0..{n_clusters - 1} "
                "(the columns of proba) or -1"
            )
        cluster_index[assigned] = found
    flat = cluster_index[assigned] * len(classes) + class_index[assigned]
    table = np.bincount(flat, minlength=len(clusters) * len(classes))
    table = table.reshape(len(clusters), len(classes)).astype(np.int64)
    return Contingency(table, clusters, classes, cluster_index, class_index)


def hungarian(table: ArrayLike) -> NDArray[np.int64]:
    """Match rows to columns one to one so that the sum of the matched entries is largest.

    Parameters
    ----------
    table : (a, b) array-like of numbers
        Rectangular tables are allowed.

    Returns
    -------
    (a,) int64
        The column of each row, -1 for rows left without one (where a > b).
    """
    scores = np.asarray(table)
    if scores.ndim != 2:
        raise ValueError(f"table has shape {scores.shape}, expected 2-D (clusters, classes)")
    match = np.full(scores.shape[0], UNASSIGNED, dtype=np.int64)
    if scores.size:
        rows, columns = linear_sum_assignment(scores, maximize=True)
        match[rows] = columns
    return match


def align_labels(
    reference: ArrayLike, labels: ArrayLike, *, n_clusters: int | None = None
) -> NDArray[np.int64]:
    """Rename the clusters of `labels` after those of `reference` that they overlap most.

    Parameters
    ----------
    reference, labels : (n,) array-like of integers 0..k-1 (-1: unassigned in `labels`)
        Two partitions of the same rows.
    n_clusters : int, optional
        Number of clusters of `reference`; by default its largest label plus one.

    Returns
    -------
    (n,) int64
        Labels in the names of `reference`; -1 where a cluster has no partner (one to one).
    """
    names = np.asarray(reference, dtype=np.int64)
    size = int(names.max()) + 1 if n_clusters is None else n_clusters
    pairs = contingency(names, labels)
    table = np.zeros((len(pairs.clusters), size), dtype=np.int64)
    table[:, pairs.classes.astype(np.int64)] = pairs.table
    match = np.append(hungarian(table), UNASSIGNED)  # index -1 (unassigned) finds the last entry
    return match[pairs.cluster_index]


def agreement(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    n_clusters: int,
    weights: NDArray[np.floating] | None = None,
) -> float:
    """Return the share of rows that two partitions put alike, clusters matched one to one."""
    same = first == align_labels(first, second, n_clusters=n_clusters)
    return float(np.average(same, weights=weights))
