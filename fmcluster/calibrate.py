"""The former name of `fmcluster.calibration`."""

from fmcluster.calibration.calibrator import Calibrator
from fmcluster.calibration.from_labels import from_labels
from fmcluster.calibration.label_free import label_free
from fmcluster.functional.calibration import with_confidence

__all__ = ["Calibrator", "from_labels", "label_free", "with_confidence"]
