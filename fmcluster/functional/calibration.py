r"""How honest a confidence is: calibration errors, proper scores, failure rejection, temperature.

With confidence :math:`c_i` and correctness :math:`a_i \in \{0, 1\}`, bins :math:`B_b` of rows,

.. math:: \mathrm{ECE} = \sum_b \frac{|B_b|}{n} \, |\bar a_b - \bar c_b|

(Guo et al., 2017), and rejecting the least confident rows first gives the risk at coverage j/n,
:math:`r_j`, whose mean over j is AURC (Geifman & El-Yaniv, 2017). All values are fractions, 0..1.
Rows of equal confidence are interchangeable: every score here is the mean over their orders, so
nothing depends on the order of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import rankdata

from fmcluster.functional.softmax import softmax_in_place
from fmcluster.utils.blocks import by_rows, row_blocks, stacked
from fmcluster.utils.validation import check_in

# By convention (Guo et al., 2017): figures of papers are of 15.
N_BINS = 15
# The smallest probability a score takes the logarithm of: float32's resolution, as log_loss does.
EPSILON = float(np.finfo(np.float32).eps)
# Beyond it probabilities are uniform to the eye; it bounds the search.
MAX_TEMPERATURE = 100.0
# A confidence of 0 or 1 has no logit; counted ones say no more than that one row in fifty differs.
LOGIT_ENDS, COUNTED_ENDS = (1e-4, 1 - 1e-4), (0.02, 0.98)
# Beyond it a probability is zero or one in float64.
MAX_LOGIT = 40.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ReliabilityTable:
    """The bins of a reliability diagram; empty bins are kept, with zeros.

    Attributes
    ----------
    lower, upper : (b,) float64
        Edges of the bins (of equal-mass bins: the least and largest confidence inside).
    count : (b,) int64
        Rows.
    confidence, accuracy : (b,) float64
        Mean confidence and share correct of the rows inside.
    """

    lower: Floats
    upper: Floats
    count: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats

    @property
    def ece(self) -> float:
        """Expected calibration error of these bins."""
        return float(
            (self.count * np.abs(self.accuracy - self.confidence)).sum() / self.count.sum()
        )


def _pair(confidence: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats]:
    """Check a confidence and its correctness; both as float64 (n,)."""
    score = np.asarray(confidence, dtype=np.float64)
    right = np.asarray(correct, dtype=np.float64)
    if score.ndim != 1 or score.shape != right.shape:
        raise ValueError(
            f"confidence {score.shape} and correct {right.shape} must be 1-D and of equal length"
        )
    if len(score) == 0:
        raise ValueError("confidence is empty: at least one row is needed")
    if not np.isfinite(score).all():
        raise ValueError("confidence holds NaN or infinite values: repair them")
    if not np.isin(right, (0.0, 1.0)).all():
        raise ValueError("correct must hold only 0 and 1 (or False and True)")
    return score, right


def _over_ties(score: Floats, values: Floats) -> Floats:
    """Replace values by their mean over rows of equal score."""
    _, group = np.unique(score, return_inverse=True)
    group = group.reshape(-1)
    return (np.bincount(group, values) / np.bincount(group))[group]


def reliability_table(
    confidence: ArrayLike, correct: ArrayLike, *, n_bins: int = N_BINS, strategy: str = "width"
) -> ReliabilityTable:
    """Bin rows by confidence.

    Parameters
    ----------
    confidence : (n,) array-like in [0, 1]
    correct : (n,) array-like of bool
    n_bins : int
        Number of bins, 15 by convention.
    strategy : {"width", "mass"}
        Bins of equal width on [0, 1], each with its lower edge and the last with 1 too; or of
        equal numbers of rows.
    """
    score, right = _pair(confidence, correct)
    if n_bins < 1:
        raise ValueError(f"n_bins={n_bins} must be at least 1")
    if check_in(strategy, ("width", "mass"), "strategy") == "width":
        if score.min() < 0 or score.max() > 1:
            raise ValueError(
                f"confidence must lie in [0, 1], got {score.min():.4g} to {score.max():.4g}"
            )
        edges = np.linspace(0.0, 1.0, n_bins + 1)
        bins = np.clip(np.searchsorted(edges, score, side="right") - 1, 0, n_bins - 1)
        lower, upper = edges[:-1], edges[1:]
    else:
        n_bins = min(n_bins, len(score))
        order = np.argsort(score, kind="stable")
        bins = np.empty(len(score), dtype=np.int64)
        parts = np.array_split(order, n_bins)
        for number, rows in enumerate(parts):
            bins[rows] = number
        right = _over_ties(score, right)
        lower = np.array([score[rows[0]] for rows in parts])
        upper = np.array([score[rows[-1]] for rows in parts])
    count = np.bincount(bins, minlength=n_bins)
    safe = np.maximum(count, 1)
    mean_score = np.bincount(bins, score, minlength=n_bins) / safe
    mean_right = np.bincount(bins, right, minlength=n_bins) / safe
    return ReliabilityTable(lower, upper, count.astype(np.int64), mean_score, mean_right)


def ece(
    confidence: ArrayLike, correct: ArrayLike, n_bins: int = N_BINS, *, strategy: str = "width"
) -> float:
    """Return the expected calibration error, 0..1; parameters as of `reliability_table`."""
    return reliability_table(confidence, correct, n_bins=n_bins, strategy=strategy).ece


def _proba_target(proba: ArrayLike, target: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Check probabilities (n, k) and the column that is right for each row."""
    values = np.asarray(proba)
    columns = np.asarray(target, dtype=np.int64)
    if values.ndim != 2 or columns.shape != values.shape[:1] or len(columns) == 0:
        raise ValueError(
            f"proba {values.shape} must be (n, k) and target {columns.shape} (n,), n at least 1"
        )
    if columns.min() < -1 or columns.max() >= values.shape[1]:
        raise ValueError(
            f"target runs from {columns.min()} to {columns.max()}, expected columns "
            f"0..{values.shape[1] - 1} of proba, or -1 for a class that has none"
        )
    return values, columns


