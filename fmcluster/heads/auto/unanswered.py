"""What a fit makes of the rows before any answer, and what answers and the student make of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from fmcluster.functional.labels.answers import RowAnswers
from fmcluster.heads.auto.points import Points
from fmcluster.heads.auto.student import Student, teach
from fmcluster.heads.auto.vote import TEMPERATURE, against, voted
from fmcluster.partition.estimates.sizes import most_correct
from fmcluster.partition.refine import RefinementContext

# Halves cut without the sizes agree less than a partition that is held to even ones is right: then
# the student, which is right on even worlds, is the floor (log, 38).
EVEN_FLOOR = 0.95
Floats = NDArray[np.float64]


@dataclass
class Unanswered:
    """What a fit makes of the rows before any answer, kept in memory for the next answers.

    Attributes
    ----------
    points : Points
        The rows, or nodes of them.
    centre, axes : arrays
        What makes the head's rows of the data's.
    node : (m,) int64
        Of each point, the node that partitions were made of.
    candidates : list of (m,) int32
        The partitions.
    scores : (c,) float64
        Of each that has a vote; minus infinity where it has none.
    balanced : (c,) bool
        Which had balanced sizes imposed.
    votes : (m, k) float32
    sizes : (k,) float64 or None
        Likely sorted shares.
    expected : float
        Share of the rows that the votes are expected to have right.
    even : float
        How far even sizes were imposed or are likely, 0..1.
    families, space
        Attributes of the head.
    proba : (m, k) float32 or None
        What the head says of its points, once it has said it.
    """

    points: Points
    centre: NDArray[np.float32]
    axes: NDArray[np.float32]
    node: NDArray[np.int64]
    candidates: list[NDArray[np.int32]]
    scores: Floats
    balanced: NDArray[np.bool_]
    votes: NDArray[np.float32]
    sizes: Floats | None
    expected: float
    even: float
    families: dict[str, float]
    space: int | None = None
    proba: NDArray[np.float32] | None = None


def after_links(context: RefinementContext, kept: Unanswered, answers: RowAnswers) -> Unanswered:
    """Return what the rows say once the partitions have voted again, with answers about pairs."""
    taken = against(kept.candidates, answers.must_link, answers.cannot_link)
    V = voted(context, kept.candidates, kept.scores - taken, kept.votes.shape[1], kept.node)
    even = kept.even
    if 0 < even < 1 and kept.balanced.any() and not kept.balanced.all():
        # Pairs judge sizes, too: by the best partition that had them imposed and the best other.
        against_even = taken[kept.balanced].min() - taken[~kept.balanced].min()
        even = float(expit(logit(even) - against_even / TEMPERATURE))
    # As sure as before: a vote of fewer partitions is sharper, and no nearer to the truth for it.
    return replace(kept, votes=V, even=even, proba=None)


def student_of(
    context: RefinementContext,
    kept: Unanswered,
    V: NDArray[np.float32],
    expected: float,
    *,
    seed: int,
) -> tuple[Student, Floats]:
    """Return the student of soft labels `V`, as sure as `expected`, and the shares of its labels.

    It is no surer than the likely sizes allow, where nobody has answered.
    """
    fewer = int(kept.node.max()) + 1 < len(V)
    student = teach(context, V, seed=seed, node=kept.node if fewer else None)
    proba = student.proba(context.rows)
    k = V.shape[1]
    labels = proba.argmax(axis=1)
    shares = np.bincount(labels, context.mass, minlength=k).astype(np.float64)
    if V is kept.votes:
        own = float(np.average(proba.max(axis=1), weights=context.weights))
        expected = max(expected, EVEN_FLOOR * kept.even * own)
        if kept.sizes is not None:
            expected = min(expected, most_correct(shares, kept.sizes))
    student.level(proba, expected, context.mass)
    return student, shares
