r"""From many partitions to one: which regime of sizes holds, and the vote of the partitions.

The score of a partition is modularity + assortativity / 2 + simplified silhouette
(`fmcluster.partition.scores`): modularity leans to balanced clusters, assortativity, modularity
over the most that such sizes allow, to few large ones, and silhouette sees no graph. Partition j
votes with the weight :math:`\exp((u_j - \max u) / \tau)` after its clusters are matched one to one
(Hungarian) with those of the best.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fmcluster.functional.assignment import align_labels
from fmcluster.partition.refine import Array, RefinementContext
from fmcluster.partition.scores import Candidate

# Of the vote: .02 to .06 make no difference of a point (benchmarks/results/auto, log, 11).
TEMPERATURE = 0.04
# Truly balanced worlds lose 0 to 0.10 of the score, others 0.16 to 0.49 (log, 26).
BALANCED_COST = 0.12
# Any threshold from 0.66 to 0.96 decided alike (log, 19 and 26).
LEAST_EVENNESS = 0.8


def sizes_look_balanced(
    free: Sequence[Candidate], balanced: Sequence[Candidate], *, evenness: float
) -> bool:
    """Return whether balanced sizes cost little of the best score and are what was estimated.

    Where sizes differ, balanced clusters must cut through dense regions and join sparse ones: the
    score falls. A topic of many subtopics can be cut at no cost, so the sizes that were estimated
    by other means have to look balanced (`evenness`, 0..1), too.
    """
    if not balanced or not free:
        return bool(balanced)
    cost = max(c.score for c in free) - max(c.score for c in balanced)
    return evenness > LEAST_EVENNESS and cost < BALANCED_COST


def vote(candidates: Sequence[Candidate], n_clusters: int) -> Array:
    """Return the weighted vote (n, k) of partitions, in the names of the best one."""
    best = max(candidates, key=lambda candidate: candidate.score)
    n = len(best.labels)
    V = np.zeros((n, n_clusters), np.float32)
    for candidate in candidates:
        weight = float(np.exp((candidate.score - best.score) / TEMPERATURE))
        if weight > 1e-3:  # a thousand such voters are one
            aligned = align_labels(best.labels, candidate.labels, n_clusters=n_clusters)
            V[np.arange(n), aligned] += weight
    return V / V.sum(axis=1, keepdims=True)


def smooth(field: RefinementContext, V: Array) -> Array:
    """Average each row's votes with those of its neighbors, half and half."""
    return 0.5 * V + 0.5 * (field.smoothing @ V)
