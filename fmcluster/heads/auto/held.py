r"""Answers about pairs that say too little to partition the rows anew: they are kept, no more.

The pairs have changed the vote (`vote.against`). Each group of rows that answers hold together then
takes the cluster that most of its votes are for, the surest group first, and never that of a group
that it must not be with.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.labels.answers import RowAnswers, close_answers
from fmcluster.heads.auto.answered import Answered
from fmcluster.partition.refine import Array, RefinementContext, one_hot
from fmcluster.partition.scores import edge_mass, modularity_of

# Answers "alike" for each cluster below which a refinement around the answered rows knows less than
# the vote: with one for 77 classes it lost 3 to 6 points of ACC, with one for two or more it gained
# 1 to 15 (benchmarks/results/answers/README.md).
FEW_ALIKE = 1 / 8
# Modularity, which rises with evenness, that refining around linked rows may add: links on small
# classes made it cut up the largest in three of 88 fits, which lost 6 to 22 points of ACC and added
# .17 to .22; all others added .09 at most (the same page).
MOST_EVENED = 1 / 8
# A cluster that no vote of a row is for stays possible.
TINY = 1e-6


def say_little(answers: RowAnswers, n_clusters: int) -> bool:
    """Return whether there are no labels, and links for few of the clusters."""
    return len(answers.rows) == 0 and len(answers.must_link) < FEW_ALIKE * n_clusters


def cut_up(context: RefinementContext, before: Array, after: Array) -> bool:
    """Return whether soft labels (n, k) of links alone cut up what was one before."""

    def modularity(labels: NDArray[np.int64]) -> float:
        return modularity_of(edge_mass(labels, int(labels.max()) + 1, context.edges))

    return modularity(after.argmax(axis=1)) - modularity(before.argmax(axis=1)) > MOST_EVENED


def hold(V: Array, answers: RowAnswers) -> Answered | None:
    """Return `V` (n, k) with the answers kept; None where groups that differ leave one no cluster.

    Raises
    ------
    Contradiction
        As `close_answers`.
    """
    groups = close_answers(answers)
    g, k = len(groups.apart), V.shape[1]
    total = np.zeros((g, k))
    np.add.at(total, groups.group, np.log(V[groups.rows] + TINY))
    cluster = np.full(g, -1)
    for group in np.argsort(-np.ptp(np.sort(total, axis=1)[:, -2:], axis=1), kind="stable"):
        taken = cluster[groups.apart[group]]
        total[group, taken[taken >= 0]] = -np.inf
        if np.isneginf(total[group]).all():
            return None
        cluster[group] = int(total[group].argmax())
    proba, target = V.copy(), cluster[groups.group]
    proba[groups.rows] = one_hot(target, k)
    return Answered(proba, groups.rows, target)