def classwise_ece(proba: ArrayLike, target: ArrayLike, n_bins: int = N_BINS) -> float:
    """Return the calibration error of every column, averaged (Nixon et al., 2019).

    Parameters
    ----------
    proba : (n, k) array-like
    target : (n,) array-like of int
        The column that is right for each row; -1 where none is.
    """
    values, columns = _proba_target(proba, target)
    n, k = values.shape
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    # Of every bin of every column, what is promised less what is right: rows times the difference.
    gaps = np.zeros(k * n_bins)
    for rows in row_blocks(values):
        p, right = np.clip(values[rows].astype(np.float64), 0.0, 1.0), columns[rows]
        bins = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, n_bins - 1)
        bins += n_bins * np.arange(k)
        hit = bins[np.flatnonzero(right >= 0), right[right >= 0]]
        gaps += np.bincount(bins.ravel(), p.ravel(), minlength=len(gaps))
        gaps -= np.bincount(hit, minlength=len(gaps))
    return float(np.abs(gaps).sum() / (n * k))


def brier(proba: ArrayLike, target: ArrayLike) -> float:
    """Return the mean squared distance to the one-hot truth, 0..2 (Brier, 1950).

    A class without a column (target -1) counts as a column of zeros.
    """
    values, columns = _proba_target(proba, target)
    square = by_rows(lambda p: (p.astype(np.float64) ** 2).sum(axis=1), values)
    return float((square - 2.0 * _hit(values, columns) + 1.0).mean())


def nll(proba: ArrayLike, target: ArrayLike) -> float:
    """Return the mean negative log-likelihood in nats; probabilities are floored at 1.2e-7."""
    values, columns = _proba_target(proba, target)
    return float(-np.log(np.clip(_hit(values, columns), EPSILON, 1.0)).mean())


def _hit(values: NDArray[Any], columns: NDArray[np.int64]) -> Floats:
    """Return the probability (n,) of each row's right column; 0 where it has none."""
    return np.where(columns >= 0, values[np.arange(len(values)), columns], 0.0).astype(np.float64)


def auroc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Return the chance that a right row scores above a wrong one (ties count half).

    0.5 where all rows are right or all are wrong: there is nothing to tell apart.
    """
    score, right = _pair(confidence, correct)
    positives = right.sum()
    negatives = len(right) - positives
    if positives == 0 or negatives == 0:
        return 0.5
    ranks = rankdata(score)[right == 1].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def fpr_at_tpr(confidence: ArrayLike, correct: ArrayLike, tpr: float = 0.95) -> float:
    """Return the share of wrong rows kept at the threshold that keeps a share `tpr` of right rows.

    0 where no row is wrong; 1 where none is right.
    """
    score, right = _pair(confidence, correct)
    good, bad = score[right == 1], score[right == 0]
    if len(bad) == 0:
        return 0.0
    if len(good) == 0:
        return 1.0
    keep = int(np.ceil(tpr * len(good) - 1e-9))
    threshold = np.sort(good)[::-1][max(keep, 1) - 1]
    return float((bad >= threshold).mean())


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats]:
    """Return (coverage, risk), each (n,): the share of errors among the j most confident rows."""
    score, right = _pair(confidence, correct)
    wrong = _over_ties(score, 1.0 - right)
    kept = np.arange(1, len(score) + 1)
    risk = np.cumsum(wrong[np.argsort(-score, kind="stable")]) / kept
    return kept / len(score), risk


def aurc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Return the area under the risk-coverage curve, 0..1; smaller is better."""
    return float(risk_coverage(confidence, correct)[1].mean())


