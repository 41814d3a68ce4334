r"""How many rows are right, and how many can be used as they are: estimates with their ranges.

Confidence ranks rows better than it knows its own level: each of its logits may be off by one and
the same :math:`d \sim N(0, s^2)`, where

.. math:: s^{-2} = s_0^{-2} + m \, p (1 - p)

with :math:`s_0` the error of the level without labels, m labels that it was calibrated on and p the
mean confidence. Both figures are means over d, so that they move by degrees where the confidence of
many rows passes the threshold at once, and their ranges hold nine of ten d. Answers that clusters
were made with are asked where they help the clusters and not where they tell the level: they narrow
no range, and of few of them the estimate without any keeps its part.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, ndtri

from fmcluster.functional.calibration import LOGIT_ENDS

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# What "can be used as they are" means: so many of those rows are right.
PROMISED = 0.95
# Error of the level in logits without labels: a confidence of 0.88 may be one of 0.78 or of 0.94.
LEVEL_ERROR = 0.75
# Ways to calibrate that labels tell the level of (`Calibrator.method`).
FROM_LABELS = ("shift", "logistic")
# Answers that weigh as much as the estimate without any.
AS_GOOD = 25
# Levels that are looked at, each as likely: the first and the last are the range's ends.
SHIFTS = ndtri((np.arange(10) + 0.5) / 10)
# Rows that stand for all: the share is known to a thousandth.
MOST_VALUES = 2_000


@dataclass(frozen=True)
class Estimate:
    """A share of rows with its range."""

    value: float
    low: float
    high: float

    def mixed(self, other: Estimate, share: float) -> Estimate:
        """Return this one, and of `other` the share."""
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return Estimate(*((1 - share) * mine + share * its for mine, its in pairs))


@dataclass(frozen=True)
class Expected:
    """What confidence says of all rows.

    Attributes
    ----------
    accuracy : Estimate
        Share of the rows that are right.
    usable : Estimate
        Share of the rows, the most confident ones, that are right to `PROMISED` together.
    """

    accuracy: Estimate
    usable: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return asdict(self)

    @classmethod
    def of(cls, told: Any) -> Expected | None:
        """Return what `to_dict` made; None of anything else."""
        try:
            return cls(Estimate(**told["accuracy"]), Estimate(**told["usable"]))
        except (TypeError, KeyError):
            return None


def expected(result: ClusterResult) -> Expected:
    """Return the estimates of a result by its confidence, be it calibrated or not."""
    about = result.provenance.get("calibration") or {}
    if str(about.get("method")).startswith(FROM_LABELS):
        return by_confidence(result.confidence, int(about.get("n_labels") or 0))
    found, answers = by_confidence(result.confidence), len(result.answers)
    before = Expected.of(result.provenance.get("expected_before_answers"))
    if before is None or not answers:
        return found
    share = AS_GOOD / (AS_GOOD + answers)
    return Expected(
        found.accuracy.mixed(before.accuracy, share), found.usable.mixed(before.usable, share)
    )


def by_confidence(confidence: ArrayLike, n_labels: int = 0) -> Expected:
    """Return the estimates that confidence gives alone.

    Parameters
    ----------
    confidence : (n,) array-like
    n_labels : int
        Labels that told its level.
    """
    values = np.sort(np.asarray(confidence, np.float64))[::-1]
    if len(values) > MOST_VALUES:
        values = values[np.linspace(0, len(values) - 1, MOST_VALUES).round().astype(int)]
    mean = float(values.mean())
    error = 1 / np.sqrt(LEVEL_ERROR**-2 + n_labels * mean * (1 - mean))
    shifted = expit(logit(np.clip(values, *LOGIT_ENDS)) + error * SHIFTS[:, None])
    sure = np.where(values < LOGIT_ENDS[1], shifted, values)  # answers are certain
    accuracy = sure.mean(axis=1)
    running = np.cumsum(sure, axis=1) / np.arange(1, len(values) + 1)
    usable = (running >= PROMISED).mean(axis=1)
    return Expected(_estimate(accuracy), _estimate(usable))


def _estimate(values: NDArray[np.float64]) -> Estimate:
    """Return the mean and the ends of values that rise."""
    return Estimate(float(values.mean()), float(values[0]), float(values[-1]))
