r"""Label noise as a transition matrix: is the given label right, or the embedding.

Model: a true class :math:`y_i \sim \pi`, an embedding :math:`x_i \mid y_i`, and a given label drawn
by the noise transition matrix :math:`T_{cj} = P(\tilde y = j \mid y = c)`. What a row deserves is

.. math:: q_i(c) = P(y_i = c \mid x_i, \tilde y_i) \propto p_{-i}(c \mid x_i)\, T_{c \tilde y_i},

where :math:`p_{-i}` never uses row i's own label: it is a log-linear pool of a cross-fitted shared-
covariance discriminant, of soft votes of the row's neighbors at two widths and, where given, of
its cluster. The pool's weights maximize :math:`\sum_i \log \sum_c p_{-i}(c \mid x_i) T_{c\tilde
y_i}`. EM alternates: experts from q, weights from T, q from both, T from q.

The transition matrix starts from the classes that win the neighbors' vote, not at identity: with
:math:`T = I` a flat p explains noise as well as a sharp p and a noisy T do, and EM stays there.

This view is Natarajan et al., "Learning with noisy labels" (NeurIPS 2013) and Patrini et
al., "Making deep neural networks robust to label noise" (CVPR 2017); the start by winning classes
is confident learning's joint (Northcutt et al., JAIR 2021); neighbors' labels as evidence are
SimiFeat's (Zhu et al., ICML 2022). Flagging where expected F1 peaks is Lipton et al. (ECML 2014).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from fmcluster.functional.softmax import softmax_in_place
from fmcluster.functional.transition import adaptive_transition, estimate_transition

# Larger than blocks elsewhere: up to so many rows the folds and votes are sorted once and held,
# not once a round (seconds of 2,500 rows: benchmarks/results/noise/README.md).
BLOCK_ROWS = 16_384
# A few weights are fitted on them: more rows cost time in every round.
POOL_ROWS = 1_000
# Bounds the condition number of float32 factors; more nears the classes to plain means.
SHRINKAGE = 0.3
Floats = NDArray[Any]


@dataclass(frozen=True)
class Denoised:
    """What EM found.

    Attributes
    ----------
    posterior : (n, k) float32
        Probability of each class given the embedding and the given label; rows sum to one.
    score : (n,) float64
        Probability that the given label is right, in [0, 1]; low is suspicious.
    transition : (k, k) float64
        Row c: the labels that class c was given; rows sum to one.
    prior : (k,) float64
        Share of each (true) class.
    pool : tuple of float
        Weight of each expert, in the order discriminant, narrow votes, wide votes, clusters (where
        given), prior.
    """

    posterior: NDArray[np.float32]
    score: NDArray[np.float64]
    transition: NDArray[np.float64]
    prior: NDArray[np.float64]
    pool: tuple[float, ...]

    @property
    def noise_rate(self) -> float:
        """Estimated share of wrong labels."""
        return float(1 - self.score.mean())


def stratified_folds(given: NDArray[np.int64], n_folds: int, seed: int) -> NDArray[np.int64]:
    """Return a fold 0..n_folds-1 for each row, each class spread evenly over the folds."""
    order = np.lexsort((np.random.default_rng(seed).random(len(given)), given))
    fold = np.empty(len(given), np.int64)
    fold[order] = np.arange(len(given)) % n_folds
    return fold


def f1_cut(wrong: Floats, *, floor: float = 0.25) -> NDArray[np.bool_]:
    """Return which rows to flag for the largest F1 expected under probabilities `wrong` (n,).

    Rows less likely wrong than `floor` are never flagged.
    """
    order = np.argsort(-wrong, kind="stable")
    hits = np.cumsum(wrong[order])
    expected = 2 * hits / (np.arange(1, len(wrong) + 1) + wrong.sum() + 1e-12)
    flagged = np.zeros(len(wrong), bool)
    flagged[order[: int(expected.argmax()) + 1]] = True
    return flagged & (wrong >= floor)


# -- experts ------------------------------------------------------------------------------------


class Discriminant:
    """Shared-covariance Gaussian classes, fitted without each fold from sums over the others."""

    def __init__(self, x: Any, fold: NDArray[np.int64], n_folds: int) -> None:
        self.x, self.fold, self.n_folds = x, fold, n_folds
        self.factors: list[Any] = []
        # Few rows are sorted into folds once, many block by block in every round.
        self.held: list[tuple[NDArray[np.int64], Floats]] | None = None
        blocks = _row_blocks(x.shape[0])
        if len(blocks) == 1:
            self.held = self._by_fold(blocks[0])
        self.scatter = np.zeros((n_folds, x.shape[1], x.shape[1]), np.float32)
        for rows in blocks:
            for f, (_, part) in enumerate(self.held or self._by_fold(rows)):
                self.scatter[f] += part.T @ part

    def _by_fold(self, rows: Any) -> list[tuple[NDArray[np.int64], Floats]]:
        """Return each fold's places among `rows`, and its embeddings."""
        block, fold = np.asarray(self.x[rows], dtype=np.float32), self.fold[rows]
        places = [np.flatnonzero(fold == f) for f in range(self.n_folds)]
        return [(at, block[at]) for at in places]

    def update(self, q: NDArray[np.float32]) -> None:
        """Refit every fold's discriminant to soft labels `q` (n, k)."""
        k, d = q.shape[1], self.x.shape[1]
        sums, counts = np.zeros((self.n_folds, k, d)), np.zeros((self.n_folds, k))
        for rows in _row_blocks(len(q)):
            labels = q[rows]
            for f, (at, part) in enumerate(self.held or self._by_fold(rows)):
                mine = labels[at]
                sums[f] += mine.T @ part
                counts[f] += mine.sum(axis=0, dtype=np.float64)
        others, others_counts = sums.sum(axis=0) - sums, counts.sum(axis=0) - counts
        if not self.factors:
            scatter = self.scatter.sum(axis=0)
            self.factors = [
                regular_factor(others[f], others_counts[f], scatter - self.scatter[f])
                for f in range(self.n_folds)
            ]
        self.models = [
            solve_discriminant(self.factors[f], others[f], others_counts[f])
            for f in range(self.n_folds)
        ]

    def __call__(self, rows: Any) -> Floats:
        """Return class scores (m, k) of rows, each by the model that did not see its fold."""
        m = len(self.fold[rows])
        out = np.empty((m, len(self.models[0][1])), np.float32)
        parts = self.held if self.held and m == len(self.fold) else self._by_fold(rows)
        for (at, part), (weight, bias) in zip(parts, self.models, strict=True):
            scores = part @ weight
            scores += bias
            scores -= scores.max(axis=1, keepdims=True)
            out[at] = scores
        return out