def excess_aurc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Return AURC minus that of the best possible ranking (E-AURC, Geifman et al., 2019)."""
    score, right = _pair(confidence, correct)
    return max(0.0, aurc(score, right) - aurc(right, right))


def shift_to_mean(
    logits: Floats, level: float, *, reach: float = 12.0, mass: NDArray[Any] | None = None
) -> float:
    """Return what to add to logits for their sigmoids to have the mean `level`, by halving.

    Parameters
    ----------
    logits : (n,) float64
    level : float
        In 0..1.
    reach : float
        The answer lies within this of zero; where it does not, the end nearer to it is taken.
    mass : (n,), optional
        Share of each; equal where None.
    """
    low, high = -reach, reach
    for _ in range(50):  # halvings: to the last bit of a float64
        middle = (low + high) / 2
        if np.average(expit(logits + middle), weights=mass) < level:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def apply_temperature(proba: ArrayLike, temperature: float) -> Floats:
    """Return softmax(log proba / temperature), (n, k): above 1 softens; the argmax stays."""
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} must be above 0")
    logits = np.log(np.clip(np.asarray(proba, dtype=np.float64), 1e-12, None)) / temperature
    return softmax_in_place(logits)


def fit_temperature(
    proba: ArrayLike, target: ArrayLike, *, weights: ArrayLike | None = None
) -> float:
    """Find the temperature of least negative log-likelihood (Guo et al., 2017).

    Parameters
    ----------
    proba : (m, k) array-like
    target : (m,) array-like of int
        The right column of each row, -1 where none is (such rows are left out).
    weights : (m,) array-like, optional
        Importance of the rows.

    Returns
    -------
    float
        Between 0.01 and 100.
    """
    values, columns = _proba_target(proba, target)
    known = columns >= 0
    if not known.any():
        raise ValueError("no row has a right column: a temperature cannot be fitted")
    importance = np.ones(len(columns)) if weights is None else np.asarray(weights, dtype=float)
    values, columns, importance = values[known], columns[known], importance[known]

    def loss(log_temperature: float) -> float:
        soft = apply_temperature(values, float(np.exp(log_temperature)))
        hit = soft[np.arange(len(columns)), columns]
        return float(-(importance * np.log(np.clip(hit, EPSILON, 1.0))).sum() / importance.sum())

    bound = np.log(MAX_TEMPERATURE)
    # Four digits of its logarithm: labels are too few to tell more.
    best = minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(best.x))


def temperature_for_mean(proba: ArrayLike, mean_confidence: float) -> float:
    """Find the temperature at which the mean top probability is `mean_confidence`.

    Mean confidence falls as temperature grows, so bisection on its logarithm finds it; a level
    outside what temperatures in [0.01, 100] reach gives the nearer end.
    """
    values = np.asarray(proba, dtype=np.float64)
    low, high = -np.log(MAX_TEMPERATURE), np.log(MAX_TEMPERATURE)
    for _ in range(40):  # halvings: a temperature to eleven digits
        middle = (low + high) / 2
        if apply_temperature(values, float(np.exp(middle))).max(axis=1).mean() > mean_confidence:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def with_confidence(proba: NDArray[Any], confidence: Floats) -> NDArray[np.float32]:
    """Return rows whose largest entry is `confidence`, at the argmax of `proba`; sums are one."""
    if proba.shape[1] == 1:
        return np.ones(proba.shape, np.float32)
    parts = (
        _with_confidence(proba[rows], confidence[rows]).astype(np.float32)
        for rows in row_blocks(proba)
    )
    return stacked(parts, len(proba))


def _with_confidence(proba: NDArray[Any], confidence: Floats) -> Floats:
    """Return a block of `with_confidence` in float64."""
    values = np.asarray(proba, dtype=np.float64)
    n_rows, k = values.shape
    rows, top = np.arange(n_rows), values.argmax(axis=1)
    # A hair above 1/k, so that the label stays the only largest entry in float32 too.
    target = np.clip(confidence, (1.0 + 1e-4) / k, 1.0)
    rest = values.copy()
    rest[rows, top] = 0.0
    mass = rest.sum(axis=1, keepdims=True)
    even = np.full_like(rest, 1.0 / (k - 1))
    rest = np.where(mass > 1e-12, rest / np.maximum(mass, 1e-12), even)
    largest = rest.max(axis=1)
    # Mix with the even share just enough that the runner-up stays below the label.
    ceiling = np.minimum(1.0, (1.0 - 2e-5) * target / np.maximum(1.0 - target, 1e-12))
    spread = np.maximum(largest - 1.0 / (k - 1), 1e-12)
    mix = np.clip((largest - ceiling) / spread, 0.0, 1.0)[:, None]
    out = ((1 - mix) * rest + mix / (k - 1)) * (1.0 - target)[:, None]
    out[rows, top] = target
    return out
