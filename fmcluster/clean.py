"""Wrong labels, near-duplicates and outliers, all from one neighbour graph.

`find_label_issues` asks `fmcluster.functional.noise.denoise` how probable each given label is, by
evidence that never holds the row's own label: a cross-fitted discriminant, the neighbours and,
where a clustering is given, the cluster.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from fmcluster._subject import Subject
from fmcluster._validation import check_in, check_labels, check_proba, check_range, seed_of
from fmcluster.functional.channel import estimate_channel
from fmcluster.functional.noise import denoise, f1_cut
from fmcluster.index import KNNGraph
from fmcluster.robust import RobustClassifier, fit_robust

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "RobustClassifier",
    "find_label_issues",
    "find_near_duplicates",
    "find_outliers",
    "fit_robust",
]

N_NEIGHBOURS = 50
# Later rounds of EM, which change scores by less on average, only grow surer of what they believe.
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
        The rows; a result's clusters are one more witness.
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
        class c was labelled), ``classes``, ``scores`` ((n,), of all rows), ``n_rows``.

    Raises
    ------
    ValueError
        Labels of another length, one class only, labels outside `classes`, bad probabilities.
    """
    subject = Subject.of(emb)
    given = check_labels(labels, subject.n_rows)
    known, target = _encode(given, classes)
    if isinstance(threshold, str):
        check_in(threshold, ("auto",), "threshold")
    else:
        check_range(threshold, "threshold", low=0, high=1)
    if proba is not None:
        posterior, score, channel = _from_proba(proba, target, len(known))
    else:
        graph = subject.neighbours(N_NEIGHBOURS, random_state=random_state)
        found = denoise(
            subject.rows,
            target,
            len(known),
            graph.indices,
            graph.similarities,
            clusters=subject.labels,
            tolerance=SETTLED,
            seed=seed_of(random_state, "issues"),
        )
        posterior, score, channel = found.posterior, found.score, found.channel
    flagged = f1_cut(1 - score) if isinstance(threshold, str) else score < threshold
    attrs = {
        "noise_rate": float(1 - score.mean()),
        "transition": channel,
        "classes": known,
        "scores": score,
        "n_rows": subject.n_rows,
    }
    return _issue_table(subject.ids, known, target, posterior, score, flagged, attrs)


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
            "one row a label, one column a class"
        )
    agreement = float((values.argmax(axis=1) == target).mean())
    if agreement > IN_SAMPLE_AGREEMENT and len(target) >= 50:
        warnings.warn(
            f"proba agrees with {agreement:.1%} of the labels it is to judge: it looks in-sample. "
            "Use cross-validated probabilities, or leave proba out",
            UserWarning,
            stacklevel=3,
        )
    winner = np.zeros((n_classes, n_classes))
    np.add.at(winner, (values.argmax(axis=1), target), 1)
    channel = estimate_channel(winner)
    posterior = values * channel.T[target] + 1e-12
    posterior /= posterior.sum(axis=1, keepdims=True)
    return posterior, posterior[np.arange(len(target)), target].astype(np.float64), channel


def _issue_table(
    ids: NDArray[Any],
    classes: NDArray[Any],
    target: NDArray[np.int64],
    posterior: NDArray[Any],
    score: NDArray[np.float64],
    flagged: NDArray[np.bool_],
    attrs: dict[str, Any],
) -> pd.DataFrame:
    import pandas as pd

    rows = np.flatnonzero(flagged)
    rows = rows[np.lexsort((rows, score[rows]))]
    other = posterior[rows].copy()
    other[np.arange(len(rows)), target[rows]] = -1
    table = pd.DataFrame(
        {
            "id": ids[rows],
            "given": classes[target[rows]],
            "suggested": classes[other.argmax(axis=1)] if len(rows) else classes[:0],
            "score": score[rows],
        }
    )
    # Plain lists: pandas compares attrs when tables are joined, and arrays have no one answer.
    table.attrs.update(
        {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in attrs.items()}
    )
    return table


def find_near_duplicates(
    graph: KNNGraph, threshold: float = 0.98, *, ids: ArrayLike | None = None
) -> pd.DataFrame:
    """Group rows that are joined by neighbours of at least `threshold` cosine.

    Returns
    -------
    DataFrame
        Rows with a near-duplicate only: ``id``, ``group`` (0 is the largest), ``nearest`` (id of
        the row's most similar one), ``similarity``.

    Raises
    ------
    ValueError
        A threshold outside [-1, 1], ids of another length.
    """
    import pandas as pd

    check_range(threshold, "threshold", low=-1, high=1)
    names = _ids(graph, ids)
    # Cosines are float32 sums: exact duplicates may fall short of one by their rounding.
    close = graph.similarities >= threshold - 1e-6
    rows = np.repeat(np.arange(graph.n_rows), close.sum(axis=1))
    edges = (np.ones(len(rows), np.int8), (rows, graph.indices[close].astype(np.int64)))
    _, group = connected_components(csr_matrix(edges, shape=(graph.n_rows, graph.n_rows)), False)
    size = np.bincount(group)[group]
    kept = np.flatnonzero(size > 1)
    order = kept[np.lexsort((kept, group[kept], -size[kept]))]
    _, number = np.unique(group[order], return_index=True)
    rank = {group[order][first]: i for i, first in enumerate(np.sort(number))}
    return pd.DataFrame(
        {
            "id": names[order],
            "group": np.array([rank[g] for g in group[order]], dtype=np.int64),
            "nearest": names[graph.indices[order, 0]],
            "similarity": graph.similarities[order, 0],
        }
    )


def find_outliers(
    graph: KNNGraph, *, share: float = 0.01, ids: ArrayLike | None = None
) -> pd.DataFrame:
    """Find the rows that are furthest from their neighbours.

    The score is the row's mean cosine to its neighbours over the mean of theirs, cut at one: like
    the local outlier factor it compares a row with its surroundings, so that a sparse cluster is
    not a crowd of outliers.

    Returns
    -------
    DataFrame
        The `share` lowest: ``id``, ``score`` in [0, 1], lowest first.
    """
    import pandas as pd

    check_range(share, "share", low=0, high=1)
    names = _ids(graph, ids)
    own = 1 - graph.similarities.mean(axis=1, dtype=np.float64)
    around = np.empty(graph.n_rows)
    for i in range(0, graph.n_rows, 65_536):
        around[i : i + 65_536] = own[graph.indices[i : i + 65_536]].mean(axis=1)
    score = np.minimum(1, (around + 1e-9) / (own + 1e-9))
    n_found = int(np.ceil(share * graph.n_rows)) if share > 0 else 0
    rows = np.lexsort((np.arange(graph.n_rows), score))[:n_found]
    return pd.DataFrame({"id": names[rows], "score": score[rows]})


def _ids(graph: KNNGraph, ids: ArrayLike | None) -> NDArray[Any]:
    names = np.arange(graph.n_rows) if ids is None else np.asarray(ids)
    if len(names) != graph.n_rows:
        raise ValueError(f"ids has {len(names)} entries, the graph {graph.n_rows} rows")
    return names