def discriminant(sums: Floats, counts: Floats, scatter: Floats) -> tuple[Floats, Floats]:
    """Return weights (d, k) and biases (k,) of the linear discriminant of soft classes."""
    return solve_discriminant(regular_factor(sums, counts, scatter), sums, counts)


def regular_factor(sums: Floats, counts: Floats, scatter: Floats) -> Any:
    """Return the Cholesky factor of the second moments with the ridge of the classes at hand.

    Whatever classes come later, their covariance differs from this by k means, for which
    `solve_discriminant` corrects: the d x d matrix is factored once.
    """
    total = max(counts.sum(), 1e-9)
    d = sums.shape[1]
    # Single precision and in place: the ridge bounds the condition number, and d x d is large.
    whole = scatter.astype(np.float32)
    whole *= np.float32(1 / total)
    spread = float(np.trace(whole))
    between = float(((sums**2).sum(axis=1) / np.maximum(counts, 1e-9)).sum() / total)
    # Classes of one row each have no spread of their own: a trace of all keeps this invertible.
    scale = max((spread - between) / d, 1e-3 * spread / d, 1e-8)
    whole *= np.float32(1 - SHRINKAGE)
    whole[np.diag_indices(d)] += np.float32((SHRINKAGE + 1e-4) * scale)
    return cho_factor(whole, overwrite_a=True, check_finite=False)


def solve_discriminant(factor: Any, sums: Floats, counts: Floats) -> tuple[Floats, Floats]:
    r"""Return weights (d, k) and biases (k,) of classes, given the factor of all rows' moments A.

    With M the class means times the roots of the class shares, the covariance within classes is
    :math:`A - (1 - s) M^\top M`; Woodbury's identity inverts it by a k x k system.
    """
    k, total = len(counts), max(float(counts.sum()), 1e-9)
    # Single precision throughout: the ridge keeps both systems well conditioned.
    sums, counts = sums.astype(np.float32), counts.astype(np.float32)
    mean = sums.sum(axis=0) / np.float32(total)
    raw = sums / np.maximum(counts, np.float32(1e-9))[:, None]
    solved = cho_solve(
        factor, np.concatenate([raw, mean[None]]).T, overwrite_b=True, check_finite=False
    )
    root = np.sqrt(counts / np.float32(total))
    means, far = raw * root[:, None], solved[:, :k] * root
    # One row's weight of the overall mean keeps an almost empty class from standing anywhere.
    centers = (sums + mean) / (counts + 1)[:, None]
    weight = (solved[:, :k] * counts + solved[:, k:]) / (counts + 1)
    inner = np.eye(k, dtype=np.float32) / np.float32(1 - SHRINKAGE) - means @ far
    weight += far @ np.linalg.solve(inner, means @ weight)
    return weight, -0.5 * np.einsum("kd,dk->k", centers, weight)


