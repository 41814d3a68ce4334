"""Confidence: calibrators fitted without labels or from a few."""

from fmcluster.calibration.calibrator import Calibrator, with_confidence
from fmcluster.calibration.from_labels import from_labels, identity
from fmcluster.calibration.label_free import label_free

__all__ = ["Calibrator", "from_labels", "identity", "label_free", "with_confidence"]
