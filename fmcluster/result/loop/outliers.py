r"""Belonging nowhere: several clusters, none, or a row unlike all others; the same for every head.

Three questions that one confidence cannot answer. Which clusters are near? `top`. Is the label sure
enough? `abstain`, from the calibrated confidence. Does the row resemble anything here?
`outlier_score` and `outliers`, and of new rows `update` and `drift`, from the neighbors: a row's
distance to its nearest others, for their scale (`fmcluster.vectors.strangeness`), ranked among
those of all rows.
The rank is a conformal p-value: of rows like the others a share alpha has one of at most alpha.

The head has no part in it: how sure a head is of rows that it was fitted on tells nothing exact of
new rows (at alpha 5 % its largest probability flags 7), and less of rows of unseen classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.conformal import own_p_values
from fmcluster.utils.blocks import row_blocks
from fmcluster.utils.validation import check_range
from fmcluster.vectors.strangeness import own_strangeness, unknown_rows

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult


# So many are found one after the other in less time than all are sorted: of 5,000, in a fiftieth.
FEW = 8


# By default the cluster and the two it is taken for; later shares are small as a rule.
def top(result: ClusterResult, count: int = 3) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the most probable clusters of each row: a row may be near several.

    Parameters
    ----------
    count : int
        How many, 1..k.

    Returns
    -------
    clusters : (n, count) int64
        Most probable first.
    proba : (n, count) float32
        Their probabilities.

    Raises
    ------
    ValueError
        `count` is outside 1..k.
    """
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
        raise TypeError(f"count must be a whole number, got {count!r}")
    if not 1 <= count <= result.n_clusters:
        raise ValueError(f"count={count} is outside 1..{result.n_clusters}, the clusters there are")
    found = [_largest(result.proba[rows], count) for rows in row_blocks(result.proba)]
    order, proba = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return order, proba


def _largest(
    proba: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return columns and values (n, count) of the largest of each row, of equal ones the first."""
    order = np.empty((len(proba), count), np.int64)
    if count > FEW:
        order[:] = np.argsort(-proba, axis=1, kind="stable")[:, :count]
    else:
        rest, rows = proba.copy(), np.arange(len(proba))
        for place in range(count):
            order[:, place] = rest.argmax(axis=1)
            rest[rows, order[:, place]] = -1
    return order, np.take_along_axis(proba, order, axis=1)


# By its confidence a kept row is right four times in five at least; higher keeps fewer.
def abstain(result: ClusterResult, min_confidence: float = 0.8) -> NDArray[np.int64]:
    """Return the labels (n,), -1 where the confidence is below `min_confidence`.

    Parameters
    ----------
    min_confidence : float
        In [0, 1].

    Raises
    ------
    ValueError
        `min_confidence` is outside [0, 1].
    """
    check_range(min_confidence, "min_confidence", low=0, high=1)
    return np.where(result.confidence >= min_confidence, result.labels, np.int64(-1))


def outlier_score(result: ClusterResult) -> NDArray[np.float64]:
    """Share of rows (n,) that fit better than this one, in [0, 1]; 1 for rows of zeros.

    A row fits as its neighbors are near for the scale on which they lie themselves; every head is
    judged alike, with or without the embeddings at hand.

    Raises
    ------
    ValueError
        The result has no neighbor graph.
    """
    scores, unknown = _scores(result)
    known = scores[~unknown]
    better = np.searchsorted(np.sort(known), scores, side="left")
    return np.where(unknown, 1.0, better / max(len(known) - 1, 1))


# One good row in a hundred may be named; more are looked through in vain, less misses odd ones.
def outliers(result: ClusterResult, alpha: float = 0.01) -> NDArray[Any]:
    """Return the ids of rows that resemble the others least, the least first.

    Those whose conformal p-value among all rows is at most `alpha`. So about `alpha` n rows are
    named even where all is well: `alpha` is how many good rows may be, not how many bad ones are.
    Of rows that do not belong to the data many more are.

    Parameters
    ----------
    alpha : float
        In (0, 1).

    Returns
    -------
    (m,) ids
        Rows of zeros are always among them, first.

    Raises
    ------
    ValueError
        `alpha` is outside (0, 1), or the result has no neighbor graph.
    """
    check_alpha(alpha)
    scores, unknown = _scores(result)
    p = np.zeros(len(scores))
    p[~unknown] = own_p_values(scores[~unknown])
    found = np.flatnonzero(p <= alpha)
    return result.ids[found[np.argsort(p[found], kind="stable")]]


def check_alpha(alpha: float) -> float:
    """Return `alpha` if it lies in (0, 1)."""
    check_range(alpha, "alpha", low=0, high=1, open_low=True)
    if alpha == 1:
        raise ValueError("alpha=1 is outside (0, 1): every row would be an outlier")
    return float(alpha)


def _scores(result: ClusterResult) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the strangeness of each row and which rows nothing is known of."""
    if result.graph is None:
        raise ValueError(
            "this needs the neighbor graph, and the result has none: cluster again, or give it by "
            "dataclasses.replace(result, graph=KNNGraph.build(embeddings))"
        )
    return own_strangeness(result.graph), unknown_rows(result.graph)
