"""The strategies of `query`, a function each, and what they stand on.

A strategy takes the question (`Round`) and returns row numbers, most valuable first; where it runs
out of distinct rows it may return fewer than were asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.labels.certify import region_size
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
from fmcluster.labeling.propagate import propagate
from fmcluster.partition.kmeans import ROUGH_ROUNDS, spherical_kmeans
from fmcluster.utils.random import seed_of
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import BLOCK_ROWS, sample_indices, unit_rows

# Neighbor entries that herding may hold: pool rows * (pool rows / budget).
POOL_ENTRIES = 6_000_000
# Where labels are many, n / budget is a handful of neighbors: rows in the open are among the few
# nearest of no one, so that picks would crowd where rows do and rare classes go without a label.
MIN_NEIGHBORS = 40
MAX_CLUSTERS = 500  # TypiClust's own cap
PURITY = 0.95  # ProbCover's own level
TYPICAL_NEIGHBORS = 20  # TypiClust's own number
# What k-means learns a partition from: 20 rows a cluster, 50,000 at least, which take a second.
PARTITION_ROWS, PARTITION_ROWS_A_CLUSTER = 50_000, 20
# Above a fifth, undecided rows crowd into few classes and a plain classifier on the picks suffers.
UNCERTAINTY_WEIGHT = 0.2
# The chance of a false promise for which `certify` is planned; its own default.
CERTIFY_DELTA = 0.05


@dataclass(frozen=True)
class Round:
    """One question: the rows, what is labeled, how many to add; `accuracy` for `certify` alone."""

    inputs: LabelingInput
    budget: int
    taken: NDArray[np.int64]
    target: NDArray[Any] | None
    random_state: int
    accuracy: float = 0.95

    @property
    def total(self) -> int:
        """Labels after this round."""
        return self.budget + len(self.taken)

    @property
    def free(self) -> NDArray[np.int64]:
        """Rows without a label, sorted."""
        return np.setdiff1d(np.arange(self.inputs.n_rows), self.taken)

    def seed(self, stream: str) -> int:
        """Return the seed of one stream of random numbers."""
        return seed_of(self.random_state, "query", stream)


# -- strategies ---------------------------------------------------------------------------------


def _random(ask: Round) -> NDArray[np.int64]:
    rng = np.random.default_rng(ask.seed("random"))
    return rng.choice(ask.free, ask.budget, replace=False)


def _certify(ask: Round) -> NDArray[np.int64]:
    rng = np.random.default_rng(ask.seed("certify"))
    return rng.choice(confident_rows(ask), ask.budget, replace=False)


def confident_rows(ask: Round) -> NDArray[np.int64]:
    """Return the free rows that `certify` draws from: the most confident ones, ties together."""
    confidence = ask.inputs.confidence
    if confidence is None:
        raise ValueError(
            "strategy='certify' draws by the confidence of a clustering, and none was given: pass "
            "the ClusterResult"
        )
    free = ask.free
    ranked = free[np.argsort(-confidence[free], kind="stable")]
    values = confidence[ranked].astype(np.float64)
    return ranked[: region_size(values, ask.budget, ask.accuracy, CERTIFY_DELTA)]


def _typical(ask: Round) -> NDArray[np.int64]:
    clusters, _ = _partition(ask)
    return best_per_cluster(clusters, _density(ask), ask.budget, taken=ask.taken)


def _centroid(ask: Round) -> NDArray[np.int64]:
    clusters, cosine = _partition(ask, cap=ask.total)
    return best_per_cluster(clusters, cosine, ask.budget, taken=ask.taken)


def _coreset(ask: Round) -> NDArray[np.int64]:
    return k_center(ask.inputs.rows, ask.budget, taken=ask.taken)


def _uncertain(ask: Round) -> NDArray[np.int64]:
    confidence = _confidence(ask)
    free = ask.free
    order = np.lexsort((free, confidence[free]))
    return free[order[: ask.budget]]


def _tail(ask: Round) -> NDArray[np.int64]:
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


def _herding(ask: Round, uncertainty: NDArray[Any] | None = None) -> NDArray[np.int64]:
    pool, _, graph = _pool(ask)
    kernel = support_kernel(graph.indices, graph.similarities)
    importance = None if uncertainty is None else uncertainty[pool]
    taken = np.searchsorted(pool, ask.taken)
    return pool[greedy_cover(kernel, ask.budget, taken=taken, importance=importance)]


def _coverage(ask: Round) -> NDArray[np.int64]:
    pool, rows, graph = _pool(ask, center=False)
    # Five rows a cluster at least: balls of fewer say nothing of their purity.
    k = int(min(ask.total, MAX_CLUSTERS, max(2, len(pool) // 5)))
    centroids = spherical_kmeans(rows, k, max_iter=ROUGH_ROUNDS, seed=ask.seed("coverage"))
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


def _auto(ask: Round) -> NDArray[np.int64]:
    """Herd; once labels are known, rows that they leave undecided count the more.

    Before any label, weighing by a clustering's confidence or forcing one pick a cluster measured
    no better than herding alone, or worse: the greedy cover spreads over the clusters by itself.
    """
    return _herding(ask, _uncertainty(ask))


RULES = {
    "auto": _auto,
    "random": _random,
    "typical": _typical,
    "centroid": _centroid,
    "coverage": _coverage,
    "herding": _herding,
    "coreset": _coreset,
    "uncertain": _uncertain,
    "tail": _tail,
    "certify": _certify,
}


# -- what strategies stand on -------------------------------------------------------------------


def _pool(
    ask: Round, *, center: bool = True
) -> tuple[NDArray[np.int64], NDArray[np.float32], KNNGraph]:
    """Return candidate rows (sorted, labeled ones among them), their vectors and neighbors.

    Herding looks at directions from the mean: the mean itself, large in features that are never
    negative, says nothing about which rows are alike.
    """
    n = ask.inputs.n_rows
    wide = min(np.sqrt(POOL_ENTRIES * ask.total), POOL_ENTRIES / MIN_NEIGHBORS)
    # Four rows to choose from for each that is chosen, at least.
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
    # A tenth of a small pool: wider, all rows would be near all.
    least = max(2, min(MIN_NEIGHBORS, len(pool) // 10))
    width = int(np.clip(round(len(pool) / ask.total), least, len(pool) - 1))
    return pool, rows, KNNGraph.build(rows, k=width, random_state=ask.seed("graph"))


def _partition(
    ask: Round, *, cap: int = MAX_CLUSTERS
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return k-means clusters, one per label to come, and each row's cosine to its centroid."""
    inputs = ask.inputs
    n_clusters = int(min(ask.total, cap, inputs.n_rows))
    size = max(PARTITION_ROWS, PARTITION_ROWS_A_CLUSTER * n_clusters)
    sample = inputs.rows[sample_indices(inputs.rows, size, ask.seed("sample"))]
    centroids = spherical_kmeans(
        np.asarray(sample, np.float32), n_clusters, seed=ask.seed("partition")
    )
    labels = np.empty(inputs.n_rows, np.int64)
    cosine = np.empty(inputs.n_rows, np.float32)
    size = 2 * BLOCK_ROWS
    for i in range(0, inputs.n_rows, size):
        block = slice(i, i + size)
        scores = np.asarray(inputs.rows[block]) @ centroids.T
        labels[block], cosine[block] = scores.argmax(axis=1), scores.max(axis=1)
    return labels, cosine


