"""`certify`: from which confidence on are labels right often enough, with a guarantee.

A row is right where its cluster's class is the row's. Which class a cluster is must not be learned
from the labels that certify, or every cluster would look as good as its luck: the names of the
clusters serve (`calibrate` and `with_answers` give them), else the answers that the result holds,
else a third of the labels is set aside to learn it and certifies nothing. Rows that an earlier
answer, calibration or move was about are known and no sample: they are left out of the test.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.functional.labels.certify import Tested, certify_rows, is_fair
from fmcluster.result.editing.apply import are_among, are_in_edits
from fmcluster.utils.validation import check_labels, check_range, label_text

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# Of labels that must also say which class a cluster is: most are needed for the test itself.
SET_ASIDE = 1 / 3


@dataclass(frozen=True)
class Certificate:
    """What is promised of the rows at or above a confidence.

    Attributes
    ----------
    threshold : float or None
        Rows of at least this confidence are certified; None where no promise can be made.
    coverage : float
        Share of all rows that are; 0 without a promise.
    accuracy_lower : float
        Lower bound of the share of right labels at the threshold, or, without a promise, at the
        first threshold tested.
    n_labels : int
        Labels that were counted.
    n_above, n_right : int
        Of these, rows at or above the threshold (or the first one tested), and right ones.
    n_set_aside : int
        Labels that were not counted: those that said which class a cluster is, and those of rows
        that earlier answers were about.
    accuracy, delta : float
        What was asked: this share of right labels, but for this chance.
    class_of_cluster : dict of int to str
        The class that was taken for each cluster.
    reason : str or None
        Why no promise can be made, and what would help.
    """

    threshold: float | None
    coverage: float
    accuracy_lower: float
    n_labels: int
    n_above: int
    n_right: int
    n_set_aside: int
    accuracy: float
    delta: float
    class_of_cluster: dict[int, str] = field(repr=False)
    reason: str | None = None

    @property
    def is_certified(self) -> bool:
        """Whether there is a promise."""
        return self.threshold is not None

    def to_dict(self) -> dict[str, Any]:
        """Return all but the classes of the clusters, as plain JSON values."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "class_of_cluster"}


def certify(
    result: ClusterResult,
    ids: ArrayLike,
    classes: ArrayLike,
    *,
    # One row in twenty may be wrong; a higher promise holds for fewer rows or takes more labels.
    accuracy: float = 0.95,
    # One promise in twenty may be false, the usual level; less takes more labels.
    delta: float = 0.05,
    weights: ArrayLike | None = None,
) -> Certificate:
    """Promise that labels are right from some confidence on, as a random sample of labels allows.

    With probability 1 - `delta` over the draw of the labeled rows, at least the share `accuracy` of
    the rows at or above the threshold are right (tests: `fmcluster.functional.labels.certify`).
    The promise rests on the draw and on nothing else: rows must be drawn by
    ``query(result, budget, strategy="certify", accuracy=...)``, by ``strategy="random"``, or with
    chances that are known.

    Parameters
    ----------
    ids : (m,)
        Which rows (values of `result.ids`) were drawn and labeled.
    classes : (m,)
        Their true classes, of any kind, compared as text with the names of the clusters.
    accuracy : float
        The share of right labels to promise.
    delta : float
        How often a promise may be false.
    weights : (m,), optional
        1 / the chance that each row was drawn, as ``query(..., return_weights=True)`` gives them.
        Without them, rows count as drawn evenly from all rows above the least confident one.

    Returns
    -------
    Certificate
        Threshold None and a reason where the labels do not suffice.

    Raises
    ------
    ValueError
        Unknown or repeated ids, lengths that differ, accuracy or delta outside 0..1, weights that
        are not positive, rows that were clearly not drawn evenly, or none that was not an answer
        before.

    Examples
    --------
    >>> import fmcluster as fmc
    >>> X = np.repeat(np.eye(3), 100, axis=0) + np.random.default_rng(0).normal(0, 0.1, (300, 3))
    >>> y = np.repeat(["ant", "bee", "cat"], 100)
    >>> result = fmc.cluster(X, n_clusters=3, head="kmeans")
    >>> named = result.calibrate([0, 100, 200, 1], y[[0, 100, 200, 1]])
    >>> ids = fmc.query(named, 120, strategy="certify")
    >>> named.certify(ids, y[ids]).is_certified
    True
    """
    for name, value in (("accuracy", accuracy), ("delta", delta)):
        check_range(value, name)
        if not 0 < value < 1:
            raise ValueError(f"{name}={value!r} must lie between 0 and 1, such as 0.95 and 0.05")
    rows = result.rows_of(ids)
    told = check_labels(classes, len(rows), name="classes")
    given = np.array([label_text(c) for c in told.tolist()])
    w = _check_weights(weights, len(rows))
    known = _known(result)
    fresh = np.flatnonzero(~known[rows])
    if len(rows) and not len(fresh):
        raise ValueError(
            f"all {len(rows)} rows were answered, moved or calibrated on before: their labels "
            "prove nothing of other rows; draw fresh ones with query(result, strategy='certify')"
        )
    found, learned = _classes(result, rows, given, fresh)
    counted = np.setdiff1d(fresh, learned)
    class_of_row = np.array([found.get(int(c), None) for c in result.labels[rows]], dtype=object)
    right = np.asarray(class_of_row[counted] == given[counted], dtype=bool)
    if not len(counted):
        spent = (
            f", {len(learned)} of them to learn which class a cluster is" if len(learned) else ""
        )
        why = f"{len(rows)} label(s){spent} leave none to test: at least "
        why += f"{_fewest(accuracy, delta)}, all right, are needed"
        asked = float(accuracy), float(delta)
        return Certificate(None, 0.0, 0.0, 0, 0, 0, len(rows), *asked, found, why)
    # The sample of the test: rows of which nothing is known, most confident first.
    confidence = np.asarray(result.confidence)
    population = np.flatnonzero(~known)
    population = population[np.argsort(-confidence[population], kind="stable")]
    place = np.empty(result.n_rows, np.int64)
    place[population] = np.arange(len(population))
    position = place[rows[counted]]
    ranked = confidence[population].astype(np.float64)
    if w is None:
        _check_fair(ranked, position)
    tested = certify_rows(
        ranked,
        position,
        right,
        accuracy=accuracy,
        delta=delta,
        weights=None if w is None else w[counted],
    )
    threshold = float(ranked[tested.n_rows - 1]) if tested.n_rows else None
    return Certificate(
        threshold,
        float((confidence >= threshold).mean()) if threshold is not None else 0.0,
        tested.lower,
        len(counted),
        tested.n_labels,
        tested.n_right,
        len(rows) - len(counted),
        float(accuracy),
        float(delta),
        found,
        None if tested.n_rows else _reason(tested, len(population), accuracy, delta),
    )


