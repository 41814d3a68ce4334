"""The former name of what finds wrong labels and outliers in `fmcluster.labeling`."""

from fmcluster.labeling.duplicates import find_near_duplicates, find_outliers
from fmcluster.labeling.issues import find_label_issues
from fmcluster.labeling.robust import RobustClassifier, fit_robust

__all__ = [
    "RobustClassifier",
    "find_label_issues",
    "find_near_duplicates",
    "find_outliers",
    "fit_robust",
]
