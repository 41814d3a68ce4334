r"""How often labels that were spread from a few rows are right, from these few labels alone.

A row is wrong because its class was never labeled, or because another labeled class took it:

.. math:: \text{accuracy} = (1 - U) \, S.

**U, the mass of classes without a label.** Good and Turing: where rows are drawn at random, it is
the share of labels that are the only one of their class, :math:`f_1`. Rows that `query` chooses lie
apart and meet classes sooner, the sooner the more compact classes are and the more labels there are
for a neighborhood of 40 rows:

.. math:: U = f_1 \, (1 - E + E \, r), \qquad
          r = \gamma_0 \exp(-\gamma_1 \log_2^+ (40 \, l / n) + \gamma_2 (1 - S)),

with l labels of n rows. E tells the two cases apart: 0 where rows are as far from their nearest
labeled row as they would be from as many random ones, 1 where they are nearer by 7 %.

**S, the accuracy on classes that were labeled.** Two witnesses, each wrong in its own way:

- *Stability*. Spread from half of the labels, do rows get the same class? This is too high: what is
  ambiguous in the embeddings is answered the same way from any half.
- *Hidden labels*. Are the labels that the half did not see guessed right? Rows chosen to be typical
  are easier than the rest, so the guess's own confidence is first fitted to the hidden labels, and
  then read off for all rows. With one or two labels a class, hardly any are left to be hidden.

With m labels that could be hidden, c classes and l labels,

.. math:: \operatorname{logit} S = \beta_0 + \beta_1 \operatorname{logit} s + \frac{m}{m + 20}
          \Bigl(\beta_2 (\operatorname{logit} h - \operatorname{logit} s) + \beta_3
          \frac{c}{l}\Bigr);

the last term makes up for labels that are harder to guess while hidden, where a class has few. The
coefficients were learned on half of the worlds of ``benchmarks/propagate.py`` and confirmed on the
other half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from fmcluster.functional.calibration import LOGIT_ENDS
from fmcluster.functional.labels.few_labels import LinePrior, fit_line
from fmcluster.functional.labels.spread import spread_labels

Floats = NDArray[Any]
Ints = NDArray[np.int64]
# Each gives two halves. The mean of more moves by less than the estimate errs.
N_SPLITS = 3
# The coefficients above, and the number of hidden labels that weigh half.
LEVEL, STABILITY, HIDDEN, FEW = -0.65, 1.0, 0.45, 0.6
HALF_TRUSTED = 20
# How much nearer rows must lie to labeled ones than chance brings them, to count as chosen; random
# draws differ by 2 %, herding brings 4 to 25 %.
APART = 0.07
# What is left of f1 then, how it falls with every doubling of labels, how it rises with error.
LEFT, CROWDED, BLURRED = 0.34, 0.46, 2.0
# The neighborhood that `query` covers with a label at least, whatever the budget.
NEIGHBORHOOD = 40
# Random draws of which the mean distance is taken; its error is a few thousandths.
N_DRAWS = 4
# Rows that distances are taken over: their mean is known to a percent.
DISTANCE_ROWS = 4_000
# Hidden labels are few: a line from logit(confidence) that is held to half the slope of a
# calibrated one unless they say otherwise, and to no level.
CONFIDENCE_LINE = LinePrior((0.0, 0.5), (7.0, 0.35))
# Half the width, in logits, of an interval that holds nine tenths of the cases in worlds that the
# fit has not seen: with all labels hidden in turn, and what comes on top without any.
HALF_WIDTH, FEWER_HIDDEN = 0.6, 0.3


@dataclass(frozen=True)
class SpreadAccuracy:
    """What is expected of rows without a label.

    Attributes
    ----------
    accuracy : float
        Share of right ones.
    interval : (low, high)
        Where that share lies in nine of ten cases.
    unseen_mass : float
        Share of rows whose class no label has met.
    stability, hidden : float
        The two witnesses of the accuracy on classes that labels have met.
    n_hidden : float
        Labels that could be hidden.
    """

    accuracy: float
    interval: tuple[float, float]
    unseen_mass: float
    stability: float
    hidden: float
    n_hidden: float


def halves(target: Ints, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which labels go to the first half: of every class as many, up to one, to either."""
    order = np.lexsort((rng.random(len(target)), target))
    first = np.empty(len(target), bool)
    first[order] = (np.arange(len(target)) + rng.integers(2)) % 2 == 0
    return first


