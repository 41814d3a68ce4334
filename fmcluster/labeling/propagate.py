"""`propagate`: a few labels to every row, with calibrated probabilities and names for clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.functional.calibration import apply_temperature, temperature_for_mean
from fmcluster.labeling.inputs import LabelingInput
from fmcluster.partition.mini_clusters import group_sums
from fmcluster.partition.spread_rows import (
    N_NEIGHBORS,
    Centered,
    believable,
    spread_with_accuracy,
)
from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import check_labels

if TYPE_CHECKING:
    import pandas as pd

# Rows that the mean is taken of; its error is a hundredth of a row's spread.
SAMPLE_ROWS = 20_000


@dataclass(frozen=True)
class Propagated:
    """Labels for all rows.

    Attributes
    ----------
    ids : (n,) array
        Row ids.
    label : (n,) array
        Most probable label; the given one where one was given.
    proba : (n, c) float32
        Calibrated probability of each of `classes`; rows sum to one.
    classes : (c,) array
        Labels that were given, sorted.
    cluster_names : dict of int to label
        The class that weighs most in each cluster; empty without a clustering.
    expected_accuracy : float
        What `proba` was calibrated to: the estimated accuracy on rows without a label; rows of
        classes that no label has met count as wrong.
    accuracy_interval : (low, high)
        Where that accuracy lies in nine of ten cases.
    unseen_mass : float
        Estimated share of rows whose class no label has met.
    """

    ids: NDArray[Any]
    label: NDArray[Any]
    proba: NDArray[np.float32]
    classes: NDArray[Any]
    cluster_names: dict[int, Any]
    expected_accuracy: float
    accuracy_interval: tuple[float, float] = (0.0, 1.0)
    unseen_mass: float = 0.0

    @property
    def labels(self) -> NDArray[Any]:
        """The same as `label`."""
        return self.label

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Probability (n,) of each row's label."""
        return self.proba.max(axis=1)

    def table(self) -> pd.DataFrame:
        """Return columns id, label, confidence."""
        import pandas as pd

        columns = {"id": self.ids, "label": self.label, "confidence": self.confidence}
        return pd.DataFrame(columns)


def propagate(
    result: Any, ids: ArrayLike, labels: ArrayLike, *, random_state: int = 0
) -> Propagated:
    """Give every row a label from the labels of a few.

    Parameters
    ----------
    result : ClusterResult, EmbeddingStore or (n, d) array
        The rows; a result's own neighbor graph is used where it has one.
    ids : (l,) array-like
        Ids of the labeled rows.
    labels : (l,) array-like
        Their labels, of any type.
    random_state : int
        Seed of the neighbor index, where one must be built.

    Raises
    ------
    ValueError
        Unknown or repeated ids, labels of another length, fewer than two classes.
    """
    inputs = LabelingInput.of(result)
    rows = inputs.find(ids)
    given = check_labels(labels, len(rows))
    classes, target = np.unique(given, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"labels hold {len(classes)} class(es), {classes.tolist()}: label rows of at least two"
        )
    x = Centered(inputs.rows)
    near = inputs.neighbors(N_NEIGHBORS, random_state=random_state)
    seed = seed_of(random_state, "propagate", "accuracy")
    proba, honest = spread_with_accuracy(x, near, rows, target, len(classes), seed=seed)
    accuracy = believable(honest.accuracy, len(classes))
    free = np.ones(len(proba), bool)
    free[rows] = False
    if free.any():
        sample = np.flatnonzero(free)[:: max(1, int(free.sum()) // SAMPLE_ROWS)]
        temperature = temperature_for_mean(proba[sample], accuracy)
        proba = apply_temperature(proba, temperature).astype(np.float32)
    proba[rows] = np.eye(len(classes), dtype=np.float32)[target]
    names = _name_clusters(inputs.labels, proba, classes)
    label = classes[proba.argmax(axis=1)]
    low, high = honest.interval
    return Propagated(
        inputs.ids,
        label,
        proba,
        classes,
        names,
        accuracy,
        (min(low, accuracy), max(high, accuracy)),
        honest.unseen_mass,
    )


def _name_clusters(
    clusters: NDArray[np.int64] | None, proba: NDArray[Any], classes: NDArray[Any]
) -> dict[int, Any]:
    if clusters is None:
        return {}
    mass = group_sums(proba, clusters, int(clusters.max()) + 1)
    return dict(enumerate(classes[mass.argmax(axis=1)].tolist()))
