r"""A partition with a person's answers: classes from labels, clusters where no label is.

1. *Classes.* Labels spread over the neighbor graph and the classifier of all rows
   (`functional.labels.spread`), on the rows and on diffused ones: G. Links make pseudo-classes
   (`functional.labels.answers`), so labels and links are one thing; what they say is carried by the
   clusters of their rows, for a link says less than a label.
2. *Clusters without an answer* stay where there is room: labels say that the rest of k clusters
   are classes nobody has met. Of the clusters that hold no answered row those come first that are
   far from every answered row and keep their neighbors to themselves.
3. *Refinement* of both (`partition.refine`), answered rows fixed, G as evidence beside the
   classifier, sizes by maximum likelihood where labels keep the small classes alive; and the
   geometric mean of what came in and what comes out.
4. *Confidence* of a row with the largest soft labels q and q', of whose neighbors the share r has
   its label: :math:`\sigma(0.4 \log(q / q') + 0.65 \operatorname{logit} r + s)`, with the shift s
   that brings the mean to the accuracy that is expected: what l labels themselves let expect
   (`functional.labels.spread_accuracy`), a, how sure the head was without them, b, and the mean
   m of logit r, in

   .. math::

       L = \frac{l}{l + 25} (\operatorname{logit} a + 0.17 m - 0.23)
           + \frac{45}{l + 50} \operatorname{logit} b .

   The less is right, and the less rows differ in r, the less do the scores tell them apart: the
   logits are then taken :math:`e^{0.17 L + 0.38 d - 0.55}` times, d the deviation of logit r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import rankdata

from fmcluster.functional.calibration import (
    LOGIT_ENDS,
    MAX_LOGIT,
    shift_to_mean,
    with_confidence,
)
from fmcluster.functional.labels.answers import RowAnswers, close_answers, pseudo_classes
from fmcluster.functional.labels.spread import affinity, spread_labels
from fmcluster.functional.softmax import softmax
from fmcluster.partition.refine import MODEL_DIFFUSION, Array, RefinementContext, one_hot, refine
from fmcluster.partition.scores import edge_mass
from fmcluster.partition.spread_rows import believable, spread_with_accuracy

Ints = NDArray[np.int64]

# Half of G: with the classifier it decides, with a whole one nothing else would.
EVIDENCE = 0.5
# A class that has been ruled out may come back: logarithms of soft labels end here.
FLOOR = 1e-3
# Of the lead and of the neighbors, fitted with the level known to the thinking worlds of
# benchmarks/answers.py: a calibration error of 4.0 points on their long tails, 4.5 on those of the
# others (4.4 and 4.8 with 0.5 and 0.4), of which 2.3 are chance.
LEAD, NEIGHBORLY = 0.4, 0.65
# Labels at which the accuracy that they let expect has half its weight, and with which the head's
# own confidence loses it: fitted to these worlds with 50 and with 100 labels, where the level is
# off by 3.3 and 2.6 points (4.6 and 3.2 by labels alone; on the others 5.3 and 4.4, 5.9 and 4.7).
HALF_TOLD, OWN, HALF_OWN = 25, 45, 50
# What the mean logit of neighbors that have a row's label adds to that of the labels' accuracy, and
# what the logits of rows are taken exp() times of: fitted to these worlds with 100 labels, where
# the level is off by 3.0 points with and without the first (3.5 and 3.9 on the others), and the
# slope that rows call for follows the level (correlation .53, .80) and the deviation (.46, .44).
AGREED, AGREED_LESS = 0.17, 0.23
FLAT, STEEPER, APART = -0.55, 0.17, 0.38
# Of the rows an answer stands for: larger clusters without one are of a class that was met.
SMALL = 1 / 3
# A tenth of an answer: a cluster's first answer decides.
CARRIED_PRIOR = 0.1
# What a cluster without answers scores at least where no number was asked for: far by half the
# rows, half of its neighbors its own.
LEAST_SCORE = 0.25
# Rows are as far from an answer as their nearest one, on rows diffused so often.
# As often as rows are for starts at most: less leaves noise, more blurs small clusters.
FAR_DIFFUSION = 4


@dataclass(frozen=True)
class Answered:
    """A partition that holds what was answered.

    Attributes
    ----------
    proba : (n, k) float32
        Soft labels; the classes come first, in their order, then pseudo-classes of links, then
        clusters without an answer.
    rows, target : (m,) int64
        Rows that an answer is about and their clusters.
    """

    proba: Array
    rows: Ints
    target: Ints


def answer(
    context: RefinementContext,
    V: Array,
    answers: RowAnswers,
    n_clusters: int,
    *,
    others: Sequence[Ints] = (),
    exact: bool = True,
    even: bool = False,
) -> Answered:
    """Return the partition of the rows of `context` under `answers`.

    Parameters
    ----------
    context : RefinementContext
    V : (n, k) float32
        What the rows say without answers.
    answers : RowAnswers
    n_clusters : int
        Clusters to make; more where answers tell more classes.
    others : sequence of (n,) int64
        Other partitions, from which clusters are taken where `V` has too few.
    exact : bool
        Whether `n_clusters` was asked for; otherwise clusters without an answer have to look
        like clusters.
    even : bool
        Whether clusters are likelier balanced than not: pairs alone tell no sizes.
    """
    groups = close_answers(answers)
    target, n_classes = pseudo_classes(groups, V, answers, n_clusters)
    rows = groups.rows
    edges = affinity(context.graph.indices, context.graph.similarities)
    told = np.isin(rows, answers.rows)  # the others have a class by their links alone
    guess = np.zeros((len(V), n_classes), np.float32)
    if n_classes > 1 and told.any():
        guess += told.mean() * spread_both(context, edges, rows, target, n_classes)
    if n_classes > 1 and not told.all():
        guess += (1 - told.mean()) * carried(V, rows, target, n_classes)
    found = unanswered_clusters(
        context, [V.argmax(axis=1), *others], rows, n_clusters - n_classes, exact=exact
    )
    k = n_classes + len(found)
    start = np.zeros((len(V), k), np.float32)
    start[:, :n_classes] = softmax(guess, dtype=None)
    evidence = np.full((len(V), k), np.log(1 / n_classes), np.float32)
    evidence[:, :n_classes] = np.log(start[:, :n_classes] + FLOOR)
    for number, members in enumerate(found, n_classes):
        start[members] = 0
        start[members, number] = 1
    if k > 1:
        refined = refine(
            context,
            start,
            k,
            model="lda",
            shares=np.full(k, 1 / k) if even and not told.any() else None,
            fixed=(rows, target),
            evidence=EVIDENCE * evidence,
            size_exponent=1.0 if told.all() else None,
        )
        both = np.log(start + FLOOR) + np.log(refined + FLOOR)
        start = softmax(both / 2).astype(np.float32)
        levels = expected_accuracy(context, V, rows[told], target[told], found)
        free = np.setdiff1d(np.arange(len(V)), rows)
        agreed = agreed_logits(context, start.argmax(axis=1))
        start = calibrated(start, free, agreed, n_classes, levels)
        if len(np.unique(target[told])) > 1:
            own = float(V.max(axis=1).mean())
            start = leveled(start, free, agreed[free], int(told.sum()), own)
    start[rows] = one_hot(target, k)
    return Answered(start, rows, target)


def agreed_logits(context: RefinementContext, labels: Ints) -> NDArray[np.float64]:
    """Return the logit of the share of each row's neighbors that have its label, (n,)."""
    same = (labels[context.graph.indices] == labels[:, None]).sum(axis=1)
    # One row of two that cannot be known: a share of 0 or 1 has no logit.
    return logit((same + 1) / (context.graph.k + 2))


