"""Confidence: calibrators fitted without labels or from a few."""

from fmcluster.calibration.calibrator import Calibrator
from fmcluster.calibration.fit import CalibratedFit, fit_calibrated, without_evidence
from fmcluster.calibration.from_labels import from_labels
from fmcluster.calibration.label_free import label_free
from fmcluster.functional.calibration import with_confidence

__all__ = [
    "CalibratedFit",
    "Calibrator",
    "fit_calibrated",
    "from_labels",
    "label_free",
    "with_confidence",
    "without_evidence",
]
