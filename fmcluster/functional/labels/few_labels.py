r"""What a few labeled rows say: which cluster is which class, and how often clusters are right.

Rows *i* of cluster :math:`c_i` carry class :math:`y_i`. With an unknown one-to-one map
:math:`\sigma` from clusters to classes and a confidence :math:`a_i`, a row shows
:math:`y_i = \sigma(c_i)` with probability :math:`a_i` and any other class with probability
:math:`(1-a_i)/(k-1)`. EM over :math:`\sigma`: its posterior is approximated by Sinkhorn scaling of
the clusters' likelihoods (a soft one-to-one match), the probability that row *i* is right is the
posterior of :math:`\sigma(c_i) = y_i`, and the map from score to confidence is refitted by
maximum a posteriori logistic regression. Counting matches on the same rows flatters (a cluster
with one labeled row is always right), leaving rows out one by one (`left_out_correct`) is too
harsh; the posterior lies between, and so does the mean of the two counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logsumexp

from fmcluster.functional.assignment import hungarian
from fmcluster.functional.calibration import COUNTED_ENDS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Small tables, so many rounds are cheap; fewer leave the match short of one to one.
SINKHORN_ROUNDS = 40
# An upper bound: EM ends where the line stands still.
EM_ROUNDS = 12
# Of the line's intercept and slope: a confidence moves by less than a part in ten thousand.
STANDS_STILL = 1e-4
# An upper bound: Newton ends after some ten.
NEWTON_STEPS = 50
LEAST_SLOPE = 0.05


@dataclass(frozen=True)
class LinePrior:
    """Gaussian prior on (intercept, slope) of logit(confidence) over a standardized score."""

    mean: tuple[float, float]
    sd: tuple[float, float]


def fit_line(z: Floats, target: Floats, weights: Floats, prior: LinePrior) -> Floats:
    """Return (intercept, slope) of the MAP logistic regression of soft `target` on `z`.

    Newton's method with steps of at most 2; the slope is kept above `LEAST_SLOPE`, so that the map
    rises.
    """
    design = np.column_stack([np.ones_like(z), z])
    mean = np.asarray(prior.mean)
    precision = np.diag(1.0 / np.square(prior.sd))
    theta = mean.copy()
    for _ in range(NEWTON_STEPS):
        p = expit(design @ theta)
        gradient = design.T @ (weights * (p - target)) + precision @ (theta - mean)
        curvature = (design * (weights * p * (1 - p))[:, None]).T @ design + precision
        step = np.linalg.solve(curvature, gradient)
        theta = theta - np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-8:
            break
    return np.array([theta[0], max(theta[1], LEAST_SLOPE)])


def match_posterior(
    clusters: Ints, classes: Ints, confidence: Floats, n_clusters: int
) -> tuple[Floats, Ints]:
    """Return the soft one-to-one match of labeled clusters and seen classes.

    Parameters
    ----------
    clusters, classes : (m,) int64
        Of the labeled rows; classes are positions 0..n_seen-1.
    confidence : (m,) float64
        Current probability that each row is right.
    n_clusters : int
        Clusters in all; those without a labeled row, and classes that were not seen, compete for
        partners too.

    Returns
    -------
    posterior : (labeled clusters, seen classes) float64
    labeled : (labeled clusters,) int64
        Which cluster each row of `posterior` is.
    """
    labeled, position = np.unique(clusters, return_inverse=True)
    position = position.reshape(-1)
    n_seen = int(classes.max()) + 1
    size = max(n_clusters, n_seen)
    a = np.clip(confidence, *COUNTED_ENDS)
    wrong = np.log((1 - a) / max(size - 1, 1))
    # The last row stands for all unlabeled clusters, the last column for all unseen classes.
    log_table = np.zeros((len(labeled) + 1, n_seen + 1))
    np.add.at(log_table, position, wrong[:, None])
    np.add.at(log_table, (position, classes), np.log(a) - wrong)
    rows = np.zeros(len(labeled) + 1)
    columns = np.zeros(n_seen + 1)
    with np.errstate(divide="ignore"):
        rows[-1] = np.log(size - len(labeled))
        columns[-1] = np.log(size - n_seen)
    spread = log_table + rows[:, None] + columns[None, :]
    rows_used = np.isfinite(rows)
    columns_used = np.isfinite(columns)
    plan = spread[np.ix_(rows_used, columns_used)]
    row_mass, column_mass = rows[rows_used][:, None], columns[columns_used][None, :]
    for _ in range(SINKHORN_ROUNDS):
        plan = plan - logsumexp(plan, axis=1, keepdims=True) + row_mass
        plan = plan - logsumexp(plan, axis=0, keepdims=True) + column_mass
    plan = plan - logsumexp(plan, axis=1, keepdims=True) + row_mass
    return np.exp(plan[: len(labeled), :n_seen]), labeled


def posterior_correct(
    clusters: Ints,
    classes: Ints,
    z: Floats,
    n_clusters: int,
    *,
    weights: Floats,
    prior: LinePrior,
) -> tuple[Floats, Floats, Floats, Ints]:
    """Run EM; return (chance that each row is right (m,), line (2,), posterior, labeled)."""
    line = np.asarray(prior.mean, dtype=np.float64)
    for _ in range(EM_ROUNDS):
        confidence = expit(line[0] + line[1] * z)
        posterior, labeled = match_posterior(clusters, classes, confidence, n_clusters)
        correct = posterior[np.searchsorted(labeled, clusters), classes]
        updated = fit_line(z, correct, weights, prior)
        moved = np.abs(updated - line).max()
        line = updated
        if moved < STANDS_STILL:
            break
    return correct, line, posterior, labeled


def left_out_correct(clusters: Ints, classes: Ints, n_clusters: int) -> tuple[Floats, Floats]:
    """Return (mean of counting with and without the row itself, which rows say anything).

    A row whose cluster and class were both seen only once gets weight 0: nothing else in the
    sample speaks for or against it.
    """
    table = np.zeros((n_clusters, int(classes.max()) + 1))
    np.add.at(table, (clusters, classes), 1)
    inside = hungarian(table)[clusters] == classes
    outside = np.zeros(len(classes))
    for i, (cluster, own) in enumerate(zip(clusters, classes, strict=True)):
        table[cluster, own] -= 1
        # Without any other row of that cluster and class no match can bring them together.
        if table[cluster, own] > 0:
            outside[i] = hungarian(table)[cluster] == own
        table[cluster, own] += 1
    alone = (table.sum(axis=1)[clusters] == 1) & (table.sum(axis=0)[classes] == 1)
    return 0.5 * inside + 0.5 * outside, (~alone).astype(np.float64)
