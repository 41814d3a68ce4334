r"""`query_pairs`: which pairs to ask "same or different?", where classes have no names yet.

Every cluster is cut into parts p, small spherical k-means clusters within it, each with its most
typical row. Two parts are of one class with a probability :math:`\pi_{pq}` that is the mean of two
opinions: that of the clustering, :math:`\sum_c \bar P_{pc} \bar P_{qc}`, and that of the embeddings
alone, a logistic in the cosine of the parts' centroids that is 1/2 midway between what is usual
inside a cluster and what is usual between a part and the nearest parts of other clusters. A pair is
worth

.. math:: 4 \, \pi_{pq} (1 - \pi_{pq}) \, \min(n_p, n_q) \, / \, (1 + \text{times asked}),

how open the question is, times the rows that an answer can move, less for each question about the
same cluster (should it be split?) or the same two clusters (should they be merged?). Pairs are
picked greedily by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fmcluster.labeling.inputs import LabelingInput
from fmcluster.partition.kmeans import ROUGH_ROUNDS, spherical_kmeans
from fmcluster.utils.ids import IdIndex
from fmcluster.utils.random import seed_of
from fmcluster.vectors.rows import sample_indices, unit_rows

__all__ = ["query_pairs"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
# Rows that stand for all where there are more: parts of hundreds of rows are still well known.
SAMPLE_ROWS = 20_000
# A part of fewer rows is about single rows, not about a cluster.
PART_ROWS = 5
# More parts in a cluster give questions about ever smaller parts.
MAX_PARTS = 4
# For each part, the nearest parts of other clusters that may be asked about.
N_NEAR = 5
# Typical rows of a part to choose from, where the first one's pair is answered already.
N_TYPICAL = 5


@dataclass(frozen=True)
class _Parts:
    """Parts of clusters.

    Attributes
    ----------
    cluster : (p,) int
        The cluster that each part belongs to.
    centroid : (p, d) unit float32
    proba : (p, k) mean cluster probabilities
    size : (p,) rows
    typical : list of (t,) int
        Row numbers, most typical first.
    of_row : (n,) int
        Part of each row, -1 where it was not looked at.
    """

    cluster: Ints
    centroid: NDArray[np.float32]
    proba: Floats
    size: Floats
    typical: list[Ints]
    of_row: Ints


def query_pairs(result: Any, budget: int = 50, *, random_state: int = 0) -> NDArray[Any]:
    """Choose pairs of rows to ask "same or different?", where an answer changes most.

    Parameters
    ----------
    result : ClusterResult
        The rows, their clusters and their probabilities; what its `answers` already say is not
        asked again.
    budget : int
        How many pairs.
    random_state : int
        Equal seeds give equal pairs.

    Returns
    -------
    (budget, 2) array
        Ids of the rows of each pair, most valuable pair first; no pair twice, in either order. For
        ``result.with_answers(must_link=pairs[same], cannot_link=pairs[~same])``.

    Raises
    ------
    TypeError, ValueError
        No clustering, a budget that is no integer, below 1 or above the number of pairs that are
        open.

    Examples
    --------
    >>> import fmcluster as fmc
    >>> X = np.repeat(np.eye(3), 20, axis=0) + np.random.default_rng(0).normal(0, 0.1, (60, 3))
    >>> fmc.query_pairs(fmc.cluster(X, n_clusters=3, head="kmeans"), budget=4).shape
    (4, 2)
    """
    inputs = LabelingInput.of(result)
    if inputs.labels is None or inputs.proba is None:
        raise ValueError("query_pairs asks about a clustering: pass the ClusterResult")
    if isinstance(budget, bool) or not isinstance(budget, (int, np.integer)):
        raise TypeError(f"budget must be an integer, got {budget!r}")
    seen, class_of = _answered(result, inputs)
    n = inputs.n_rows
    between = len(class_of) * (len(class_of) - 1) // 2
    extra = sum(1 for a, b in seen if not (a in class_of and b in class_of))
    open_pairs = n * (n - 1) // 2 - between - extra
    if not 1 <= budget <= open_pairs:
        raise ValueError(
            f"budget={budget} must lie in 1..{open_pairs}: {n} rows have so many pairs that no "
            "answer is about"
        )

    parts = _parts(inputs, int(budget), seed_of(random_state, "pairs", "parts"))
    pairs: list[tuple[int, int]] = []

    def ask(a: int, b: int) -> bool:
        pair = min(a, b), max(a, b)
        if a == b or (a in class_of and b in class_of) or pair in seen:
            return False
        seen.add(pair)
        pairs.append((a, b))
        return True

    known = _known_parts(parts, seen, class_of)
    for p, q in _ranked(parts, known, int(budget)):
        if len(pairs) == budget:
            break
        rows = [(a, b) for a in parts.typical[p].tolist() for b in parts.typical[q].tolist()]
        # Both as typical as can be: by the sum of their places.
        places = sorted(range(len(rows)), key=lambda i: (sum(divmod(i, len(parts.typical[q]))), i))
        any(ask(*rows[i]) for i in places)
    _fill(inputs, parts, int(budget), pairs, ask, seed_of(random_state, "pairs", "fill"))
    return inputs.ids[np.array(pairs, dtype=np.int64).reshape(-1, 2)]


def _answered(result: Any, inputs: LabelingInput) -> tuple[set[tuple[int, int]], dict[int, Any]]:
    """Return the linked pairs (smaller row first) and the class of each labeled row."""
    answers = getattr(result, "answers", None)
    index = IdIndex(inputs.ids)
    seen: set[tuple[int, int]] = set()
    for name in ("must_link", "cannot_link"):
        given = getattr(answers, name, None)
        ids = np.asarray(() if given is None else given).reshape(-1, 2)
        rows = index.find(ids.ravel()).reshape(-1, 2)
        seen |= {(min(a, b), max(a, b)) for a, b in rows.tolist() if min(a, b) >= 0}
    labels = getattr(answers, "labels", None) or {}
    found = index.find(np.asarray(list(labels)))
    given = zip(found.tolist(), labels.values(), strict=True)
    return seen, {row: label for row, label in given if row >= 0}


def _parts(inputs: LabelingInput, budget: int, seed: int) -> _Parts:
    """Cut clusters into parts, more of them for larger clusters, and find their typical rows."""
    assert inputs.labels is not None and inputs.proba is not None
    n, k = inputs.n_rows, inputs.proba.shape[1]
    rows = np.flatnonzero(inputs.labels >= 0)
    rows = rows[sample_indices(rows, SAMPLE_ROWS, seed)]
    x = np.asarray(inputs.rows[rows], dtype=np.float32)
    x = unit_rows(x - x.mean(axis=0, dtype=np.float64))
    labels = inputs.labels[rows]
    wanted = max(2 * k, budget)
    share = np.sqrt(np.bincount(labels, minlength=k))
    share = share / share.sum()
    cluster: list[int] = []
    centroid, proba, size, typical = [], [], [], []
    of_row = np.full(n, -1, np.int64)
    for c in np.unique(labels):
        own = np.flatnonzero(labels == c)
        count = int(np.clip(round(wanted * share[c]), 2, MAX_PARTS))
        count = max(1, min(count, len(own) // PART_ROWS))
        centers = x[own].mean(axis=0, keepdims=True)
        if count > 1:
            centers = spherical_kmeans(x[own], count, max_iter=ROUGH_ROUNDS, seed=seed)
        cosine = x[own] @ unit_rows(centers).T
        nearest = cosine.argmax(axis=1)
        for part in np.unique(nearest):
            members = np.flatnonzero(nearest == part)
            order = members[np.argsort(-cosine[members, part], kind="stable")]
            of_row[rows[own[members]]] = len(cluster)
            cluster.append(int(c))
            centroid.append(x[own[members]].mean(axis=0))
            proba.append(np.asarray(inputs.proba[rows[own[members]]], np.float64).mean(axis=0))
            size.append(len(members) * n / len(rows))
            typical.append(rows[own[order[:N_TYPICAL]]])
    return _Parts(
        np.array(cluster),
        unit_rows(np.array(centroid)),
        np.array(proba),
        np.array(size),
        typical,
        of_row,
    )


def _known_parts(
    parts: _Parts, seen: set[tuple[int, int]], class_of: dict[int, Any]
) -> set[tuple[int, int]]:
    """Return the pairs of parts that an answer was about, the smaller part first."""
    of = parts.of_row
    known = {(int(of[a]), int(of[b])) for a, b in seen}
    labeled = list(class_of)
    known |= {(int(of[a]), int(of[b])) for i, a in enumerate(labeled) for b in labeled[:i]}
    return {(min(p, q), max(p, q)) for p, q in known if min(p, q) >= 0}


def _same(parts: _Parts) -> Floats:
    """Return how probable it is that two parts are of one class, (p, p)."""
    cosine = parts.centroid @ parts.centroid.T
    within = parts.cluster[:, None] == parts.cluster
    np.fill_diagonal(cosine, np.nan)
    between = np.where(within, -np.inf, cosine)
    nearest = between.max(axis=1)[np.isfinite(between.max(axis=1))]
    inside = cosine[within & np.isfinite(cosine)]
    cosine = np.nan_to_num(cosine, nan=1.0)
    opinion = parts.proba @ parts.proba.T
    if not len(inside) or not len(nearest):
        return np.asarray(opinion)
    low, high = float(np.median(nearest)), float(np.median(inside))
    # Odds of e^2 at either level: both are usual, neither is certain.
    unit = max(abs(high - low), 0.05) / 4
    return np.asarray((opinion + expit((cosine - (low + high) / 2) / unit)) / 2)


def _ranked(parts: _Parts, known: set[tuple[int, int]], budget: int) -> list[tuple[int, int]]:
    """Return pairs of parts, most valuable first."""
    p_same = _same(parts)
    cosine = parts.centroid @ parts.centroid.T
    within = parts.cluster[:, None] == parts.cluster
    away = np.where(within, -np.inf, cosine)
    near = np.zeros_like(within)
    width = min(N_NEAR, len(away))
    for p, row in enumerate(np.argsort(-away, axis=1, kind="stable")[:, :width]):
        near[p, row] = np.isfinite(away[p, row])
    left, right = np.nonzero(np.triu(within | near | near.T, 1))
    fresh = np.array([(p, q) not in known for p, q in zip(left, right, strict=True)], dtype=bool)
    left, right = left[fresh], right[fresh]
    worth = 4 * (p_same * (1 - p_same))[left, right]
    worth = worth * np.minimum(parts.size[left], parts.size[right])
    ends = np.sort(np.stack([parts.cluster[left], parts.cluster[right]]), axis=0)
    question = np.unique(ends[0] * (parts.cluster.max() + 1) + ends[1], return_inverse=True)[1]
    asked = np.zeros(len(left) + 1)
    picked: list[tuple[int, int]] = []
    value = worth.copy()
    for _ in range(min(len(left), 2 * budget)):  # some will turn out to be answered
        best = int(value.argmax())
        picked.append((int(left[best]), int(right[best])))
        alike = question == question[best]
        asked[question[best]] += 1
        worth[best] = -1.0
        value[alike] = worth[alike] / (1 + asked[question[best]])
    return picked


def _fill(
    inputs: LabelingInput, parts: _Parts, budget: int, pairs: list[Any], ask: Any, seed: int
) -> None:
    """Ask about unsure rows beside the typical rows of their two best clusters, then at random."""
    if len(pairs) == budget:
        return
    assert inputs.labels is not None and inputs.proba is not None
    best = {int(c): parts.typical[int(np.flatnonzero(parts.cluster == c)[0])][0]
            for c in np.unique(parts.cluster)}  # fmt: skip
    unsure = np.argsort(np.asarray(inputs.proba).max(axis=1), kind="stable")
    first_two = np.argsort(-np.asarray(inputs.proba)[unsure[: 4 * budget]], axis=1)[:, :2]
    for row, clusters in zip(unsure.tolist(), first_two.tolist(), strict=False):
        for c in clusters:
            if len(pairs) < budget and c in best:
                ask(row, int(best[c]))
    rng = np.random.default_rng(seed)
    for _ in range(20 * budget):  # most random pairs are open, unless nearly all are answered
        if len(pairs) == budget:
            return
        a, b = rng.integers(0, inputs.n_rows, 2).tolist()
        ask(a, b)
    for a in range(inputs.n_rows):
        for b in range(a + 1, inputs.n_rows):
            if len(pairs) == budget:
                return
            ask(a, b)
