"""Wrong labels, near-duplicates and outliers, all from one neighbor graph.

`find_label_issues` asks `fmcluster.functional.noise.denoise` how probable each given label is, by
evidence that never holds the row's own label: a cross-fitted discriminant, the neighbors and,
where a clustering is given, the cluster.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.functional.noise import denoise, f1_cut
from fmcluster.functional.transition import estimate_transition
from fmcluster.labeling.inputs import LabelingInput
from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import check_in, check_labels, check_proba, check_range
from fmcluster.vectors.rows import zero_rows

if TYPE_CHECKING:
    import pandas as pd

# As many votes as the plain vote that it is measured against (benchmarks/noise.py): fewer are
# noisier where two labels in five are wrong, more reach past the smallest classes.
N_NEIGHBORS = 50
# Later rounds of EM, which change scores by less on average, only repeat what they believe.
SETTLED = 0.02
# Out-of-sample probabilities of real labels are hardly ever this sure of every single one.
IN_SAMPLE_AGREEMENT = 0.995


def find_label_issues(
    emb: Any,
    labels: ArrayLike,
    *,
    threshold: float | str = "auto",
    proba: ArrayLike | None = None,
    classes: ArrayLike | None = None,
    random_state: int = 0,
) -> pd.DataFrame:
    """Find the labels that are probably wrong.

    Parameters
    ----------
    emb : ClusterResult, EmbeddingStore or (n, d) array
        The rows; a result's clusters are one more piece of evidence.
    labels : (n,) array-like
        The given labels, of any type.
    threshold : "auto" or float in [0, 1]
        Rows whose score is below are flagged; "auto" flags where the expected F1 is largest.
    proba : (n, k) array-like, optional
        Class probabilities of your own, in the order of `classes`. They must be out-of-sample:
        probabilities of a model that was trained on these very labels hide the wrong ones, and
        such are warned about.
    classes : (k,) array-like, optional
        All classes there are; labels outside them are an error. Those in `labels` otherwise.
    random_state : int
        Seed of the folds.

    Returns
    -------
    DataFrame
        The flagged rows only, most suspicious first: ``id``, ``given``, ``suggested`` (the most
        probable other class), ``score`` (probability that the given label is right, low is
        suspicious). In ``.attrs``: ``noise_rate`` (float), ``transition`` ((k, k): row c is how
        class c was labeled), ``classes``, ``scores`` ((n,), of all rows; NaN for rows of zeros,
        of which nothing is known and which are not judged), ``n_rows``.

    Raises
    ------
    ValueError
        Labels of another length, one class only, labels outside `classes`, bad probabilities.
    """
    import pandas as pd

    inputs = LabelingInput.of(emb)
    given = check_labels(labels, inputs.n_rows)
    there = ~zero_rows([inputs.rows])
    if not there.all():
        if proba is not None:
            proba = check_proba(proba)[there]
        return _of_known(inputs, given, there, threshold, proba, classes, random_state)
    known, target = _encode(given, classes)
    if isinstance(threshold, str):
        check_in(threshold, ("auto",), "threshold")
    else:
        check_range(threshold, "threshold", low=0, high=1)
    if proba is not None:
        posterior, score, channel = _from_proba(proba, target, len(known))
    else:
        graph = inputs.neighbors(N_NEIGHBORS, random_state=random_state)
        found = denoise(
            inputs.rows,
            target,
            len(known),
            graph.indices,
            graph.similarities,
            clusters=inputs.labels,
            tolerance=SETTLED,
            seed=seed_of(random_state, "issues"),
        )
        posterior, score, channel = found.posterior, found.score, found.transition
    flagged = f1_cut(1 - score) if isinstance(threshold, str) else score < threshold
    rows = np.flatnonzero(flagged)
    rows = rows[np.lexsort((rows, score[rows]))]
    other = posterior[rows].copy()
    other[np.arange(len(rows)), target[rows]] = -1
    table = pd.DataFrame(
        {
            "id": inputs.ids[rows],
            "given": known[target[rows]],
            "suggested": known[other.argmax(axis=1)],
            "score": score[rows],
        }
    )
    # Plain lists: pandas compares attrs when tables are joined, and arrays have no one answer.
    table.attrs.update(
        noise_rate=float(1 - score.mean()),
        transition=channel.tolist(),
        classes=known.tolist(),
        scores=score.tolist(),
        n_rows=inputs.n_rows,
    )
    return table


def _of_known(
    inputs: LabelingInput,
    given: NDArray[Any],
    there: NDArray[np.bool_],
    threshold: float | str,
    proba: ArrayLike | None,
    classes: ArrayLike | None,
    random_state: int,
) -> pd.DataFrame:
    """Judge the rows of which something is known; the others have no score."""
    rows = np.flatnonzero(there)
    known = dataclasses.replace(
        inputs,
        rows=np.asarray(inputs.rows[rows]),
        ids=inputs.ids[rows],
        labels=None if inputs.labels is None else inputs.labels[rows],
        proba=None if inputs.proba is None else inputs.proba[rows],
        confidence=None if inputs.confidence is None else inputs.confidence[rows],
        graph=None if inputs.graph is None else inputs.graph.among(there),
    )
    classes = np.unique(given) if classes is None else classes
    table = find_label_issues(
        known,
        given[rows],
        threshold=threshold,
        proba=proba,
        classes=classes,
        random_state=random_state,
    )
    scores = np.full(len(given), np.nan)
    scores[rows] = table.attrs["scores"]
    table.attrs.update(scores=scores.tolist(), n_rows=len(given))
    return table


def _encode(
    given: NDArray[Any], classes: ArrayLike | None
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    present, target = np.unique(given, return_inverse=True)
    if len(present) < 2:
        raise ValueError(
            f"labels hold one class only, {present.tolist()}: with nothing to confuse it with, "
            "no label can be told wrong"
        )
    if classes is None:
        return present, target.astype(np.int64)
    known = np.unique(np.asarray(classes))
    outside = np.setdiff1d(present, known)
    if len(outside):
        raise ValueError(
            f"labels hold classes that are not among `classes`: {outside[:5].tolist()}; "
            f"known are {known[:10].tolist()}"
        )
    return known, np.searchsorted(known, given).astype(np.int64)


def _from_proba(
    proba: ArrayLike, target: NDArray[np.int64], n_classes: int
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    """Score labels by probabilities given by hand: Bayes' rule through their own channel."""
    values = check_proba(proba)
    if values.shape != (len(target), n_classes):
        raise ValueError(
            f"proba has shape {values.shape}, expected ({len(target)}, {n_classes}): "
            "one row per label, one column per class"
        )
    agreement = float((values.argmax(axis=1) == target).mean())
    # A good classifier is right about all of a few labels.
    if agreement > IN_SAMPLE_AGREEMENT and len(target) >= 50:
        warnings.warn(
            f"proba agrees with {agreement:.1%} of the labels it is to judge: it looks in-sample. "
            "Use cross-validated probabilities, or leave proba out",
            UserWarning,
            stacklevel=3,
        )
    winner = np.zeros((n_classes, n_classes))
    np.add.at(winner, (values.argmax(axis=1), target), 1)
    channel = estimate_transition(winner)
    posterior = values * channel.T[target] + 1e-12
    posterior /= posterior.sum(axis=1, keepdims=True)
    return posterior, posterior[np.arange(len(target)), target].astype(np.float64), channel
