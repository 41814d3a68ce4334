"""Fit a head and make confidence of its scores: one way, for every caller.

A head that calibrates itself (`ClusterHead.self_calibrated`) is left as it is; all others go
through `label_free`. Rows are opened once, probabilities are computed once, and one neighbor graph
serves the head and the calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.calibration.calibrator import Calibrator
from fmcluster.calibration.label_free import label_free
from fmcluster.functional.calibration import with_confidence
from fmcluster.functional.labels.answers import RowAnswers, close_answers
from fmcluster.partition.estimates.sizes import estimate_sizes, most_correct
from fmcluster.partition.spread_rows import N_NEIGHBORS as SPREAD_NEIGHBORS
from fmcluster.partition.spread_rows import Centered, spread_with_accuracy
from fmcluster.utils.blocks import copied, row_max
from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import check_counts
from fmcluster.vectors.fit_data import HeadData, known_rows, rows_to_fit
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import JointRows, Rows, as_spaces, zero_rows

if TYPE_CHECKING:
    from fmcluster.heads.base import ClusterHead

# What reports show beside a row, labels spread over and `issues` votes with; heads that need more
# neighbors say so by their parameter `n_neighbors`.
N_NEIGHBORS = 20
# Sizes bound the level of the confidence: shares are known to a hundredth by then.
SIZED_ROWS = 4_000


@dataclass(frozen=True)
class CalibratedFit:
    """A fitted head and what it says of the rows it was fitted on.

    Attributes
    ----------
    head : ClusterHead
        Fitted.
    spaces : list of Rows
        The rows, opened once.
    graph : KNNGraph
        Their neighbors.
    scores : (n, k) float32
        The head's own probabilities.
    proba : (n, k) float32
        Calibrated; equal to `scores` where nothing was calibrated.
    calibrator : Calibrator or None
        What made the one of the other; None for self-calibrated heads.
    """

    head: Any
    spaces: list[Rows]
    graph: KNNGraph
    scores: NDArray[np.float32]
    proba: NDArray[np.float32]
    calibrator: Calibrator | None = None

    def about(self, *, n_labels: int = 0) -> dict[str, Any] | None:
        """Return what made the confidence, for provenance; None where nothing did.

        Parameters
        ----------
        n_labels : int
            Labels that a head which calibrates itself was given.
        """
        if self.calibrator is not None:
            return self.calibrator.about()
        if self.proba.shape[1] == 1:
            method = "one cluster"
        elif self.head.self_calibrated:
            method = f"{self.head.name} head"
        else:
            return None
        level = float(row_max(self.proba).mean())
        return {"method": method, "n_labels": n_labels, "level": level}


def fit_calibrated(
    head: Any,
    X: Any,
    graph: KNNGraph | None = None,
    *,
    calibrate: bool = True,
    answers: RowAnswers | None = None,
    before: ClusterHead | None = None,
    edited: NDArray[np.float32] | None = None,
    random_state: int = 0,
) -> CalibratedFit:
    """Fit `head` on embeddings and calibrate its probabilities without labels.

    Parameters
    ----------
    head : ClusterHead
        Unfitted; it is fitted in place.
    X : (n, d) array, memory map, store, or list of those
        Embeddings.
    graph : KNNGraph, optional
        Ready neighbors of the rows, used by the head and the calibration alike. Built where not
        given.
    calibrate : bool
        Whether scores are calibrated.
    answers : RowAnswers, optional
        What a person said about rows, for heads that take it.
    before, edited : ClusterHead and (n, k) array, optional
        The head that was fitted on these rows before the answers, and what a person made of its
        clusters.
    random_state : int
        Of an approximate index and of the calibration's base partitions.

    Raises
    ------
    ValueError
        As `ClusterHead.fit`.
    """
    check_counts(head)
    spaces = as_spaces(X)
    if graph is None:
        k = max(N_NEIGHBORS, getattr(head, "n_neighbors", 0))
        graph = KNNGraph.build(JointRows(spaces), k=k, random_state=random_state)
    fitted, near, told, own = rows_to_fit(spaces, graph, answers)
    if answers is not None and before is not None:
        edited = edited if edited is None or own is None else edited[own]
        scores = head.fit_answered(before, spaces, answers, graph=graph, edited=edited)
    else:
        scores = head.fit_predict_proba(spaces, graph=graph, answers=answers)
    if own is None:
        scores = head.of_own_rows(scores)
    else:
        scores = copied(scores)
        scores[own] = head.of_own_rows(scores[own])
    if not calibrate or head.self_calibrated or scores.shape[1] == 1:
        proba = held(without_evidence(scores, spaces), answers, head, own)
        return CalibratedFit(head, spaces, graph, scores, proba)
    some, _, known = known_rows(spaces, None)
    rows = slice(None) if known is None else known
    views = [space.views for space in some] if any(space.views for space in some) else None
    calibrator = label_free(
        scores[rows],
        spaces=some,
        labels=head.labels_[rows],
        views=views,
        at_most=most_likely_correct(some, head.labels_[rows], scores.shape[1], random_state),
        random_state=random_state,
    )
    if told is not None:
        of_fit = slice(None) if own is None else own
        labels = head.labels_[of_fit]
        level = answered_level(labels, fitted, near or graph, told, seed=random_state)
        if level is not None:
            sure = calibrator.confidence(scores[of_fit], fitted)
            calibrator = calibrator.at_level(sure, level, n_labels=len(told.rows))
    proba = without_evidence(calibrator.transform(scores, spaces), spaces)
    proba = held(proba, answers, head, own)
    return CalibratedFit(head, spaces, graph, scores, proba, calibrator)


def most_likely_correct(
    spaces: Sequence[Rows], labels: NDArray[np.int64], n_clusters: int, seed: int
) -> float:
    """Return the largest share of rows that labels can have right if sizes are as estimated."""
    data = HeadData(list(spaces), n_clusters, seed_of(seed, "sizes"), None)
    shares = np.bincount(labels[labels >= 0], minlength=n_clusters) / len(labels)
    return most_correct(shares, estimate_sizes(data, SIZED_ROWS))


def answered_level(
    labels: NDArray[np.int64],
    spaces: Sequence[Rows],
    graph: KNNGraph,
    answers: RowAnswers,
    *,
    seed: int,
) -> float | None:
    """Return the expected accuracy of a head that took labels; None where one class was named.

    Labels that spread over the graph have an accuracy S that they tell themselves. Where a head
    gives the same class it is right at least so often; where it does not, one of both is wrong:
    with the share a on which they agree, between a S and a. The geometric mean is taken.
    """
    if answers.n_classes < 2:
        return None
    near = graph.take(min(SPREAD_NEIGHBORS, graph.k))
    x = Centered(JointRows(list(spaces)))
    guess, told = spread_with_accuracy(
        x, near, answers.rows, answers.target, answers.n_classes, seed=seed
    )
    same = float((guess.argmax(axis=1) == labels).mean())
    return same * float(np.sqrt(told.accuracy))


def held(
    proba: NDArray[np.float32],
    answers: RowAnswers | None,
    head: ClusterHead,
    own: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Return `proba` with what rows were said to be; classes are the head's first columns.

    Labeled rows and those that are linked with them are certain. Rows that took no part in the fit
    (they are not in `own`) are as those that they are linked with.
    """
    if answers is None or not len(answers.answered):
        return proba
    place = np.empty(int(head.columns_.max()) + 1, np.int64)
    place[head.columns_] = np.arange(len(head.columns_))
    proba = copied(proba)
    groups = close_answers(answers)
    classed = groups.group < groups.n_classes
    rows = groups.rows[classed]
    proba[rows] = 0
    proba[rows, place[groups.group[classed]]] = 1
    for group in np.unique(groups.group[~classed]):
        linked = groups.rows[groups.group == group]
        known = linked if own is None else linked[own[linked]]
        if len(known) < len(linked) and len(known):
            proba[np.setdiff1d(linked, known)] = proba[known[0]]
    return proba


def without_evidence(proba: NDArray[np.float32], spaces: Sequence[Any]) -> NDArray[np.float32]:
    """Return `proba` with even shares for rows that are zero: nothing is known of them."""
    unknown = zero_rows(spaces)
    if not unknown.any():
        return proba
    proba = copied(proba)
    proba[unknown] = with_confidence(proba[unknown], np.zeros(int(unknown.sum())))
    return proba
