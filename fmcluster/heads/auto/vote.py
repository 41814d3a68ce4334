r"""From many partitions to one: hypotheses about sizes, and the vote of the partitions.

No score of edges or distances is fair to balanced and to skewed clusters at once: modularity rises
with evenness, assortativity with unevenness. So partitions are judged by what is nearly fair, the
simplified silhouette :math:`h_j`, and by whether their sizes are those that anything speaks for:

.. math::

    u_j = h_j + t \log \sum_H \pi_H \exp(-\mathrm{TV}(q_j, s_H) / t), \quad t = 0.1,

with sorted shares :math:`q_j` and hypotheses H: the sizes that were estimated from the silhouettes
of many partitions (`fmcluster.partition.estimates.sizes`), and balanced ones. The latter have
:math:`\pi = \sigma((c_0 - c) / 0.015)\, \sigma((e - e_0) / 0.03)`: how much of the score of edges
and silhouette imposing them costs (c), and how even the estimated sizes are (e). Partition j votes
with the weight :math:`\exp((u_j - \max u) / \tau)` after its clusters are matched one to one
(Hungarian) with those of the best. Where hypotheses tell different stories of a row, its votes are
split, and its confidence says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fmcluster.functional.assignment import align_labels
from fmcluster.partition.estimates.sizes import evenness
from fmcluster.partition.refine import Array, RefinementContext
from fmcluster.partition.scores import Candidate

Floats = NDArray[np.float64]

# Of the vote: .02 to .08 make no difference of a point (benchmarks/results/auto, log, 11 and 32).
TEMPERATURE = 0.04
# Total variation that halves a hypothesis' support, about; 32 of the log.
SIZE_SCALE = 0.1
# Where balanced sizes are as likely as not: 31 of the log. Truly balanced worlds lose 0 to 0.10 of
# the score, others 0.05 to 0.49; wider slopes let chance decide, steps would let one row.
BALANCED_COST, COST_SLOPE = 0.075, 0.015
# Pairs that count in full: more that `query_pairs` chose, for partitions are torn on them, would
# outweigh all else (benchmarks/results/answers/README.md).
MOST_PAIRS = 50
LEAST_EVENNESS, EVENNESS_SLOPE = 0.85, 0.03


def balance_evidence(candidates: Sequence[Candidate], estimated: Floats) -> float:
    """Return how likely balanced sizes are, 0..1, by their cost and by the estimated sizes.

    Where sizes differ, balanced clusters must cut through dense regions and join sparse ones: the
    score falls. A topic of many subtopics can be cut at no cost, so the sizes that were estimated
    by other means have to look balanced, too.
    """
    free = [c.score for c in candidates if not c.balanced]
    held = [c.score for c in candidates if c.balanced]
    if not held or not free:
        return float(bool(held))
    cost = max(free) - max(held)
    even = evenness(estimated)
    return float(
        expit((BALANCED_COST - cost) / COST_SLOPE) * expit((even - LEAST_EVENNESS) / EVENNESS_SLOPE)
    )


def support(
    candidates: Sequence[Candidate],
    hypotheses: Sequence[tuple[float, Floats]],
    mass: NDArray[np.floating],
) -> Floats:
    """Return the score of each partition under weighted hypotheses about sorted shares (k,)."""
    out = np.array([c.silhouette for c in candidates])
    if not hypotheses:
        return out
    for place, candidate in enumerate(candidates):
        k = len(hypotheses[0][1])
        shares = np.sort(np.bincount(candidate.labels, mass, minlength=k))[::-1]
        likely = [
            weight * np.exp(-0.5 * np.abs(shares - sizes).sum() / SIZE_SCALE)
            for weight, sizes in hypotheses
        ]
        out[place] += SIZE_SCALE * np.log(sum(likely) + 1e-12)
    return out


def vote(partitions: Sequence[NDArray[Any]], scores: Floats, n_clusters: int) -> Array:
    """Return the weighted vote (n, k) of partitions (n,), in the names of the best one."""
    best = partitions[int(scores.argmax())]
    n = len(best)
    V = np.zeros((n, n_clusters), np.float32)
    for labels, score in zip(partitions, scores, strict=True):
        weight = float(np.exp((score - scores.max()) / TEMPERATURE))
        if weight > 1e-3:  # a thousand such voters are one
            aligned = align_labels(best, labels, n_clusters=n_clusters)
            V[np.arange(n), aligned] += weight
    return V / V.sum(axis=1, keepdims=True)


def against(
    partitions: Sequence[NDArray[Any]], must_link: NDArray[Any], cannot_link: NDArray[Any]
) -> Floats:
    """Return what pairs of rows that a person called alike or not take from each score.

    A few dozen pairs say little of the rows that they name and much of the partitions: the weight
    falls e-fold for each pair that one has wrong, and for that share of them if they are many.
    """
    n_pairs = len(must_link) + len(cannot_link)
    wrong = [
        (labels[must_link[:, 0]] != labels[must_link[:, 1]]).sum()
        + (labels[cannot_link[:, 0]] == labels[cannot_link[:, 1]]).sum()
        for labels in partitions
    ]
    return TEMPERATURE * min(1.0, MOST_PAIRS / max(n_pairs, 1)) * np.array(wrong, np.float64)


def smooth(field: RefinementContext, V: Array) -> Array:
    """Average each row's votes with those of its neighbors, half and half."""
    return 0.5 * V + 0.5 * (field.smoothing @ V)


def voted(
    context: RefinementContext,
    partitions: list[NDArray[np.int32]],
    scores: Floats,
    n_clusters: int,
    node: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Return the vote (m, k) of partitions (m,) of rows by their nodes; minus infinity has none."""
    first = np.unique(node, return_index=True)[1]
    voters = np.flatnonzero(np.isfinite(scores))
    V = vote([partitions[place][first] for place in voters], scores[voters], n_clusters)[node]
    # What a node says is not yet the row's own.
    for _ in range(1 if len(first) == len(node) else 2):
        V = smooth(context, V)
    return V
