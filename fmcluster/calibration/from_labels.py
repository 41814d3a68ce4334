r"""From scores to confidence: without labels (`label_free`), and with a few (`from_labels`).

**Without labels.** Partitions made in other ways (`base_partitions`) vote in every mini-cluster
of the embedding space (computed once, as CDC's targets, ICLR 2025): a row's vote share is the part
of the votes in its mini-cluster for its own label. Its rank, averaged with the rank of the head's
own probability, orders the rows. How confidence rises along that order is learned by letting the
algorithms predict one another: isotonic regression of one algorithm's agreement on the order that
the others give. A shift in logits then makes the mean equal to the mean agreement, the estimate of
accuracy (disagreement of independent runs estimates error: Jiang et al., ICLR 2022).

**With m labeled rows.** `labels.few_labels` says which rows are right although the match of
clusters and classes is itself unknown, and a line in logit space from the standardized score to
confidence is fitted with a prior: the label-free confidence where there is one. Below 15 effective
labels only its intercept moves; from 200 on an isotonic fit is blended in.

Both keep every row's label, raise confidence with the score, and are a few arrays: a calibrator
fitted on one set of rows serves new rows without their neighbor graph.

What failed, on the sets of `benchmarks`: agreement with one algorithm (20 points of level
error where that algorithm fails), algorithms weighted by modularity and silhouette (14 points: both
prefer even sizes) or by chance-corrected stability, triplet estimates (algorithms err together: 18
points too high), the votes themselves as confidence (too wide where clusters merge classes); with
labels, counting matched rows among the labeled ones (10 to 17 points too high at 77 clusters) or
leaving each out (16 too low).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from fmcluster.calibration.calibrator import (
    KNOTS,
    Calibrator,
    Curve,
    Floats,
    isotonic,
)
from fmcluster.functional.assignment import hungarian
from fmcluster.functional.calibration import COUNTED_ENDS, N_BINS
from fmcluster.functional.labels.few_labels import (
    LinePrior,
    fit_line,
    left_out_correct,
    posterior_correct,
)
from fmcluster.utils.blocks import row_max
from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import check_labels, check_proba

# Each fit keeps four fifths of the few labels.
FOLDS = 5
# Effective labels from which a slope, and a curve, can be told; where the curve counts half.
SHIFT_BELOW, ISOTONIC_FROM, ISOTONIC_HALF = 15, 200, 400
# Raw scores say nothing of their level: two thirds right, AUROC about 0.75, both held loosely.
LOOSE_PRIOR = LinePrior((0.6, 0.8), (1.0, 0.5))
# The label-free level errs by 4 to 5 points, more on sets unlike those tried: 0.35 in logits.
PRIOR_SD = (0.35, 0.35)
# Of a spread, as good as none: what has it stays where it is.
SURE_SD = 1e-3
# A slope of 0.2 is nearly flat, one of 4 nearly a step: beyond, scores were not standardized.
SLOPE_ENDS = (0.2, 4.0)
# A bin's mean of fewer is mostly chance.
ROWS_OF_BIN = 20


@dataclass(frozen=True)
class _Sample:
    """Labeled rows, ready for fitting; classes are positions among those seen."""

    clusters: NDArray[np.int64]
    classes: NDArray[np.int64]
    z: Floats
    weights: Floats
    n_clusters: int
    prior: LinePrior

    def take(self, rows: NDArray[np.int64]) -> _Sample:
        """Return some of the rows."""
        classes = np.unique(self.classes[rows], return_inverse=True)[1].reshape(-1)
        weights = self.weights[rows] / self.weights[rows].mean()
        return _Sample(
            self.clusters[rows], classes, self.z[rows], weights, self.n_clusters, self.prior
        )

    @property
    def effective(self) -> float:
        """Number of equally weighted rows that would say as much (Kish)."""
        return float(self.weights.sum() ** 2 / np.square(self.weights).sum())


@dataclass(frozen=True)
class _Fit:
    """What the labels gave: lines from z to logit, an isotonic curve, and the match."""

    method: str
    lines: tuple[Floats, ...]
    rising: Curve | None
    rising_share: float
    correct: Floats
    posterior: Floats
    labeled: NDArray[np.int64]

    def __call__(self, z: Floats) -> Floats:
        """Return the confidence at standardized scores `z`."""
        found = np.mean([expit(line[0] + line[1] * z) for line in self.lines], axis=0)
        if self.rising is None:
            return found
        return (1 - self.rising_share) * found + self.rising_share * self.rising(z)


def _fit(sample: _Sample) -> _Fit:
    prior = sample.prior
    if sample.effective < SHIFT_BELOW:
        prior = LinePrior(prior.mean, (prior.sd[0], SURE_SD))
    correct, line, posterior, labeled = posterior_correct(
        sample.clusters,
        sample.classes,
        sample.z,
        sample.n_clusters,
        weights=sample.weights,
        prior=prior,
    )
    counted, telling = left_out_correct(sample.clusters, sample.classes, sample.n_clusters)
    lines = (line, fit_line(sample.z, counted, sample.weights * telling, prior))
    if sample.effective < ISOTONIC_FROM:
        method = "shift" if sample.effective < SHIFT_BELOW else "logistic"
        return _Fit(method, lines, None, 0.0, correct, posterior, labeled)
    share = sample.effective / (sample.effective + ISOTONIC_HALF)
    target = np.where(telling > 0, (correct + counted) / 2, correct)
    rising = isotonic(sample.z, target, sample.weights)
    return _Fit("logistic+isotonic", lines, rising, share, correct, posterior, labeled)


def _soft_ece(confidence: Floats, correct: Floats, weights: Floats) -> float:
    """Return the error over equal-mass bins of about `ROWS_OF_BIN` rows, for soft correctness."""
    n_bins = int(np.clip(len(confidence) // ROWS_OF_BIN, 1, N_BINS))
    total = 0.0
    for rows in np.array_split(np.argsort(confidence, kind="stable"), n_bins):
        total += abs(float((weights[rows] * (confidence[rows] - correct[rows])).sum()))
    return total / float(weights.sum())


def _cross_fitted(sample: _Sample, seed: int) -> Floats:
    """Return each labeled row's confidence from a fit without its fold."""
    m = len(sample.z)
    out = np.empty(m)
    order = np.random.default_rng(seed).permutation(m)
    for held in np.array_split(order, min(FOLDS, m)):
        kept = np.setdiff1d(order, held)
        out[held] = _fit(sample.take(kept))(sample.z[held]) if len(kept) else 0.5
    return out