def _check_weights(weights: ArrayLike | None, m: int) -> NDArray[np.float64] | None:
    """Return weights, or None where all are equal: then the exact test serves."""
    if weights is None:
        return None
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (m,) or not np.isfinite(values).all() or (values <= 0).any():
        raise ValueError(
            f"weights must be {m} positive numbers (1 / the chance that a row was drawn), got "
            f"shape {values.shape}"
        )
    return None if np.allclose(values, values[:1]) else values


def _known(result: ClusterResult) -> NDArray[np.bool_]:
    """Return which rows (n,) earlier answers were about."""
    calibrated_on = (result.provenance.get("calibration") or {}).get("labeled_ids") or ()
    told = are_among(result, [*result.answers.labels, *calibrated_on])
    return told | are_in_edits(result, "calibrate", "move")


def _classes(
    result: ClusterResult, rows: NDArray[np.int64], given: NDArray[Any], fresh: NDArray[np.int64]
) -> tuple[dict[int, str], NDArray[np.int64]]:
    """Return the class of each cluster, and which of the labels were spent on learning it."""
    none = np.zeros(0, np.int64)
    names = result.names
    if names is not None and set(names) & set(given.tolist()):
        return dict(enumerate(names)), none
    answers = result.answers.labels
    if answers:
        found = result.index.find(np.asarray(list(answers)))
        kept = found >= 0
        told = np.array([label_text(c) for c in answers.values()])
        return _majority(result.labels[found[kept]], told[kept]), none
    # Which labels are set aside is a draw of its own, so that the rest stays a fair sample.
    learned = np.random.default_rng(0).permutation(fresh)[: int(np.ceil(len(fresh) * SET_ASIDE))]
    known = np.setdiff1d(np.arange(len(rows)), fresh)
    spent = np.concatenate([learned, known])
    return _majority(result.labels[rows[spent]], given[spent]), learned


def _majority(clusters: NDArray[np.int64], classes: NDArray[Any]) -> dict[int, str]:
    """Return the most frequent class of each cluster, the first by name where two are equal."""
    found = {}
    for cluster in np.unique(clusters[clusters >= 0]):
        values, counts = np.unique(classes[clusters == cluster], return_counts=True)
        found[int(cluster)] = str(values[counts.argmax()])
    return found


def _check_fair(ranked: NDArray[np.float64], position: NDArray[np.int64]) -> None:
    """Refuse rows that cannot have been drawn evenly above the least confident of them."""
    reach = int(np.searchsorted(-ranked, -ranked[position.max()], side="right"))
    # Within equal confidence any order is as good: places there are drawn anew.
    rng = np.random.default_rng(0)
    low = np.searchsorted(-ranked, -ranked[position], side="left")
    high = np.searchsorted(-ranked, -ranked[position], side="right")
    if not is_fair(rng.integers(low, high), reach):
        raise ValueError(
            f"the {len(position)} labeled rows are no even draw: their confidence differs from "
            "that of the other rows; draw with query(result, strategy='certify'), or give weights "
            "(1 / the chance that each row was drawn)"
        )


def _fewest(accuracy: float, delta: float) -> int:
    """Return how many labels, all of them right, can certify at least."""
    return int(np.ceil(np.log(delta) / np.log(accuracy)))


def _reason(tested: Tested, n_rows: int, accuracy: float, delta: float) -> str:
    needed = _fewest(accuracy, delta)
    seen = f"of {tested.n_labels} labeled rows there {tested.n_right} are right"
    share = f"the most confident {100 * tested.first / max(n_rows, 1):.0f} % of the rows"
    if tested.n_labels < needed:
        return (
            f"{tested.n_labels} labels among {share} are too few for {accuracy:g}: at least "
            f"{needed}, all right, are needed"
        )
    if tested.n_right < accuracy * tested.n_labels:
        return f"{share}: {seen}, fewer than the share {accuracy:g} that was asked for"
    return f"{share}: {seen}, not enough to exclude chance; label more or ask for less"
