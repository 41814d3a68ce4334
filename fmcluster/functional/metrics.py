r"""How good a partition is against known classes: every figure in one call.

ACC is the share of rows whose cluster is matched to their class by the one-to-one map that makes
this share largest (`functional.assignment`); NMI is mutual information over the arithmetic mean of
the two entropies; ARI is the Rand index corrected for chance (Hubert & Arabie, 1985). Labels are
read here to evaluate, never to fit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.functional import calibration
from fmcluster.functional.assignment import UNASSIGNED, Contingency, contingency, hungarian
from fmcluster.utils.blocks import row_max
from fmcluster.utils.validation import check_labels, check_proba

Correct = NDArray[np.bool_]


def _matched(pairs: Contingency) -> Correct:
    """Say for each row whether its cluster is matched to its class; unassigned rows are wrong."""
    match = np.append(hungarian(pairs.table), UNASSIGNED)
    return match[pairs.cluster_index] == pairs.class_index


def matched_correct(y: ArrayLike, labels: ArrayLike) -> Correct:
    """Return (n,) bool: whether each row is right under the best one-to-one match."""
    return _matched(contingency(y, labels))


def accuracy(y: ArrayLike, labels: ArrayLike) -> float:
    """Return the share of rows that are right under the best one-to-one match (ACC)."""
    return float(matched_correct(y, labels).mean())


def _entropy(counts: NDArray[np.int64]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _full_table(y: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """Return the table with unassigned rows as one more cluster, as scikit-learn counts them."""
    labels = check_labels(labels)
    return contingency(y, np.unique(labels, return_inverse=True)[1].reshape(-1)).table


def nmi(y: ArrayLike, labels: ArrayLike) -> float:
    """Return normalized mutual information, 0..1; rows labeled -1 form one cluster."""
    table = _full_table(y, labels)
    clusters, classes = _entropy(table.sum(axis=1)), _entropy(table.sum(axis=0))
    if clusters == 0.0 and classes == 0.0:
        return 1.0
    information = clusters + classes - _entropy(table.ravel())
    return float(np.clip(information / ((clusters + classes) / 2), 0.0, 1.0))


def ari(y: ArrayLike, labels: ArrayLike) -> float:
    """Return the adjusted Rand index, -0.5..1; rows labeled -1 form one cluster."""
    table = _full_table(y, labels).astype(np.float64)

    def pairs(counts: NDArray[np.float64]) -> float:
        return float((counts * (counts - 1) / 2).sum())

    together, in_cluster, in_class = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(0))
    total = pairs(np.array([table.sum()]))
    expected = in_cluster * in_class / total if total else 0.0
    largest = (in_cluster + in_class) / 2
    if largest == expected:
        return 1.0
    return float((together - expected) / (largest - expected))


def class_thirds(sizes: ArrayLike) -> tuple[NDArray[np.int64], ...]:
    """Split classes into (head, medium, tail): thirds of the classes from largest to smallest.

    Where the number does not divide by three the larger thirds come first. With fewer than three
    classes head is the first, tail the last and medium all of them.
    """
    counts = np.asarray(sizes)
    order = np.argsort(-counts, kind="stable").astype(np.int64)
    if len(order) < 3:
        return order[:1], order, order[-1:]
    head, medium, tail = np.array_split(order, 3)
    return head, medium, tail


def _class_figures(class_index: NDArray[np.int64], correct: Correct) -> dict[str, float]:
    sizes = np.bincount(class_index)
    hits = np.bincount(class_index, correct)
    head, medium, tail = class_thirds(sizes)
    return {
        "macro_acc": float((hits / sizes).mean()),
        "head_acc": float(hits[head].sum() / sizes[head].sum()),
        "medium_acc": float(hits[medium].sum() / sizes[medium].sum()),
        "tail_acc": float(hits[tail].sum() / sizes[tail].sum()),
    }


def _confidence_figures(confidence: NDArray[np.float64], correct: Correct) -> dict[str, float]:
    return {
        "ece": calibration.ece(confidence, correct),
        "ece_mass": calibration.ece(confidence, correct, strategy="mass"),
        "auroc": calibration.auroc(confidence, correct),
        "aurc": calibration.aurc(confidence, correct),
        "eaurc": calibration.excess_aurc(confidence, correct),
        "fpr95": calibration.fpr_at_tpr(confidence, correct),
        "mean_confidence": float(confidence.mean()),
    }


def evaluate(
    y: ArrayLike,
    labels: ArrayLike,
    proba: ArrayLike | None = None,
    confidence: ArrayLike | None = None,
) -> dict[str, float]:
    """Compare a partition, and its confidence where given, with known classes.

    Parameters
    ----------
    y : (n,) array-like
        Classes: integers or strings.
    labels : (n,) array-like
        Clusters: integers or strings; -1 is unassigned and counts as wrong. With `proba` they are
        its columns.
    proba : (n, k) array-like, optional
        Probabilities; rows sum to one. The map from clusters to classes is one to one also where
        k differs from the number of classes: columns that match no class are never right.
    confidence : (n,) array-like, optional
        Confidence in [0, 1] of each row's label, in place of the row's largest probability.

    Returns
    -------
    dict of str to float
        Fractions 0..1: ``acc nmi ari macro_acc head_acc medium_acc tail_acc`` and ``n_clusters``
        (clusters in use); with `proba` or `confidence` also ``ece ece_mass auroc aurc eaurc fpr95
        mean_confidence``; with `proba` also ``ece_classwise brier nll``. Head, medium and tail are
        accuracies over the rows of the largest, middle and smallest third of the classes.

    Raises
    ------
    ValueError
        No rows, unequal lengths, probabilities that are none.
    """
    values = None if proba is None else check_proba(proba)
    pairs = contingency(y, labels, n_clusters=None if values is None else values.shape[1])
    correct = _matched(pairs)
    if values is not None and len(values) != len(correct):
        raise ValueError(f"proba has {len(values)} rows, labels {len(correct)}: they must be equal")
    used = pairs.cluster_index[pairs.cluster_index >= 0]
    figures = {
        "acc": float(correct.mean()),
        "nmi": nmi(y, labels),
        "ari": ari(y, labels),
        **_class_figures(pairs.class_index, correct),
        "n_clusters": float(len(np.unique(used))),
    }
    if confidence is None and values is not None:
        confidence = np.clip(row_max(values).astype(np.float64), 0.0, 1.0)
    if confidence is not None:
        figures |= _confidence_figures(np.asarray(confidence, dtype=np.float64), correct)
    if values is not None:
        column_of_class = np.full(len(pairs.classes), UNASSIGNED, dtype=np.int64)
        match = hungarian(pairs.table)
        column_of_class[match[match >= 0]] = np.flatnonzero(match >= 0)
        target = column_of_class[pairs.class_index]
        figures["ece_classwise"] = calibration.classwise_ece(values, target)
        figures["brier"] = calibration.brier(values, target)
        figures["nll"] = calibration.nll(values, target)
    return figures