def _class_names(
    fit: _Fit, clusters: NDArray[np.int64], classes: NDArray[np.int64], names: NDArray[Any]
) -> dict[int, Any]:
    """Name labeled clusters: by the best one-to-one match, the rest by their majority."""
    match = hungarian(fit.posterior)
    found: dict[int, Any] = {}
    plain = names.tolist()  # Python values, whatever the dtype, so that they can go to JSON
    for position, cluster in enumerate(fit.labeled):
        counts = np.bincount(classes[clusters == cluster], minlength=len(plain))
        best = match[position] if match[position] >= 0 and counts[match[position]] else -1
        found[int(cluster)] = plain[best if best >= 0 else int(counts.argmax())]
    return found


def _prior(score: Floats, z: Floats, left: float) -> LinePrior:
    """Return the line that a calibrated score already is; `left` = share of rows unlabeled."""
    logits = logit(np.clip(score, *COUNTED_ENDS))
    slope = float(np.clip(np.mean(z * (logits - logits.mean())), *SLOPE_ENDS))
    scale = 1.0 / np.sqrt(max(left, SURE_SD))
    return LinePrior((float(logits.mean()), slope), (PRIOR_SD[0] * scale, PRIOR_SD[1] * scale))


def _check_rows(rows: ArrayLike, n_rows: int) -> NDArray[np.int64]:
    positions = np.asarray(rows)
    if positions.ndim != 1 or positions.dtype.kind not in "iu" or len(positions) == 0:
        raise ValueError(
            f"rows must be a list of row numbers, got {positions.dtype} of shape {positions.shape}"
        )
    positions = positions.astype(np.int64)
    if positions.min() < 0 or positions.max() >= n_rows:
        raise ValueError(
            f"rows run from {positions.min()} to {positions.max()}, expected 0..{n_rows - 1}"
        )
    if len(np.unique(positions)) < len(positions):
        raise ValueError("a row is given twice: give each labeled row once")
    return positions