class Votes:
    """Soft votes of neighbors, nearer ones counting more."""

    def __init__(self, indices: NDArray[Any], similarities: Floats) -> None:
        self.indices, self.similarities = indices, similarities
        gap = similarities[:, 0] - similarities[:, -1]
        self.unit = max(float(np.median(gap)), 1e-6)
        blocks = _row_blocks(len(indices))
        self.held = self._ballots(blocks[0]) if len(blocks) == 1 else None

    def _ballots(self, rows: Any) -> tuple[csr_matrix, Floats]:
        """Return what each row's neighbors weigh (m, n), and the log of one more than all."""
        near = self.similarities[rows]
        weight = np.exp((near - near[:, :1]) / self.unit).astype(np.float32, copy=False)
        pointers = np.arange(0, weight.size + 1, weight.shape[1])
        shape = (len(near), len(self.indices))
        ballots = csr_matrix((weight.ravel(), self.indices[rows].ravel(), pointers), shape)
        return ballots, np.log(weight.sum(axis=1, keepdims=True) + 1)

    def update(self, q: NDArray[np.float32]) -> None:
        """Take the soft labels that the neighbors cast."""
        self.q, self.prior = q, q.mean(axis=0) + np.float32(1e-9)

    def __call__(self, rows: Any) -> Floats:
        """Return log votes over prior (m, k)."""
        whole = len(self.indices[rows]) == len(self.indices)
        ballots, weight = self.held if self.held and whole else self._ballots(rows)
        share = ballots @ self.q
        share += self.prior
        np.log(share, out=share)
        share -= np.log(self.prior)
        share -= weight
        return share


class Clusters:
    """The soft labels of the other rows of a row's cluster."""

    def __init__(self, clusters: NDArray[np.int64]) -> None:
        self.clusters = clusters

    def update(self, q: NDArray[np.float32]) -> None:
        """Take the soft labels."""
        self.q, self.prior = q, q.mean(axis=0) + 1e-9
        self.sums = _sums_by(self.clusters, int(self.clusters.max()) + 1, q)

    def __call__(self, rows: Any) -> Floats:
        """Return log cluster shares over prior (m, k), the row itself left out."""
        others = np.maximum(self.sums[self.clusters[rows]] - self.q[rows], 0)
        share = (others + self.prior) / (others.sum(axis=1, keepdims=True) + 1)
        return np.log(share / self.prior)


# -- the pool and EM ----------------------------------------------------------------------------


def fit_pool(evidence: list[Floats], likelihood: Floats, start: Floats) -> NDArray[np.float64]:
    """Return the weights of a log-linear pool under which the given labels are likeliest.

    Parameters
    ----------
    evidence : list of (m, k)
        Log scores of each expert.
    likelihood : (m, k)
        Probability of the row's given label were each class true.
    start : (number of experts,)
        Positive first weights.
    """
    stack = np.stack([np.asarray(e, dtype=np.float32) for e in evidence])
    likelihood = np.asarray(likelihood, dtype=np.float32)

    def loss(log_weights: Floats) -> tuple[float, Floats]:
        weights = np.exp(log_weights)
        p = softmax_in_place(np.tensordot(weights.astype(np.float32), stack, 1))
        total = np.einsum("mk,mk->m", p, likelihood) + np.float32(1e-12)
        pull = likelihood / total[:, None]
        pull -= 1
        pull *= p
        slope = weights * np.tensordot(stack, pull, 2)
        return -float(np.log(total).mean(dtype=np.float64)), -slope / len(p)

    # Weights from 1/400 (an expert unheard) to 20 (one heard alone); a few steps each round, since
    # the rounds around them move the experts again.
    bounds = [(-6.0, 3.0)] * len(evidence)
    first = np.clip(np.log(start), -6, 3)
    options = {"maxiter": 15, "ftol": 1e-6}
    found = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return np.exp(found.x)


