"""`with_answers`: cluster again with what a person said about some rows or pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.calibration.fit import CalibratedFit, fit_calibrated
from fmcluster.functional.assignment import hungarian
from fmcluster.heads.base import ClusterHead
from fmcluster.heads.config import head_record
from fmcluster.result.editing.apply import (
    ROWS,
    are_among,
    are_certain,
    clustering_of,
    still_labeled,
)
from fmcluster.result.editing.chain import moved_name
from fmcluster.result.editing.steps import put
from fmcluster.result.expected import expected
from fmcluster.result.loop.answers import Answers
from fmcluster.result.naming import name_by_source
from fmcluster.result.naming.unique import unique_names
from fmcluster.utils.blocks import by_rows, row_argmax, row_max
from fmcluster.utils.validation import label_text

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

Ints = NDArray[np.int64]


def with_answers(
    result: ClusterResult,
    labels: Any = None,
    *,
    must_link: ArrayLike | None = None,
    cannot_link: ArrayLike | None = None,
) -> ClusterResult:
    """Cluster again with all answers so far; clusters that match keep their numbers.

    Labels decide what they can: which classes there are and their names, how many clusters at
    least, which rows belong together and how sure that is. Clusters without any answer remain
    clusters, as far as there is room. The head's partitions and graph are kept in memory, so that
    the second answer costs a fraction of the first fit; of a result that was loaded they are made
    again. Edits are taken in: what they made of the clusters is where the answers begin. Rows that
    were moved go where most of the cluster went that they were moved to, with certainty still,
    but for those that an answer is about.

    Parameters
    ----------
    labels : dict of id to class, or (ids, classes), optional
        Classes of any plain type (text, numbers).
    must_link, cannot_link : (m, 2) array-like of ids, optional
        Pairs of rows that belong together, and apart.

    Returns
    -------
    ClusterResult
        Answered rows have what was answered, with certainty. `answers` holds all of them.

    Raises
    ------
    ValueError
        No answer at all, unknown or skipped ids, one id with two classes (earlier answers
        included), links that contradict one another or labels, a head that takes no answers.

    Notes
    -----
    Propagation as in Zhou et al., "Learning with local and global consistency" (NIPS 2003); links
    as in Wagstaff et al., "Constrained k-means clustering with background knowledge" (ICML 2001).
    """
    new = Answers.of(result.index, labels, must_link, cannot_link)
    if not len(new):
        raise ValueError("no answer was given: give labels, must_link or cannot_link")
    answers = result.answers.joined(new, result.index)
    if result.embeddings is None:
        raise ValueError(
            "the result was loaded without the embeddings it was made from: give them with "
            "result.attach(embeddings) first"
        )
    head = _unfitted(result, answers)
    edited = bool(result.pipeline.edits)
    fit = fit_calibrated(
        head,
        result.embeddings,
        result.graph,
        calibrate=result.is_calibrated,
        answers=answers.rows(result.index),
        before=result.head,
        edited=result.proba if edited else None,
        random_state=int(result.provenance.get("random_state") or 0),
    )
    after = row_argmax(fit.proba)
    order, old = number_as_before(result.labels, after, fit.proba.shape[1])
    names = None
    if result.names:
        names = [
            f"cluster {j}" if c < 0 else moved_name(result.names[c], c, j)
            for j, c in enumerate(old.tolist())
        ]
    return _moves_kept(result, answered(result, fit, answers, order=order, names=names))


def _moves_kept(before: ClusterResult, after: ClusterResult) -> ClusterResult:
    """Return `after` with the rows that a person had moved still in the cluster they were put in.

    Its number and its rows may be others now: it is where most of its other rows went.
    """
    told = after.answers
    about = [*told.labels, *told.must_link.ravel().tolist(), *told.cannot_link.ravel().tolist()]
    moved = are_certain(before) & ~are_among(after, about)
    if not moved.any():
        return after
    went = np.full(before.n_clusters, -1)
    for cluster in np.unique(before.labels[moved]):
        inside = before.labels == cluster
        others = inside & ~moved if (inside & ~moved).any() else inside
        found = after.labels[others & (after.labels >= 0)]
        if len(found):
            went[cluster] = np.bincount(found).argmax()
    rows = np.flatnonzero(moved & (went[before.labels] >= 0))
    state = put(clustering_of(after), rows, went[before.labels[rows]])
    return dataclasses.replace(after, **{name: getattr(state, name) for name in ROWS})


def answered(
    result: ClusterResult,
    fit: CalibratedFit,
    answers: Answers,
    *,
    order: Ints | None = None,
    names: Sequence[str] | None = None,
) -> ClusterResult:
    """Return `result` with a fit that holds `answers`.

    Parameters
    ----------
    order : (k,), optional
        Number j is to be what the fit calls ``order[j]``.
    names : (k,), optional
        Of clusters that no class names, in the new numbers.
    """
    head, proba = fit.head, fit.proba
    about = fit.about(n_labels=len(answers.labels)) if result.is_calibrated else None
    order = np.arange(proba.shape[1]) if order is None else order
    columns = head.columns_.copy()
    head.reorder(order)
    proba = by_rows(lambda p: p[:, order], proba)
    provenance = {
        **result.provenance,
        "head": head_record(head),
        "calibration": still_labeled(about, result.provenance),
        "answers": {
            "n_labels": len(answers.labels),
            "n_classes": len(answers.classes),
            "n_must_link": len(answers.must_link),
            "n_cannot_link": len(answers.cannot_link),
        },
    }
    if result.is_calibrated and not len(result.answers):
        provenance["expected_before_answers"] = expected(result).to_dict()
    if result.pipeline.edits:
        earlier = list(result.provenance.get("edits_before_answers", []))
        provenance["edits_before_answers"] = [*earlier, *result.edits]
    pipeline = dataclasses.replace(
        result.pipeline,
        head=head,
        calibrator=fit.calibrator,
        names=None,
        provenance=provenance,
        edits=(),
    )
    found = dataclasses.replace(
        result,
        labels=row_argmax(proba),
        proba=proba,
        confidence=row_max(proba),
        score=row_max(fit.scores),
        cluster_prior=np.asarray(head.cluster_prior_),
        graph=fit.graph,
        pipeline=pipeline,
        unedited=None,
        answers=answers,
    )
    if names is None:
        names = name_by_source(found).names or [f"cluster {j}" for j in range(len(order))]
    classes = answers.classes
    place = {int(column): j for j, column in enumerate(columns[order])}
    told = {place[c]: label_text(name) for c, name in enumerate(classes) if c in place}
    if not told and not result.names:
        return found
    # Classes keep their names; the others' are made different from those and from each other.
    others = [name for j, name in enumerate(names) if j not in told]
    fresh = iter(unique_names(others, told.values()))
    mixed = tuple(told[j] if j in told else next(fresh) for j in range(len(names)))
    return found.with_pipeline(names=mixed)


def number_as_before(before: Ints, after: Ints, n_clusters: int) -> tuple[Ints, Ints]:
    """Return how to number clusters so that those which match keep their number.

    Returns
    -------
    order : (k,) int64
        Number j is to be what is now called ``order[j]``.
    old : (k,) int64
        The cluster of before that number j matches, -1 for none.
    """
    known = before >= 0
    n_before = int(before.max(initial=-1)) + 1
    table = np.zeros((n_clusters, max(n_before, 1)))
    np.add.at(table, (after[known], before[known]), 1)
    match = hungarian(table)
    match[[m >= 0 and table[c, m] == 0 for c, m in enumerate(match)]] = -1
    order, old = np.full(n_clusters, -1, np.int64), np.full(n_clusters, -1, np.int64)
    for cluster, number in enumerate(match):
        if 0 <= number < n_clusters:
            order[number], old[number] = cluster, number
    left = [c for c in range(n_clusters) if c not in set(order.tolist())]
    for number in np.flatnonzero(order < 0):
        order[number] = left.pop(0)
        old[number] = match[order[number]]
    return order, old


def _unfitted(result: ClusterResult, answers: Answers) -> ClusterHead:
    """Return the head of a result to be fitted again, with room for the classes.

    A class that only rows in no cluster have (-1, of `update`) is none of the clusters there are.
    """
    from sklearn.base import clone

    head: ClusterHead = clone(result.head)
    asked = head.n_clusters
    if not isinstance(asked, str):
        if result.pipeline.edits:
            asked = result.n_clusters
        placed = result.labels[result.index.rows_of(list(answers.labels))] >= 0
        known = {c for c, there in zip(answers.labels.values(), placed, strict=True) if there}
        new = len(answers.classes) - len(known)
        head.set_params(n_clusters=max(int(asked) + new, len(answers.classes)))
    prior = head.get_params(deep=False).get("cluster_prior")
    if isinstance(prior, (list, np.ndarray)) and len(prior) != head.n_clusters:
        head.set_params(cluster_prior="estimate")  # shares of clusters that are no more
    return head