def calibrated(
    Q: Array,
    free: Ints,
    agreed: NDArray[np.float64],
    n_classes: int,
    levels: tuple[float, float],
) -> Array:
    """Return soft labels `Q` whose largest entries are as sure as they are right.

    A row is the surer the more its label leads the next one, and the more neighbors have it.

    Parameters
    ----------
    Q : (n, k) float32
        The classes that were told of come first.
    free : (m,) int64
        Rows without an answer.
    agreed : (n,) float64
        The `agreed_logits` of all rows.
    n_classes : int
        Classes that were told of.
    levels : (float, float)
        Expected accuracy of the rows of those, and of the others.
    """
    labels = Q.argmax(axis=1)
    first, second = np.partition(Q, -2, axis=1)[:, :-3:-1].T
    lead = np.log((first + FLOOR) / (second + FLOOR))
    score = LEAD * lead + NEIGHBORLY * agreed
    sure = np.ones(len(Q))
    told = labels < n_classes
    for of_kind, level in zip((told, ~told), levels, strict=True):
        rows = free[of_kind[free]]
        if len(rows):
            level = believable(level, Q.shape[1])
            reach = float(np.abs(score[rows]).max()) + MAX_LOGIT
            sure[rows] = expit(score[rows] + shift_to_mean(score[rows], level, reach=reach))
    return with_confidence(Q, sure)


def leveled(Q: Array, free: Ints, agreed: NDArray[np.float64], n_labels: int, own: float) -> Array:
    """Return soft labels whose confidence heeds how sure the head was, and what neighbors say.

    Parameters
    ----------
    Q : (n, k) float32
        As sure as the labels let expect.
    free : (m,) int64
        Rows without an answer.
    agreed : (m,) float64
        Their `agreed_logits`.
    n_labels : int
    own : float
        Mean confidence without labels.
    """
    if not len(free):
        return Q
    sure = Q.max(axis=1).astype(np.float64)
    scores = logit(np.clip(sure[free], *LOGIT_ENDS))
    a, b = (logit(believable(level, Q.shape[1])) for level in (sure[free].mean(), own))
    a += AGREED * agreed.mean() - AGREED_LESS
    sought = expit(n_labels / (n_labels + HALF_TOLD) * a + OWN / (n_labels + HALF_OWN) * b)
    level = believable(float(sought), Q.shape[1])
    scores *= np.exp(FLAT + STEEPER * logit(level) + APART * agreed.std())
    reach = float(np.abs(scores).max()) + MAX_LOGIT
    shift = shift_to_mean(scores, level, reach=reach)
    sure[free] = expit(scores + shift)
    return with_confidence(Q, sure)


