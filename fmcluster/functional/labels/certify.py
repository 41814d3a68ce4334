r"""How many rows are right, with a guarantee: exact tests along a fixed sequence of thresholds.

Of the N rows at or above a threshold, n were drawn evenly and labeled, k of them right. "Fewer than
the share a of the N are right" is refuted at level :math:`\delta` when

.. math:: P\{X \ge k\} \le \delta, \qquad
          X \sim \mathrm{Hypergeometric}(N, \lceil aN \rceil - 1, n),

which is exact whatever the rows are. Thresholds are tested from a start downwards, each at the full
:math:`\delta`, until one is not refuted: the chance that *any* false claim is made stays below
:math:`\delta` (fixed-sequence testing; Angelopoulos et al., "Learn then test", 2021), as long as
start and order are chosen without looking at who is right. The start is where confidence and the
number of labels promise the most rows. A quarter of :math:`\delta` is spent on a more cautious
start, at half as many labels, in case confidence promises too much; what a test does not lose is
handed on to the next one (Wiens' fallback procedure, 2003).

Where rows were drawn with unequal chances :math:`\pi_i = 1 / w_i`, the test is a bet: with
:math:`z_i = r_i - a` at or above the threshold and 0 below it, the mean over several
:math:`\lambda \le 1 / \max w` of :math:`\prod_i (1 + \lambda w_i z_i)` has expectation at most 1
where the claim is false, so that it exceeds :math:`1 / \delta` in at most :math:`\delta` of draws
(Markov; betting as of Waudby-Smith & Ramdas, 2024). It holds for independent draws and for
fixed numbers from each stratum: :math:`\prod_h (1 + \lambda w_h \mu_h)^{n_h} \le
\exp(\lambda \sum_h n_h w_h \mu_h) \le 1`, and without replacement by Hoeffding's comparison (1963).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln
from scipy.stats import kstest, norm

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Thresholds are at whole percents of the rows: finer ones buy at most half a percent of them.
GRID = 100
# Few labels must be bet high, many low; an average over few bets costs less than a wrong one.
BETS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
# Rows are drawn from so much further down, in case confidence promises too little.
FURTHER = 1.15
# Part of delta for a start among fewer rows, in case confidence promises too much.
CAUTION = 0.25
# How far calibrated confidence is trusted when power is forecast; the guarantee does not use it.
CONFIDENCE_SD = 0.03
# A fair draw fails the check of fairness once in a million.
UNFAIR = 1e-6


def _upper_tail(n_rows: Ints, n_marked: Ints, n_drawn: Ints, least: Ints) -> Floats:
    """Return the chance (t,) of at least `least` marked rows among those drawn.

    The sum of the hypergeometric terms for all tests at once, where scipy adds one test after the
    other.
    """
    more = np.arange(int((n_drawn - least).max(initial=0)) + 1)
    marked = least[:, None] + more

    def log_choose(total: Ints, taken: Ints) -> Floats:
        inside = (taken >= 0) & (taken <= total)
        safe = np.where(inside, taken, 0)
        found = gammaln(total + 1) - gammaln(safe + 1) - gammaln(total - safe + 1)
        return np.where(inside, found, -np.inf)

    rows, drawn = n_rows[:, None], n_drawn[:, None]
    log_terms = log_choose(n_marked[:, None], marked)
    log_terms = log_terms + log_choose(rows - n_marked[:, None], drawn - marked)
    return np.asarray(np.exp(log_terms - log_choose(rows, drawn)).sum(axis=1))


def exact_p_value(
    n_rows: ArrayLike, n_labels: ArrayLike, n_right: ArrayLike, accuracy: float
) -> Floats:
    """Return the chance of as many right labels if fewer than `accuracy` of the rows were right.

    Parameters
    ----------
    n_rows, n_labels, n_right : (t,) int
        Rows, rows drawn from them without replacement and labeled, and how many of those are right.
    accuracy : float
        The share that is claimed.
    """
    rows, drawn, right = (
        np.atleast_1d(np.asarray(a, np.int64)) for a in (n_rows, n_labels, n_right)
    )
    # 1e-9: a share such as 0.95 of 100 rows is 95 rows, whatever floats make of it.
    most = np.maximum(np.ceil(accuracy * rows - 1e-9).astype(np.int64) - 1, 0)
    return np.minimum(_upper_tail(rows, most, drawn, right), 1.0)


def exact_lower(n_rows: ArrayLike, n_labels: ArrayLike, n_right: ArrayLike, delta: float) -> Floats:
    """Return the lower 1 - delta confidence bounds (t,) of the share of right rows.

    Parameters
    ----------
    n_rows, n_labels, n_right : (t,) int
        As of `exact_p_value`.
    """
    rows, drawn, right = (
        np.atleast_1d(np.asarray(a, np.int64)) for a in (n_rows, n_labels, n_right)
    )
    # The least number of right rows that the draw does not refute: between those seen right, and
    # all but those seen wrong.
    low, high = right.copy(), rows - (drawn - right)
    while (low < high).any():
        middle = (low + high) // 2
        kept = _upper_tail(rows, middle, drawn, right) > delta
        high = np.where(kept, middle, high)
        low = np.where(kept, low, np.minimum(middle + 1, high))
    return np.asarray(low / rows)


def weighted_p_value(weights: Floats, right: NDArray[np.bool_], accuracy: float) -> float:
    """Return the p-value of the bet for labeled rows at or above a threshold.

    Parameters
    ----------
    weights : (n,) float64
        1 / the chance that each row was drawn, divided by the largest of *all* labeled rows.
    right : (n,) bool
    accuracy : float
        The share that is claimed.
    """
    gain = weights * (right - accuracy)
    worth = np.mean([np.exp(np.log1p(bet * gain).sum()) for bet in BETS])
    return float(min(1.0, 1.0 / worth))


def weighted_lower(weights: Floats, right: NDArray[np.bool_], delta: float) -> float:
    """Return the lower 1 - delta confidence bound of the share of right rows by the bet."""
    low, high = 0.0, 1.0
    for _ in range(30):  # to a billionth
        middle = (low + high) / 2
        if weighted_p_value(weights, right, middle) <= delta:
            low = middle
        else:
            high = middle
    return low


def forecast(
    accuracy_expected: Floats, n_rows: Floats, n_labels: Floats, accuracy: float, delta: float
) -> Floats:
    """Return the chance (t,) that each threshold will be certified, if confidence is about right.

    Parameters
    ----------
    accuracy_expected, n_rows, n_labels : (t,) float64
        Mean confidence at or above each threshold, rows there and labels among them.
    """
    share = np.clip(accuracy_expected, 1e-6, 1 - 1e-6)
    drawn = np.maximum(n_labels, 1e-9)
    finite = np.maximum(1 - n_labels / n_rows, 1e-9)
    needed = accuracy + norm.isf(delta) * np.sqrt(accuracy * (1 - accuracy) * finite / drawn)
    needed = needed + 0.5 / drawn
    spread = np.sqrt(share * (1 - share) * finite / drawn + CONFIDENCE_SD**2)
    return np.where(needed < 1, norm.cdf((share - needed) / spread), 0.0)


def region_size(confidence: Floats, budget: int, accuracy: float, delta: float) -> int:
    """Return how many of the most confident rows to draw `budget` labels from.

    Few rows get many labels each, but few rows can be certified then: the size with the largest
    expected number of certified rows wins, and some more for safety. Rows of equal confidence stay
    together.

    Parameters
    ----------
    confidence : (n,) float64
        Sorted, highest first.
    """
    n = len(confidence)
    mean = np.cumsum(confidence) / np.arange(1, n + 1)
    ends = grid_ends(confidence)
    ends = ends[ends >= min(budget, n)]
    power = forecast(
        mean[ends - 1], ends.astype(float), np.full(len(ends), float(budget)), accuracy, delta
    )
    if not power.any():
        return n
    best = ends[(power * ends).argmax()]
    return int(ends[min(np.searchsorted(ends, FURTHER * best), len(ends) - 1)])


def grid_ends(confidence: Floats) -> Ints:
    """Return after how many rows, of the most confident first, a threshold can stand.

    Depends on the confidences alone, never on labels.
    """
    n = len(confidence)
    last = np.append(np.flatnonzero(np.diff(confidence) != 0) + 1, n)  # ends of equal confidence
    wanted = np.ceil(np.arange(1, GRID + 1) * n / GRID)
    return np.unique(last[np.searchsorted(last, wanted)]).astype(np.int64)


def is_fair(rank: Ints, n_rows: int, seed: int = 0) -> bool:
    """Return whether ranks 0..n_rows-1 look like an even draw (Kolmogorov-Smirnov)."""
    if len(rank) < 2:
        return True
    jitter = np.random.default_rng(seed).random(len(rank))
    return bool(kstest((rank + jitter) / n_rows, "uniform").pvalue >= UNFAIR)


@dataclass(frozen=True)
class Tested:
    """What the tests gave: rows are counted from the most confident one.

    Attributes
    ----------
    n_rows : int
        Certified rows; 0 where nothing could be certified.
    first : int
        Rows at or above the first threshold tested.
    n_labels, n_right : int
        Labeled rows, and right ones, at or above the certified threshold, or the first one.
    lower : float
        Lower bound of the accuracy there.
    """

    n_rows: int
    first: int
    n_labels: int
    n_right: int
    lower: float


def certify_rows(
    confidence: Floats,
    position: Ints,
    right: NDArray[np.bool_],
    *,
    accuracy: float,
    delta: float,
    weights: Floats | None = None,
) -> Tested:
    """Certify the largest number of most confident rows that the labels allow.

    Parameters
    ----------
    confidence : (n,) float64
        Of all rows, highest first.
    position : (m,) int64
        Places of the labeled rows in that order.
    right : (m,) bool
        Which of them are right.
    accuracy, delta : float
        The share of right rows that is claimed, and the chance that the claim may be false.
    weights : (m,) float64, optional
        1 / the chance that each row was drawn, where the chances differ. Without them, rows are
        taken for drawn evenly from all above the least confident labeled one: no threshold lies
        below that.
    """
    order = np.argsort(position, kind="stable")
    position, right = position[order], right[order]
    ends = grid_ends(confidence)
    last = int(np.searchsorted(-confidence, -confidence[position[-1]], side="right"))
    ends = np.unique(np.append(ends[ends < last], last))
    count = np.searchsorted(position, ends)  # labeled rows above each threshold
    ends, count = ends[count > 0], count[count > 0]
    hits = np.cumsum(right)[count - 1]
    mean = (np.cumsum(confidence) / np.arange(1, len(confidence) + 1))[ends - 1]
    if weights is None:
        tests = exact_p_value(ends, count, hits, accuracy)
        worth = count.astype(float)
    else:
        weights = weights[order] / weights.max()
        tests = np.array([weighted_p_value(weights[:c], right[:c], accuracy) for c in count])
        # Kish: as many evenly drawn rows would say as much.
        worth = np.cumsum(weights)[count - 1] ** 2 / np.cumsum(weights**2)[count - 1]
    power = forecast(mean, ends.astype(float), worth, accuracy, delta)
    start = int((power * ends).argmax()) if power.any() else len(ends) - 1
    cautious = int(np.searchsorted(count, count[start] / 2))
    first, at, level = fallback(tests, cautious, start, delta)
    certified = int(ends[at]) if level > 0 else 0
    # The least bound along the way: choosing the last threshold must not raise it.
    path = slice(first, at + 1)
    level = level or delta
    if weights is None:
        lower = float(exact_lower(ends[path], count[path], hits[path], level).min())
    else:
        lower = min(weighted_lower(weights[:c], right[:c], level) for c in count[path])
    return Tested(certified, int(ends[start]), int(count[at]), int(hits[at]), lower)


def fallback(tests: Floats, cautious: int, start: int, delta: float) -> tuple[int, int, float]:
    """Test thresholds in order from two starts; return (begin, end, level) of the last run.

    Parameters
    ----------
    tests : (t,) float64
        p-values, most confident threshold first.
    cautious, start : int
        Where a part `CAUTION` of `delta` and the rest enter; cautious <= start.

    Returns
    -------
    begin, end : int
        The run of certified thresholds that reaches furthest; `start` twice where there is none.
    level : float
        At which they were tested; 0 where there is none.
    """
    carried, begin = 0.0, start
    best = (start, start, 0.0)
    for j in range(cautious, len(tests)):
        level = carried + (j == cautious) * CAUTION * delta + (j == start) * (1 - CAUTION) * delta
        if level > 0 and tests[j] <= level:
            begin = begin if carried > 0 else j
            carried, best = level, (begin, j, level)
        else:
            carried = 0.0
            if j >= start:
                break
    return best