def _density(ask: Round) -> NDArray[np.float32]:
    """Return each row's mean cosine to its nearest neighbors (typicality)."""
    graph = ask.inputs.neighbors(TYPICAL_NEIGHBORS, random_state=ask.seed("density"))
    return graph.similarities.mean(axis=1)


def _clustering(ask: Round) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
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
    # A stand-in where there is no result: few clusters, of twenty rows at least.
    k = int(np.clip(ask.total, 2, max(2, min(100, inputs.n_rows // 20))))
    head = KMeansHead(k, n_init=1, random_state=ask.seed("head")).fit(inputs.rows)
    confidence = head.predict_proba(inputs.rows).max(axis=1)
    return head.labels_, confidence, head.cluster_prior_


def _confidence(ask: Round) -> NDArray[Any]:
    """Return confidence (n,) from the labels given so far, the result, or a quick head."""
    if ask.target is not None and len(np.unique(ask.target)) > 1:
        ids = ask.inputs.ids[ask.taken]
        return propagate(ask.inputs, ids, ask.target, random_state=ask.random_state).confidence
    return _clustering(ask)[1]


def _uncertainty(ask: Round) -> NDArray[Any] | None:
    """Return how much each row should count: mostly for being there, some for being undecided."""
    if ask.target is None or len(np.unique(ask.target)) < 2:
        return None
    uncertainty = 1 - np.asarray(_confidence(ask), dtype=np.float64)
    return (
        1
        - UNCERTAINTY_WEIGHT
        + UNCERTAINTY_WEIGHT * uncertainty / max(float(uncertainty.mean()), 1e-9)
    )