def expected_accuracy(
    context: RefinementContext,
    V: Array,
    rows: Ints,
    target: Ints,
    found: Sequence[Ints],
) -> tuple[float, float]:
    """Return how many rows of the classes of labels will be right, and of the clusters `found`.

    Rows of classes that no label has met are wrong among the first, but for those that have gone
    to clusters without an answer; and of these no more are right than rows are unmet. Where labels
    cannot tell, all are as sure as they were without answers (`V`).
    """
    own = V.max(axis=1)
    others = np.concatenate([*found, np.empty(0, np.int64)]).astype(np.int64)
    level = float(own[others].mean()) if len(others) else 1.0
    classes, target = np.unique(target, return_inverse=True)
    if len(classes) < 2:
        return float(own.mean()), level
    _, told = spread_with_accuracy(
        context.rows, context.graph, rows, target, len(classes), seed=context.seed
    )
    unmet, share = told.unseen_mass, len(others) / len(V)
    # Keeps the quotient finite where nearly all rows are of classes nobody has met.
    met = told.accuracy / max(1 - unmet, 1e-3)
    return met * (1 - max(unmet - share, 0.0)), level * min(1.0, unmet / max(share, 1e-9))


def carried(V: Array, rows: Ints, target: Ints, n_classes: int) -> Array:
    """Return log-shares (n, c) of the classes that the answered rows of its clusters have."""
    table = V[rows].T @ one_hot(target, n_classes)
    prior = table.sum(axis=0) / table.sum()
    shares = (table + CARRIED_PRIOR * prior) / (table.sum(axis=1, keepdims=True) + CARRIED_PRIOR)
    return np.log(V @ shares + FLOOR).astype(np.float32)


def spread_both(
    context: RefinementContext, edges: Any, rows: Ints, target: Ints, n_classes: int
) -> Array:
    """Return the log-classes (n, c) of all rows, spread from some, on rows and diffused rows."""
    total = np.zeros((len(context.rows), n_classes), np.float32)
    for time in (0, MODEL_DIFFUSION["lda"]):
        found, _ = spread_labels(context.diffused[time].rows, edges, rows, target, n_classes)
        total += np.log(found + FLOOR)
    return (total / 2).astype(np.float32)


def unanswered_clusters(
    context: RefinementContext, partitions: Sequence[Ints], rows: Ints, room: int, *, exact: bool
) -> list[Ints]:
    """Return the rows of up to `room` clusters that no answer is about, the likeliest first.

    Those of the first partition come first; the others fill up, where `exact`, with small ones:
    so many answers leave no large class unmet.
    """
    n = len(context.rows)
    far = distance_ranks(context, rows)
    found: list[Ints] = []
    taken = np.zeros(n, bool)
    for turn, several in enumerate((partitions[:1], partitions[1:] if exact else [])):
        most = n if turn == 0 else max(n * SMALL / len(rows), 2)
        pool = [c for labels in several for c in _free_clusters(context, labels, rows, far)]
        pool.sort(key=lambda one: -one[0])
        for score, members in pool:
            if len(found) >= room:
                return found
            if len(members) > most or taken[members].any() or (not exact and score <= LEAST_SCORE):
                continue
            found.append(members)
            taken[members] = True
    return found


def distance_ranks(context: RefinementContext, rows: Ints) -> NDArray[np.float64]:
    """Return how far each row is from the nearest of `rows`, as a rank in 0..1."""
    out = np.zeros(len(context.rows))
    for time in (0, FAR_DIFFUSION):
        x = context.diffused[time].rows
        out += 0.5 * rankdata(-(x @ x[rows].T).max(axis=1)) / len(x)
    return out


def _free_clusters(
    context: RefinementContext, labels: Ints, rows: Ints, far: NDArray[np.float64]
) -> list[tuple[float, Ints]]:
    """Return the clusters of a partition that hold none of `rows`: (score, members)."""
    k = int(labels.max()) + 1
    mass = edge_mass(labels, k, context.graph)
    inside = np.diag(mass) / np.maximum(mass.sum(axis=1), 1)
    sizes = np.bincount(labels, minlength=k)
    score = np.bincount(labels, far, minlength=k) / np.maximum(sizes, 1) * inside
    free = np.setdiff1d(np.flatnonzero(sizes > 1), labels[rows])
    return [(float(score[c]), np.flatnonzero(labels == c)) for c in free]
