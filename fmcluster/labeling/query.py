"""`query`: which rows to label next, so that few labels go far.

=========== ======================================================================================
random      a uniform draw, the baseline
typical     the densest row of each of `budget` clusters (TypiClust, Hacohen et al., ICML 2022)
centroid    the row nearest each of `budget` centroids (Gupte et al., TMLR 2024)
coverage    most rows within a radius of a pick (ProbCover, Yehuda et al., NeurIPS 2022)
herding     most rows well represented, radii adapting to budget and density (see
            `fmcluster.functional.selection`)
coreset     the row farthest from all picks, again and again (Sener & Savarese, ICLR 2018)
uncertain   the lowest calibrated confidence
tail        typical rows by quotas that favour rare clusters
auto        `herding` while there are no labels: it covers the cluster structure; given labels,
            herding in which rows count the more, the less certain `propagate` is of them
=========== ======================================================================================

Herding and coverage work on a pool of rows that grows with the square root of the budget, so that
a million rows need no million-row neighbor graph for a budget of a few hundred.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.functional.selection import (
    ball_kernel,
    best_per_cluster,
    greedy_cover,
    k_center,
    quotas,
    support_kernel,
)
from fmcluster.heads.kmeans import KMeansHead
from fmcluster.labeling.inputs import LabelingInput
from fmcluster.labeling.propagate import Propagated, propagate
from fmcluster.partition.kmeans import spherical_kmeans
from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import check_in, check_labels
from fmcluster.vectors.graph import KNNGraph, evidence_graph
from fmcluster.vectors.rows import unit_rows

__all__ = ["STRATEGIES", "Propagated", "propagate", "query"]

STRATEGIES = (
    "auto",
    "random",
    "typical",
    "centroid",
    "coverage",
    "herding",
    "coreset",
    "uncertain",
    "tail",
)
# Neighbor entries that herding may hold: pool rows * (pool rows / budget).
POOL_ENTRIES = 6_000_000
# Where labels are many, n / budget is a handful of neighbors: rows in the open are among the few
# nearest of no one, so that picks would crowd where rows do and rare classes go without a label.
MIN_NEIGHBORS = 40
MAX_CLUSTERS = 500  # TypiClust's own cap
PURITY = 0.95  # ProbCover's own level
TYPICAL_NEIGHBORS = 20  # TypiClust's own number
# Above a fifth, undecided rows crowd into few classes and a plain classifier on the picks suffers.
UNCERTAINTY_WEIGHT = 0.2


@dataclass(frozen=True)
class _Round:
    """One question: the rows, what is labeled, how many to add."""

    inputs: LabelingInput
    budget: int
    taken: NDArray[np.int64]
    target: NDArray[Any] | None
    random_state: int

    @property
    def total(self) -> int:
        return self.budget + len(self.taken)

    @property
    def free(self) -> NDArray[np.int64]:
        return np.setdiff1d(np.arange(self.inputs.n_rows), self.taken)

    def seed(self, stream: str) -> int:
        return seed_of(self.random_state, "query", stream)


def query(
    result: Any,
    budget: int = 200,
    *,
    strategy: str = "auto",
    labeled: ArrayLike | Mapping[Any, Any] | None = None,
    random_state: int = 0,
) -> NDArray[Any]:
    """Choose the rows to label next.

    Parameters
    ----------
    result : ClusterResult, EmbeddingStore or (n, d) array
        The rows; of a result also its clusters, confidence and prior.
    budget : int
        How many rows to choose.
    strategy : str
        One of `STRATEGIES`; see the module's table.
    labeled : array-like of ids, or dict of id to label, optional
        Rows labeled in earlier rounds; they are not chosen again and count as covered. With their
        labels (a dict), confidence is what `propagate` makes of them.
    random_state : int
        Equal seeds give equal choices.

    Returns
    -------
    (budget,) array
        Distinct ids of rows without a label, most valuable first.

    Raises
    ------
    ValueError
        A budget below 1 or above the number of rows without a label, an unknown strategy, unknown
        or repeated ids in `labeled`.

    Examples
    --------
    >>> X = np.repeat(np.eye(3), 5, axis=0) + 0.01 * np.random.default_rng(0).normal(size=(15, 3))
    >>> sorted((query(X, 3) // 5).tolist())
    [0, 1, 2]
    """
    check_in(strategy, STRATEGIES, "strategy")
    inputs = LabelingInput.of(result)
    target = None
    if isinstance(labeled, Mapping):
        target = check_labels(list(labeled.values()), name="the labels in labeled")
        labeled = list(labeled)
    taken = inputs.find([] if labeled is None else labeled, name="labeled")
    unlabeled = inputs.n_rows - len(taken)
    if isinstance(budget, bool) or not isinstance(budget, (int, np.integer)):
        raise TypeError(f"budget must be an integer, got {budget!r}")
    if not 1 <= budget <= unlabeled:
        raise ValueError(
            f"budget={budget} must lie in 1..{unlabeled}: of {inputs.n_rows} rows "
            f"{len(taken)} are labeled already"
        )
    ask = _Round(inputs, int(budget), taken, target, random_state)
    picks = _RULES[strategy](ask)
    return inputs.ids[_complete(ask, picks)]


def _complete(ask: _Round, picks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Fill up with random free rows where a strategy ran out of distinct ones."""
    picks = picks[: ask.budget]
    if len(picks) == ask.budget:
        return picks
    left = np.setdiff1d(ask.free, picks)
    rng = np.random.default_rng(ask.seed("fill"))
    return np.concatenate([picks, rng.choice(left, ask.budget - len(picks), replace=False)])


# -- strategies ---------------------------------------------------------------------------------


def _random(ask: _Round) -> NDArray[np.int64]:
    rng = np.random.default_rng(ask.seed("random"))
    return rng.choice(ask.free, ask.budget, replace=False)


def _typical(ask: _Round) -> NDArray[np.int64]:
    clusters, _ = _partition(ask)
    return best_per_cluster(clusters, _density(ask), ask.budget, taken=ask.taken)


def _centroid(ask: _Round) -> NDArray[np.int64]:
    clusters, cosine = _partition(ask, cap=ask.total)
    return best_per_cluster(clusters, cosine, ask.budget, taken=ask.taken)


def _coreset(ask: _Round) -> NDArray[np.int64]:
    return k_center(ask.inputs.rows, ask.budget, taken=ask.taken)


def _uncertain(ask: _Round) -> NDArray[np.int64]:
    confidence = _confidence(ask)
    free = ask.free
    order = np.lexsort((free, confidence[free]))
    return free[order[: ask.budget]]


def _tail(ask: _Round) -> NDArray[np.int64]:
    labels, _, prior = _clustering(ask)
    k = len(prior)
    free = ask.free
    available = np.bincount(labels[free], minlength=k)
    held = np.bincount(labels[ask.taken], minlength=k)
    wanted = quotas(prior, ask.budget, available, held)
    density = _density(ask)
    order = np.lexsort((free, -density[free], labels[free]))
    rows = free[order]
    turn = np.arange(len(rows)) - np.searchsorted(labels[rows], labels[rows])
    chosen = rows[turn < wanted[labels[rows]]]
    return chosen[np.lexsort((chosen, prior[labels[chosen]]))]


def _herding(ask: _Round) -> NDArray[np.int64]:
    pool, _, graph = _pool(ask)
    kernel = support_kernel(graph.indices, graph.similarities)
    return pool[greedy_cover(kernel, ask.budget, taken=np.searchsorted(pool, ask.taken))]


def _coverage(ask: _Round) -> NDArray[np.int64]:
    pool, rows, graph = _pool(ask, center=False)
    k = int(min(ask.total, MAX_CLUSTERS, max(2, len(pool) // 5)))
    centroids = spherical_kmeans(rows, k, max_iter=20, seed=ask.seed("coverage"))
    clusters = (rows @ centroids.T).argmax(axis=1)
    # The largest radius at which balls still hold one cluster: of the purity levels of all radii.
    same = clusters[graph.indices] == clusters[:, None]
    distance = np.sqrt(np.maximum(2 - 2 * graph.similarities, 0))
    first_foe = np.where(same, np.inf, distance).min(axis=1)
    radius = float(np.quantile(first_foe, 1 - PURITY))
    if not np.isfinite(radius):
        radius = float(distance.max())
    kernel = ball_kernel(graph.indices, graph.similarities, radius)
    return pool[greedy_cover(kernel, ask.budget, taken=np.searchsorted(pool, ask.taken))]


def _auto(ask: _Round) -> NDArray[np.int64]:
    """Herd; once labels are known, rows that they leave undecided count the more.

    Before any label, weighing by a clustering's confidence or forcing one pick a cluster measured
    no better than herding alone, or worse: the greedy cover spreads over the clusters by itself.
    """
    pool, _, graph = _pool(ask)
    kernel = support_kernel(graph.indices, graph.similarities)
    uncertainty = _uncertainty(ask)
    importance = None if uncertainty is None else uncertainty[pool]
    taken = np.searchsorted(pool, ask.taken)
    return pool[greedy_cover(kernel, ask.budget, taken=taken, importance=importance)]


_RULES = {
    "auto": _auto,
    "random": _random,
    "typical": _typical,
    "centroid": _centroid,
    "coverage": _coverage,
    "herding": _herding,
    "coreset": _coreset,
    "uncertain": _uncertain,
    "tail": _tail,
}


# -- what strategies stand on -------------------------------------------------------------------


def _pool(
    ask: _Round, *, center: bool = True
) -> tuple[NDArray[np.int64], NDArray[np.float32], KNNGraph]:
    """Return candidate rows (sorted, labeled ones among them), their vectors and neighbors.

    Herding looks at directions from the mean: the mean itself, large in features that are never
    negative, says nothing about which rows are alike.
    """
    n = ask.inputs.n_rows
    wide = min(np.sqrt(POOL_ENTRIES * ask.total), POOL_ENTRIES / MIN_NEIGHBORS)
    size = int(min(n, max(wide, 4 * ask.total)))
    pool = np.arange(n)
    if size < n:
        rng = np.random.default_rng(ask.seed("pool"))
        extra = rng.choice(
            ask.free, min(max(size - len(ask.taken), ask.budget), len(ask.free)), replace=False
        )
        pool = np.sort(np.concatenate([ask.taken, extra]))
    rows = np.asarray(ask.inputs.rows[pool], dtype=np.float32)
    if center:
        rows = unit_rows(rows - rows.mean(axis=0, dtype=np.float64))
    least = max(2, min(MIN_NEIGHBORS, len(pool) // 10))
    width = int(np.clip(round(len(pool) / ask.total), least, len(pool) - 1))
    return pool, rows, evidence_graph(rows, k=width, random_state=ask.seed("graph"))


def _partition(
    ask: _Round, *, cap: int = MAX_CLUSTERS
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return k-means clusters, one per label to come, and each row's cosine to its centroid."""
    inputs = ask.inputs
    n_clusters = int(min(ask.total, cap, inputs.n_rows))
    pool, rows, _ = _sampled(ask, max(50_000, 20 * n_clusters))
    centroids = spherical_kmeans(rows, n_clusters, max_iter=50, seed=ask.seed("partition"))
    labels = np.empty(inputs.n_rows, np.int64)
    cosine = np.empty(inputs.n_rows, np.float32)
    for i in range(0, inputs.n_rows, 16_384):
        scores = np.asarray(inputs.rows[i : i + 16_384]) @ centroids.T
        labels[i : i + 16_384], cosine[i : i + 16_384] = scores.argmax(axis=1), scores.max(axis=1)
    return labels, cosine


def _sampled(ask: _Round, size: int) -> tuple[NDArray[np.int64], NDArray[np.float32], bool]:
    n = ask.inputs.n_rows
    if n <= size:
        return np.arange(n), np.asarray(ask.inputs.rows[np.arange(n)], np.float32), False
    rows = np.sort(np.random.default_rng(ask.seed("sample")).choice(n, size, replace=False))
    return rows, np.asarray(ask.inputs.rows[rows], np.float32), True


def _density(ask: _Round) -> NDArray[np.float32]:
    """Return each row's mean cosine to its nearest neighbors (typicality)."""
    graph = ask.inputs.neighbors(TYPICAL_NEIGHBORS, random_state=ask.seed("density"))
    return graph.similarities.mean(axis=1)


def _clustering(ask: _Round) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
    """Return labels, confidence and prior: the result's own, else of a quick k-means head."""
    inputs = ask.inputs
    if inputs.labels is not None and inputs.proba is not None:
        proba = inputs.proba
        confidence = inputs.confidence
        prior = inputs.prior
        k = proba.shape[1]
        if prior is None or len(prior) != k:
            prior = np.bincount(inputs.labels, minlength=k) / inputs.n_rows
        return inputs.labels, proba.max(axis=1) if confidence is None else confidence, prior
    k = int(np.clip(ask.total, 2, max(2, min(100, inputs.n_rows // 20))))
    head = KMeansHead(k, n_init=1, random_state=ask.seed("head")).fit(inputs.rows)
    confidence = head.predict_proba(inputs.rows).max(axis=1)
    return head.labels_, confidence, head.cluster_prior_


def _confidence(ask: _Round) -> NDArray[Any]:
    """Return confidence (n,) from the labels given so far, the result, or a quick head."""
    if ask.target is not None and len(np.unique(ask.target)) > 1:
        ids = ask.inputs.ids[ask.taken]
        return propagate(ask.inputs, ids, ask.target, random_state=ask.random_state).confidence
    return _clustering(ask)[1]


def _uncertainty(ask: _Round) -> NDArray[Any] | None:
    """Return how much each row should count: mostly for being there, some for being undecided."""
    if ask.target is None or len(np.unique(ask.target)) < 2:
        return None
    uncertainty = 1 - np.asarray(_confidence(ask), dtype=np.float64)
    return (
        1
        - UNCERTAINTY_WEIGHT
        + UNCERTAINTY_WEIGHT * uncertainty / max(float(uncertainty.mean()), 1e-9)
    )
