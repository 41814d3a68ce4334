r"""Edits as operations on the columns of probabilities, for rows that were clustered and new ones.

Clusters are the columns of P (n, k). Merging adds columns, dissolving drops one and scales the
rest, splitting c multiplies by the parts' probabilities q:

.. math::

    P'_{i,a} = \sum_{c \to a} P_{ic}, \qquad
    P'_{ic'} = P_{ic'} / (1 - P_{ic}), \qquad
    P'_{i,c_j} = P_{ic}\, q_j(x_i).

Rows keep to one another: labels of a merged partition are unions of the old ones and those of a
split lie inside them, so that coarse and fine partitions nest. Two small probabilities may add up
to more than that of the label, and a part may have less than another cluster: there the label keeps
its probability, which was calibrated, and the others are evened out below it (`settle`).

Numbers stay without gaps at the least cost: a merged cluster takes the smallest number of its
members, and a number that becomes free is taken by the last cluster, so that all others keep
theirs. New parts get the next numbers after the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.calibration import with_confidence

Proba = NDArray[np.float32]
Labels = NDArray[np.int64]

# What is left of a row without the dissolved cluster's column is no evidence below this.
TINY = 1e-6


def merged_numbers(n_clusters: int, groups: Iterable[Sequence[int]]) -> Labels:
    """Return the new number (k,) of each cluster when groups of clusters become one each."""
    first = np.arange(n_clusters)
    for group in groups:
        first[list(group)] = min(group)
    return _closed_up(first)


def numbers_without(n_clusters: int, cluster: int) -> Labels:
    """Return the new number (k,) of each cluster when one goes, whose number is -1."""
    first = np.arange(n_clusters)
    first[cluster] = -1
    return _closed_up(first)


def _closed_up(first: Labels) -> Labels:
    """Let the last numbers fill the gaps; -1 stays."""
    kept = np.unique(first[first >= 0])
    place = np.full(len(first), -1, np.int64)
    stays, moves = kept[kept < len(kept)], kept[kept >= len(kept)]
    place[stays] = stays
    place[moves] = np.setdiff1d(np.arange(len(kept)), stays)
    return np.where(first >= 0, place[first], -1)


def renumber(labels: Labels, numbers: Labels) -> Labels:
    """Return labels (n,) under new numbers (k,); rows of no cluster (-1) stay so."""
    return np.where(labels >= 0, numbers[labels], -1)


def merge_columns(proba: Proba, labels: Labels, numbers: Labels) -> tuple[Proba, Labels]:
    """Return probabilities (n, k') and labels of the union of clusters with equal new numbers.

    Parameters
    ----------
    proba : (n, k) float32
        Rows sum to one.
    labels : (n,) int64
        Cluster of each row, -1 for none.
    numbers : (k,) int64
        New number of each cluster, 0..k'-1, as of `merged_numbers` or any other onto map.
    """
    out = np.zeros((len(proba), int(numbers.max()) + 1), np.float32)
    for old, new in enumerate(numbers):
        out[:, new] += proba[:, old]
    if out.shape[1] == 1:
        out[:] = 1  # whatever the sums were rounded to
    return settle(np.minimum(out, 1), renumber(labels, numbers))


def split_columns(
    proba: Proba, labels: Labels, cluster: int, parts: NDArray[Any]
) -> tuple[Proba, Labels]:
    """Return probabilities (n, k + p - 1) and labels with a cluster split into p parts.

    Parameters
    ----------
    proba, labels
        As of `merge_columns`.
    cluster : int
        Its first part keeps this number, the others get k, k + 1, ...
    parts : (n, p) array
        Probability of each part for every row, given that it is of the cluster.
    """
    k, inside = proba.shape[1], labels == cluster
    out = np.concatenate([proba, proba[:, [cluster]] * parts[:, 1:]], axis=1, dtype=np.float32)
    out[:, cluster] *= parts[:, 0]
    part = parts.argmax(axis=1)
    return settle(out, np.where(inside & (part > 0), k - 1 + part, labels))


def drop_column(
    proba: Proba, labels: Labels, cluster: int, spill: NDArray[Any]
) -> tuple[Proba, Labels]:
    """Return probabilities (n, k - 1) and labels without a cluster; its rows go to the next best.

    Parameters
    ----------
    proba, labels
        As of `merge_columns`.
    cluster : int
        The one that goes.
    spill : (k - 1,) array
        Probabilities, under the new numbers, for rows that nothing but the cluster was likely for.
    """
    numbers = numbers_without(proba.shape[1], cluster)
    rest = without_column(proba, numbers)
    mass = rest.sum(axis=1, dtype=np.float64)[:, None]
    rest = np.where(mass > TINY, rest / np.maximum(mass, TINY), spill).astype(np.float32)
    out = np.where(labels == cluster, rest.argmax(axis=1), renumber(labels, numbers))
    return settle(rest, out)


def without_column(proba: Proba, numbers: Labels) -> Proba:
    """Return the columns (n, k - 1) of the clusters that stay, under their new numbers."""
    kept = np.flatnonzero(numbers >= 0)
    return proba[:, kept[np.argsort(numbers[kept])]]


def settle(proba: Proba, labels: Labels) -> tuple[Proba, Labels]:
    """Return rows whose largest entry is that of their label, which keeps its probability."""
    over = np.flatnonzero((labels >= 0) & (proba.argmax(axis=1) != labels))
    if not len(over):
        return proba, labels
    rows, own = proba[over], labels[over]
    confidence = rows[np.arange(len(over)), own].astype(np.float64)
    rows[np.arange(len(over)), own] = 2.0  # more than any probability: the label is the argmax
    out = proba.copy()
    out[over] = with_confidence(rows, confidence)
    return out, labels