def spread_accuracy(
    x: Any,
    graph: Any,
    rows: Ints,
    target: Ints,
    guess: Floats,
    agreement: float,
    *,
    seed: int = 0,
) -> SpreadAccuracy:
    """Estimate how often `guess` is right on rows without a label.

    Parameters
    ----------
    x, graph, rows, target
        As of `spread_labels`.
    guess : (n, c)
        What `spread_labels` gave, before any calibration.
    agreement : float
        Its second value; the witness where halves of the labels hold one class only.
    seed : int
        Of halves and random draws.
    """
    rng = np.random.default_rng(seed)
    n = len(guess)
    free = np.ones(n, bool)
    free[rows] = False
    if not free.any():
        return SpreadAccuracy(1.0, (1.0, 1.0), 0.0, 1.0, 1.0, float(len(rows)))
    label = guess.argmax(axis=1)
    same: list[float] = []
    sure, right = [], []
    for _ in range(N_SPLITS):
        first = halves(target, rng)
        for kept in (first, ~first):
            classes, of_kept = np.unique(target[kept], return_inverse=True)
            if len(classes) < 2:
                continue
            found, _ = spread_labels(x, graph, rows[kept], of_kept, len(classes))
            best = found.argmax(axis=1)
            asked = free & np.isin(label, classes)
            if not asked.any():
                continue
            same.append(float((classes[best] == label)[asked].mean()))
            confidence = found.max(axis=1)
            hidden = np.flatnonzero(~kept & np.isin(target, classes))
            sure.append(confidence[rows[hidden]])
            right.append(classes[best[rows[hidden]]] == target[hidden])
    stable = float(np.mean(same)) if same else agreement
    n_hidden = sum(map(len, sure)) / N_SPLITS
    hidden_right = stable
    if n_hidden:
        every = guess.max(axis=1)[free]
        hidden_right = _read_off(np.concatenate(sure), np.concatenate(right), every)
    single = float((np.bincount(target) == 1).sum() / len(target))
    known = HIDDEN * (_logit(hidden_right) - _logit(stable)) + FEW * guess.shape[1] / len(rows)
    weight = n_hidden / (n_hidden + HALF_TRUSTED)
    level = LEVEL + STABILITY * _logit(stable) + weight * known
    met = float(expit(level))
    apart = _apart(x, rows, rng)
    crowded = max(float(np.log2(NEIGHBORHOOD * len(rows) / n)), 0.0)
    left = min(LEFT * float(np.exp(-CROWDED * crowded + BLURRED * (1 - met))), 1.0)
    # However few rows are known, one in a hundred is of a class that is.
    unseen = min(single * (1 - apart + apart * left), 0.99)
    accuracy = met * (1 - unseen)
    gap = HALF_WIDTH + FEWER_HIDDEN * (1 - weight)
    low, high = (float(expit(logit(np.clip(accuracy, 1e-3, 0.999)) + side)) for side in (-gap, gap))
    return SpreadAccuracy(accuracy, (low, high), unseen, stable, hidden_right, n_hidden)


def _logit(share: float) -> float:
    """Return the log odds; 0 and 1 are what one of a hundred rows more or less could make."""
    return float(np.log((100 * share + 0.5) / (100 - 100 * share + 0.5)))


def _read_off(sure: Floats, right: NDArray[np.bool_], all_sure: Floats) -> float:
    """Return the mean accuracy of all rows by a line from confidence fitted to hidden labels."""
    z = logit(np.clip(sure.astype(np.float64), *LOGIT_ENDS))
    # Each label was hidden once a split.
    weights = np.full(len(z), 1 / N_SPLITS)
    line = fit_line(z, right.astype(np.float64), weights, CONFIDENCE_LINE)
    every = logit(np.clip(all_sure.astype(np.float64), *LOGIT_ENDS))
    return float(expit(line[0] + line[1] * every).mean())


def _apart(x: Any, rows: Ints, rng: np.random.Generator) -> float:
    """Return whether rows lie nearer to labeled rows than to as many random ones, 0 to 1."""
    n = x.shape[0]
    some = np.arange(n)
    if n > DISTANCE_ROWS:
        some = np.sort(rng.choice(n, DISTANCE_ROWS, replace=False))

    def unit(index: Ints) -> Floats:
        part = np.asarray(x[index], np.float32)
        return part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)

    given = unit(some)

    def distance(chosen: Ints) -> float:
        return float(1 - (given @ unit(chosen).T).max(axis=1).mean())

    drawn = [distance(rng.choice(n, len(rows), replace=False)) for _ in range(N_DRAWS)]
    nearer = 1 - distance(rows) / max(float(np.mean(drawn)), 1e-9)
    return float(np.clip(nearer / APART, 0, 1))
