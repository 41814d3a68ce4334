"""The random sample that `certify` tests by: drawn once, labeled row by row, no answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fmcluster.app.edits import state_of
from fmcluster.labeling.query import query

if TYPE_CHECKING:
    from fmcluster.result.loop.certify import Certificate
    from fmcluster.result.result import ClusterResult


@dataclass(frozen=True)
class CheckSample:
    """Rows drawn for a certificate.

    Attributes
    ----------
    ids : tuple
        The rows.
    weights : tuple of float
        1 / the chance that each had.
    accuracy : float
        The share that is to be promised.
    clusters : str
        `state_of` the clusters they were drawn for.
    labels : dict
        Class by id, of those that were labeled.
    """

    ids: tuple[Any, ...]
    weights: tuple[float, ...]
    accuracy: float
    clusters: str
    labels: dict[Any, str]

    @classmethod
    def draw(cls, result: ClusterResult, budget: int, accuracy: float) -> CheckSample:
        """Draw `budget` rows by ``query(strategy="certify")``, as many at each press anew."""
        ids, weights = query(
            result, budget, strategy="certify", accuracy=accuracy, return_weights=True
        )
        return cls(
            tuple(ids.tolist()), tuple(weights.tolist()), float(accuracy), state_of(result), {}
        )

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> CheckSample:
        """Make a sample of what `state` returned."""
        return cls(
            tuple(state["ids"]),
            tuple(state["weights"]),
            float(state["accuracy"]),
            str(state["clusters"]),
            {one: label for one, label in state["labels"]},
        )

    def state(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "ids": list(self.ids),
            "weights": list(self.weights),
            "accuracy": self.accuracy,
            "clusters": self.clusters,
            "labels": [[one, label] for one, label in self.labels.items()],
        }

    def with_label(self, one: Any, label: str) -> CheckSample:
        """Return the sample with one more row labeled; a second label replaces the first."""
        if one not in self.ids:
            raise ValueError(f"row {one!r} is not in the sample")
        if not label:
            raise ValueError("the class has no name: give a text")
        return dataclasses.replace(self, labels={**self.labels, one: label})

    @property
    def left(self) -> list[Any]:
        """Ids of rows that are still to be labeled."""
        return [one for one in self.ids if one not in self.labels]

    # As `ClusterResult.certify`: one promise in twenty may be false.
    def certify(self, result: ClusterResult, *, delta: float = 0.05) -> Certificate:
        """Return the certificate.

        Raises
        ------
        ValueError
            Rows are not labeled yet, or the sample was drawn for other clusters.
        """
        if self.left:
            raise ValueError(f"{len(self.left)} rows of the sample have no class yet: label all")
        if self.clusters != state_of(result):
            raise ValueError("the clusters have changed since the sample was drawn: draw again")
        return result.certify(
            list(self.ids),
            np.array([self.labels[one] for one in self.ids], dtype=object),
            accuracy=self.accuracy,
            delta=delta,
            weights=list(self.weights),
        )
