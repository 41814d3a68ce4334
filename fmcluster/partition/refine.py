r"""Refine a partition by turns of a linear classifier and the neighbor graph, without training.

Given soft labels Q (n, k), one round is

.. math::

    m &= \tfrac1n Q^\top 1, \qquad z = \text{linear}(x; Q), \qquad
    P \propto \exp(\beta z)\, m^{\,a} \\
    Q &\propto P^{1-\gamma} (S P)^{\gamma}

S is the row-stochastic neighbor graph. The linear classifier is either the cosine to the cluster's
mean direction (von Mises-Fisher with one concentration) or the linear discriminant of the pooled
covariance, shrunk (Ledoit and Wolf's form). Its slope :math:`\beta` is not a parameter: it is the
one that best predicts the *neighbors' labels S Q, times two, for the product with S P halves it.

The exponent a of the sizes is the share of a row's label that its neighbors tell,
:math:`a = I(Q; SQ) / H(m)`. It is Dinkelbach's step for maximizing I / H: :math:`a = 0` maximizes
the mutual information itself (IIC, SCAN, TEMI), which prefers even clusters, :math:`a = 1` is
maximum likelihood, which lets large clusters eat small ones. With even sizes asked for, a = 0 and
the columns of Q are scaled to equal mass (Sinkhorn).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.softmax import softmax_in_place
from fmcluster.partition.estimates.sizes import shares_by_rank
from fmcluster.partition.scores import NodeEdges
from fmcluster.utils.stopping import check_stopped
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import unit_rows

Array = NDArray[np.float32]

# Scores have unit spread: from no information to hard labels, 30 % apart.
SLOPES = np.geomspace(0.05, 20, 24).astype(np.float32)
# One number is fitted: more rows cost 24 softmaxes of them a fit.
SLOPE_ROWS = 2_000
# Unshrunk discriminants explode; 0.8, with neighbors weighing 0.8: entry 7 of the log in
# benchmarks/results/auto/README.md, where numbers below are entries, too.
SHRINKAGE = {"vmf": 1.0, "lda": 0.8}
GRAPH_SHARE = {"vmf": 0.5, "lda": 0.8}
# No number of diffusions is best for all data, so each has its starts (23).
DIFFUSION = (0, 2, 4)
# The discriminant of rows diffused twice scores higher on nearly every set (24).
MODEL_DIFFUSION = {"vmf": 0, "lda": 2}
# Of a balanced share: a twentieth is part of the gain on tails, a fifth costs tweet 7 points (29).
LEAST_SHARE = 0.1
# 20 move cifar10_test by up to three points, others by less than one (28).
N_NEIGHBORS = 10
# Cosines this far apart weigh e-fold apart, in the smoothing and in the affinities.
WIDTH = 0.1
# Up to so many clusters the joint of own and neighbors' labels is one product; with 1,000 it took
# a quarter of a fit. A row's shares beyond the largest are hundredths by then.
DENSE_CLUSTERS, LARGEST_SHARES = 256, 8
# Keeps logarithms and divisions of float32 shares finite.
TINY = 1e-6


@dataclass
class RefinementContext:
    """Unit rows and what every refinement of them shares.

    Attributes
    ----------
    rows : (n, d) float32
        Unit rows.
    graph : KNNGraph
        Their neighbors.
    seed : int
        Picks the rows that the slope is fitted on.
    weights : (n,) float64, optional
        How many rows each stands for (`partition.nodes`); one where None.
    """

    rows: Array
    graph: KNNGraph
    seed: int = 0
    weights: NDArray[np.float64] | None = None

    @cached_property
    def near(self) -> KNNGraph:
        """The neighbors that refinements look at."""
        return self.graph.take(min(N_NEIGHBORS, self.graph.k))

    @cached_property
    def edges(self) -> KNNGraph | NodeEdges:
        """The edges that partitions are scored by."""
        return self.near

    @cached_property
    def affinity(self) -> Any:
        """Symmetric sums of affinities, csr (n, n), by which `partition.nodes` joins rows."""
        return affinities(self.near)

    @cached_property
    def smoothing(self) -> Any:
        """Row-stochastic sparse S (n, n): near neighbors weigh more."""
        return smoothing_matrix(self.near)

    @cached_property
    def mass(self) -> Array:
        """Share of all rows that each row stands for, (n,), sums to one."""
        n = len(self.rows)
        if self.weights is None:
            return np.full(n, 1 / n, np.float32)
        return (self.weights / self.weights.sum()).astype(np.float32)

    @cached_property
    def diffused(self) -> dict[int, RefinementContext]:
        """The rows averaged `DIFFUSION[i]` times with their neighbors, by number of times.

        Half a row, half the weighted mean of its neighbors (Laplacian smoothing, Taubin 1995):
        what neighbors do not share fades, and clusters come apart.
        """
        contexts, rows = {0: self}, self.rows
        for time in range(1, max(DIFFUSION) + 1):
            rows = unit_rows(0.5 * rows + 0.5 * (self.smoothing @ rows))
            if time in DIFFUSION:
                contexts[time] = RefinementContext(rows, self.graph, self.seed, self.weights)
                contexts[time].smoothing, contexts[time].edges = self.smoothing, self.edges
        return contexts

    @cached_property
    def scatter(self) -> NDArray[np.float64]:
        """Second moment of the rows, (d, d)."""
        return ((self.rows.T * self.mass) @ self.rows).astype(np.float64)

    @cached_property
    def sample(self) -> NDArray[np.int64]:
        """Rows on which slopes are fitted."""
        order = np.random.default_rng(self.seed).permutation(len(self.rows))
        return np.sort(order[:SLOPE_ROWS])

    @cached_property
    def sampled_smoothing(self) -> Any:
        """The rows of S that slopes are fitted on: a product with a part of it costs less."""
        return self.smoothing[self.sample]


def smoothing_matrix(graph: KNNGraph) -> Any:
    """Return S: weights exp((cosine - cosine of the last neighbor) / 0.1), rows summing to one."""
    from scipy.sparse import csr_matrix

    weights = np.exp((graph.similarities - graph.similarities[:, -1:]) / WIDTH).astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    n, k = graph.indices.shape
    pointers = np.arange(0, n * k + 1, k)
    return csr_matrix((weights.ravel(), graph.indices.ravel(), pointers), shape=(n, n))


def affinities(graph: KNNGraph) -> Any:
    """Return the symmetric affinities of rows that an edge joins, csr (n, n)."""
    matrix = graph.to_csr(symmetric=True)
    matrix.data -= 1
    matrix.data /= WIDTH
    np.exp(matrix.data, out=matrix.data)
    return matrix


def one_hot(labels: NDArray[Any], n_clusters: int) -> Array:
    """Return (n, k) indicators."""
    out = np.zeros((len(labels), n_clusters), np.float32)
    out[np.arange(len(labels)), labels] = 1
    return out


def linear_classifier(
    context: RefinementContext, Q: Array, model: str
) -> tuple[Array, Array, Array]:
    """Return weights (d, k) and offsets (k,) of the classifier of soft labels `Q`, scores (n, k).

    Scores have unit mean square over all rows and clusters, so that one grid of slopes serves.
    """
    weighted = Q * context.mass[:, None]
    share = weighted.sum(axis=0)
    means = (weighted.T @ context.rows) / np.maximum(share, TINY / len(Q))[:, None]
    if model == "vmf":
        weights, offsets = unit_rows(means).T, np.zeros(Q.shape[1], np.float32)
    else:
        within = context.scatter - (means.T * share.astype(np.float64)) @ means
        d = len(within)
        shrink = SHRINKAGE[model]
        level = max(np.trace(within) / d, TINY)
        within = (1 - shrink) * within + (shrink * level + TINY * level) * np.eye(d)
        solved = np.linalg.solve(within, means.T.astype(np.float64)) * level
        offsets = (-0.5 * (means.T * solved).sum(axis=0)).astype(np.float32)
        weights = solved.astype(np.float32)
    z = context.rows @ weights
    z += offsets
    some = z[context.sample]
    scale = max(float((some - some.mean(axis=1, keepdims=True)).std()), TINY)
    z /= scale
    return np.ascontiguousarray(weights / scale), offsets / scale, z


def fit_slope(z: Array, target: Array) -> float:
    """Return the slope b whose softmax(b z) has the least cross-entropy to `target` rows."""
    z = z - z.max(axis=1, keepdims=True)
    fit = float((target * z).sum(axis=1).mean())

    @cache
    def loss(at: int) -> float:
        b = SLOPES[at]
        return float(np.log(np.exp(z * b).sum(axis=1)).mean()) - b * fit

    # Convex in b: the first that the next one does not improve, by halving.
    low, high = 0, len(SLOPES) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if loss(middle) <= loss(middle + 1) else (middle + 1, high)
    return float(SLOPES[low])


def information_share(Q: Array, S: Any, mass: Array) -> float:
    """Return I / H of the joint of a row's label (Q) and its neighbors' (S Q), in 0..1.

    Of more than `DENSE_CLUSTERS` clusters each row's largest shares are joined, and what they leave
    counts as independent: all would take n k^2.
    """
    if Q.shape[1] > DENSE_CLUSTERS:
        m = (mass @ Q + (mass @ S) @ Q).astype(np.float64) / 2
        largest = largest_shares(Q)
        joint = (largest.multiply(mass[:, None]).T @ (S @ largest)).tocoo()
        joint = ((joint + joint.T) / 2).tocoo()
        value = joint.data.astype(np.float64)
        apart = m[joint.row] * m[joint.col]
    else:
        joint = ((Q.T * mass) @ (S @ Q)).astype(np.float64)
        joint = (joint + joint.T) / 2
        joint /= joint.sum()
        m = joint.sum(axis=1)
        value, apart = joint, np.outer(m, m)
    entropy = -(m * np.log(m + 1e-12)).sum()
    mutual = (value * np.log((value + 1e-12) / (apart + 1e-12))).sum()
    return float(np.clip(mutual / max(entropy, 1e-9), 0, 1))


def largest_shares(Q: Array) -> Any:
    """Return the largest shares of each row, csr (n, k)."""
    from scipy.sparse import csr_matrix

    n, k = Q.shape
    column = np.argpartition(Q, k - LARGEST_SHARES, axis=1)[:, -LARGEST_SHARES:]
    pointers = np.arange(0, column.size + 1, LARGEST_SHARES)
    return csr_matrix(
        (np.take_along_axis(Q, column, axis=1).ravel(), column.ravel(), pointers), shape=(n, k)
    )


def to_shares(
    Q: Array, shares: NDArray[Any], *, mass: Array | None = None, n_iter: int = 15
) -> Array:
    """Scale the columns of `Q` so that its column means are `shares` (k,), rows summing to one."""
    mass = np.full(len(Q), 1 / len(Q), np.float32) if mass is None else mass
    scale = np.ones(Q.shape[1], np.float32)
    for _ in range(n_iter):
        rows = mass / np.maximum(Q @ scale, 1e-30)
        column = rows @ Q
        scale = (shares / np.maximum(column, 1e-12)).astype(np.float32)
    Q = Q * scale
    return Q / Q.sum(axis=1, keepdims=True)


def refine(
    context: RefinementContext,
    start: NDArray[Any],
    n_clusters: int,
    *,
    model: str = "vmf",
    shares: NDArray[Any] | None = None,
    fixed: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    evidence: Array | None = None,
    size_exponent: float | None = None,
    n_iter: int = 10,
) -> Array:
    """Refine a partition; return soft labels (n, k).

    The discriminant is that of diffused rows: within their pooled covariance there is less of what
    no two rows share.

    Parameters
    ----------
    context : RefinementContext
        Rows and graph.
    start : (n,) int or (n, k) float
        Labels in 0..k-1, or soft ones.
    model : {"vmf", "lda"}
        The linear classifier.
    shares : (k,), optional
        Sizes to keep, largest first or even; learned where None.
    fixed : (rows, labels), optional
        Rows whose labels are known and stay.
    evidence : (n, k), optional
        Log-probabilities that something else gives the rows, added to the classifier's scores.
    size_exponent : float, optional
        The exponent a of the sizes; by default what neighbors tell of the labels.
    n_iter : int
        Rounds.
    """
    context = context.diffused[MODEL_DIFFUSION[model]]
    S, gamma, k = context.smoothing, GRAPH_SHARE[model], n_clusters
    Q = one_hot(start, k) if start.ndim == 1 else start.astype(np.float32)

    def pin(labels: Array) -> Array:
        if fixed is not None:
            labels[fixed[0]] = one_hot(fixed[1], k)
        return labels

    Q = pin(Q)
    slope, a = 1.0, 1.0 if size_exponent is None else size_exponent
    for turn in range(n_iter):
        check_stopped()
        _, _, z = linear_classifier(context, Q, model)
        if turn % 3 == 0:
            # Twice, for the product with the neighbors takes the root (entry 4).
            slope = 2 * fit_slope(z[context.sample], context.sampled_smoothing @ Q)
        z *= slope
        if shares is None:
            sizes = np.maximum(context.mass @ Q, LEAST_SHARE / k)
            if size_exponent is None and (turn % 3 == 0 or k <= DENSE_CLUSTERS):
                a = information_share(Q, S, context.mass)
            z += (a * np.log(sizes / sizes.sum())).astype(np.float32)
        if evidence is not None:
            z += evidence
        P = pin(softmax_in_place(z))
        P += TINY
        R = S @ P
        Q = P ** (1 - gamma) * R**gamma
        Q /= Q.sum(axis=1, keepdims=True)
        if shares is not None:
            Q = to_shares(Q, shares_by_rank(shares, context.mass @ Q), mass=context.mass)
        Q = pin(Q)
    return Q