def _check_weights(weights: ArrayLike | None, m: int) -> Floats:
    if weights is None:
        return np.ones(m)
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (m,) or not np.isfinite(values).all() or (values <= 0).any():
        raise ValueError(
            f"weights must be {m} positive numbers (1 / the chance that a row was chosen), "
            f"got shape {values.shape}"
        )
    return values / values.mean()


def from_labels(
    proba: ArrayLike,
    rows: ArrayLike,
    y: ArrayLike,
    *,
    n_rows_total: int | None = None,
    weights: ArrayLike | None = None,
    confidence: ArrayLike | None = None,
    base: Calibrator | None = None,
    xs: Any = None,
    is_confidence: bool = False,
    random_state: Any = 0,
) -> Calibrator:
    """Calibrate on a few labeled rows.

    Parameters
    ----------
    proba : (n, k) array-like
        The head's own probabilities of all rows.
    rows : (m,) array-like of int
        Positions of the labeled rows; 25 to 400 are meant.
    y : (m,) array-like
        Their classes, of any kind.
    n_rows_total : int, optional
        Rows that the labeled ones stand for, by default n. The nearer m is to it, the less the
        prior counts.
    weights : (m,) array-like, optional
        Importance of the labeled rows where they were not chosen evenly at random: 1 / the chance
        that a row was chosen (strata by confidence: rows in the stratum / rows chosen from it).
    confidence : (n,) array-like, optional
        Current confidence of all rows, where they have one: its order is kept and its level is
        the prior.
    base : Calibrator, optional
        The calibrator that gives this confidence, so that new rows go through it too.
    xs : array, store or list of arrays, optional
        All rows' embeddings, for `base` where `confidence` is not given.
    is_confidence : bool
        Whether `proba` are of a head that calibrates itself: their level is the prior, too.
    random_state : None, int or generator
        Seed of the folds behind `ece_after`.

    Raises
    ------
    ValueError
        No labeled row, one given twice or out of range, lengths that differ, bad weights.
    """
    values = check_proba(proba)
    n_rows, k = values.shape
    positions = _check_rows(rows, n_rows)
    m = len(positions)
    names, classes = np.unique(check_labels(y, m, name="y"), return_inverse=True)
    own = row_max(values).astype(np.float64)
    score = own
    if confidence is not None:
        score = np.asarray(confidence, dtype=np.float64)
        if score.shape != (n_rows,):
            raise ValueError(f"confidence has shape {score.shape}, expected ({n_rows},)")
    elif base is not None:
        score = base.confidence(values, xs)
    mean, sd = float(score.mean()), max(float(score.std()), 1e-9)
    # Nearer than this is rounding, not another score.
    same = np.allclose(score, own, atol=1e-4)
    calibrated = is_confidence or base is not None or not same
    left = 1.0 - m / max(n_rows_total or n_rows, m)
    prior = _prior(score, (score - mean) / sd, left) if calibrated else LOOSE_PRIOR
    sample = _Sample(
        values[positions].argmax(axis=1),
        classes.reshape(-1).astype(np.int64),
        (score[positions] - mean) / sd,
        _check_weights(weights, m),
        k,
        prior,
    )
    fit = _fit(sample)
    after = fit((score - mean) / sd)
    if calibrated and base is None and not same:
        # New rows bring only their probabilities: the best rising map from those.
        curve = isotonic(own, after, np.ones(n_rows))
    else:
        x = np.unique(np.quantile(score, np.linspace(0, 1, KNOTS)))
        curve = Curve(x, fit((x - mean) / sd))
    held_out = _cross_fitted(sample, seed_of(random_state, "calibration folds"))
    return Calibrator(
        method=fit.method,
        level=float(after.mean()),
        n_labels=m,
        ece_before=_soft_ece(score[positions], fit.correct, sample.weights),
        ece_after=_soft_ece(held_out, fit.correct, sample.weights),
        class_of_cluster=_class_names(fit, sample.clusters, sample.classes, names),
        curves={"score": curve},
        base=base,
    )