def denoise(
    x: Any,
    given: NDArray[np.int64],
    n_classes: int,
    indices: NDArray[Any],
    similarities: Floats,
    *,
    clusters: NDArray[np.int64] | None = None,
    n_folds: int = 5,
    n_iter: int = 5,
    tolerance: float = 0.0,
    adaptive: bool = False,
    seed: int = 0,
) -> Denoised:
    """Estimate each row's true class, the noise transition matrix and who was given a wrong label.

    Memory is two (n, k) arrays beside the input; everything else goes in blocks of rows.

    Parameters
    ----------
    x : (n, d) array or anything with `shape` and row indexing
        Embeddings, preferably unit rows.
    given : (n,) int64
        Given labels in 0..n_classes-1.
    indices, similarities : (n, m)
        Each row's nearest other rows, nearest first.
    clusters : (n,) int64, optional
        A clustering of the rows, more evidence.
    n_folds, n_iter, seed : int
        Folds of the discriminant, most rounds of EM, seed of folds and of the pool's sample.
    tolerance : float
        EM ends where scores change by less than this on average.
    adaptive : bool
        Let the counts say how alike the classes' noise is (`adaptive_transition`): better corrected
        labels where classes are many and noise is alike; who is wrong is better told without.
    """
    n = len(given)
    estimate = adaptive_transition if adaptive else estimate_transition
    n_folds = max(2, min(n_folds, n))
    # A fifth of the neighbors: the nearest know more where classes are small.
    narrow = max(1, indices.shape[1] // 5)
    experts: list[Any] = [
        Discriminant(x, stratified_folds(given, n_folds, seed), n_folds),
        Votes(indices[:, :narrow], similarities[:, :narrow]),
        Votes(indices, similarities),
    ]
    if clusters is not None:
        experts.append(Clusters(clusters))
    q = np.zeros((n, n_classes), np.float32)
    q[np.arange(n), given] = 1
    sample = np.arange(n)
    if n > POOL_ROWS:
        sample = np.sort(np.random.default_rng(seed).choice(n, POOL_ROWS, replace=False))
    # Experts begin with little to say beside the prior: they have not seen each other yet.
    weights = np.array([0.2] * len(experts) + [1.0])
    transition: NDArray[np.float64] | None = None
    score = np.ones(n)
    for _ in range(n_iter):
        for expert in experts:
            expert.update(q)
        # No class dies of having lost all of its rows for a round.
        prior = np.log(q.mean(axis=0) + 1e-3 / n_classes)[None].astype(np.float32)
        blocks = _row_blocks(n)
        # Few rows are looked at once, many block by block and the sample for itself.
        whole = [expert(blocks[0]) for expert in experts] if len(blocks) == 1 else None
        if transition is None:
            joint = np.zeros((n_classes, n_classes))
            for rows in blocks:
                votes = (whole[2] if whole else experts[2](rows)) + np.log(experts[2].prior)
                np.add.at(joint, (votes.argmax(axis=1), given[rows]), 1)
            transition = estimate(joint)
        evidence = [e[sample] for e in whole] if whole else [e(sample) for e in experts]
        evidence.append(np.broadcast_to(prior, evidence[0].shape))
        weights = fit_pool(evidence, transition.T[given[sample]], weights)
        scale, likely = weights.astype(np.float32), np.log(transition.T + 1e-12).astype(np.float32)
        likely += scale[-1] * prior
        new, before = np.empty_like(q), score
        score, joint = np.empty(n), np.zeros((n_classes, n_classes))
        for rows in blocks:
            z = likely[given[rows]]
            for weight, one in zip(scale, whole or (e(rows) for e in experts), strict=False):
                z += weight * one
            new[rows] = block = softmax_in_place(z)
            score[rows] = block[np.arange(len(block)), given[rows]]
            joint += _sums_by(given[rows], n_classes, block).T
        q, transition = new, estimate(joint)
        if np.abs(score - before).mean() < tolerance:
            break
    assert transition is not None  # at least one round
    prior = q.mean(axis=0, dtype=np.float64)
    pool = tuple(float(w) for w in weights)
    return Denoised(q, np.clip(score, 0, 1), transition, prior / prior.sum(), pool)


def _sums_by(group: NDArray[np.int64], n_groups: int, q: Floats) -> Floats:
    """Return the sums (n_groups, k) of the rows of `q` of each group."""
    ones = np.ones(len(q), q.dtype)
    member = csr_matrix((ones, (group, np.arange(len(q)))), (n_groups, len(q)))
    return np.asarray(member @ q)


def _row_blocks(n: int) -> list[slice]:
    return [slice(i, min(i + BLOCK_ROWS, n)) for i in range(0, n, BLOCK_ROWS)]
