r"""From many partitions to one: which regime of sizes holds, and the vote of the partitions.

The score of a partition is modularity + assortativity / 2 + simplified silhouette
(`fmcluster.partition.scores`): modularity leans to even clusters, assortativity, modularity over
the most that such sizes allow, to few large ones, and silhouette sees no graph. Partition j votes
with the weight :math:`\exp((u_j - \max u) / \tau)` after its clusters are matched one to one
(Hungarian) with those of the best.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fmcluster.functional.assignment import align_labels
from fmcluster.partition.refine import Array, Field
from fmcluster.partition.scores import Candidate

TEMPERATURE = 0.04
EVEN_COST = 0.12
LEAST_EVENNESS = 0.8


def sizes_look_even(
    free: Sequence[Candidate], even: Sequence[Candidate], *, evenness: float
) -> bool:
    """Return whether even sizes cost little of the best score and are what was estimated.

    Where sizes are uneven, even clusters must cut through dense regions and join sparse ones: the
    score falls. A topic of many subtopics can be cut at no cost, so the sizes that were estimated
    by other means have to look even (`evenness`, 0..1), too.
    """
    if not even or not free:
        return bool(even)
    cost = max(c.score for c in free) - max(c.score for c in even)
    return evenness > LEAST_EVENNESS and cost < EVEN_COST


def vote(candidates: Sequence[Candidate], n_clusters: int) -> Array:
    """Return the weighted vote (n, k) of partitions, in the names of the best one."""
    best = max(candidates, key=lambda candidate: candidate.score)
    n = len(best.labels)
    V = np.zeros((n, n_clusters), np.float32)
    for candidate in candidates:
        weight = float(np.exp((candidate.score - best.score) / TEMPERATURE))
        if weight > 1e-3:
            aligned = align_labels(best.labels, candidate.labels, n_clusters=n_clusters)
            V[np.arange(n), aligned] += weight
    return V / V.sum(axis=1, keepdims=True)


def smooth(field: Field, V: Array) -> Array:
    """Average each row's votes with those of its neighbours, half and half."""
    return 0.5 * V + 0.5 * (field.smoothing @ V)
