"""`Calibrator`: the map from a head's probabilities to confidence, as a few arrays.

How it is fitted is in `label_free` and `from_labels`; here is what it does afterwards, on the rows
it was fitted on and on new ones alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from fmcluster.functional.calibration import (
    LOGIT_ENDS,
    MAX_LOGIT,
    shift_to_mean,
    with_confidence,
)
from fmcluster.utils.blocks import row_argmax, row_max
from fmcluster.utils.validation import check_proba
from fmcluster.vectors.rows import JointRows, as_spaces, iter_blocks

Floats = NDArray[np.float64]
# Votes and the head's own score err apart: half and half favors neither.
OWN_SHARE = 0.5
# One mini-cluster jumps at its border, many blur what is local.
N_NEAREST = 3
# Curves whose values are confidences; the others give ranks.
CONFIDENCE_CURVES = ("own", "mixed", "score")
# Half a percent of rank each: finer than a confidence is known.
KNOTS = 201


@dataclass(frozen=True)
class Curve:
    """A rising map given by knots; constant beyond its ends."""

    x: Floats
    y: Floats

    def __call__(self, values: ArrayLike) -> Floats:
        """Return the map's values at `values`."""
        return np.interp(np.asarray(values, dtype=np.float64), self.x, self.y)

    @classmethod
    def ranks(cls, values: Floats) -> Curve:
        """Return the map from a value to its rank, 0..1, ties at their middle."""
        ordered = np.sort(values)
        x = np.unique(np.quantile(ordered, np.linspace(0, 1, KNOTS)))
        below = np.searchsorted(ordered, x, "left") + np.searchsorted(ordered, x, "right")
        return cls(x, below / (2 * len(ordered)))


@dataclass(frozen=True)
class MiniClusterVotes:
    """Mini-clusters of the joint space and the share of votes for every label in each."""

    centroids: NDArray[np.float32]
    votes: NDArray[np.float32]

    def vote_share(self, X: Any, labels: NDArray[np.int64]) -> Floats:
        """Return the votes (n,) for each row's label in the regions nearest to it."""
        out = np.empty(len(labels))
        n_near = min(N_NEAREST, len(self.centroids))
        for start, block in iter_blocks(X):
            near = np.argpartition(-(block @ self.centroids.T), n_near - 1, axis=1)[:, :n_near]
            own = labels[start : start + len(block)]
            out[start : start + len(block)] = self.votes[near, own[:, None]].mean(axis=1)
        return out


@dataclass(frozen=True)
class Calibrator:
    """Turns a head's probabilities into confidence; labels never change.

    Attributes
    ----------
    method : str
        ``regions`` (no labels); ``shift``, ``logistic`` or ``logistic+isotonic`` (few labels).
    n_labels : int
        Labeled rows used, 0 without labels.
    level : float
        Mean confidence of the rows that it was fitted on: the estimate of their accuracy.
    ece_before, ece_after : float or None
        Calibration error on the labeled rows, before and after, the latter cross-fitted; None
        without labels. Estimates from few rows: they err upwards.
    class_of_cluster : dict of int to Any
        The class that each cluster with labeled rows is named after.
    """

    method: str
    level: float
    n_labels: int = 0
    ece_before: float | None = None
    ece_after: float | None = None
    class_of_cluster: dict[int, Any] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict, repr=False)
    regions: MiniClusterVotes | None = field(default=None, repr=False)
    base: Calibrator | None = field(default=None, repr=False)

    def confidence(self, proba: ArrayLike, xs: Any = None) -> Floats:
        """Return the confidence (n,) of each row's largest probability, in [1/k, 1].

        Parameters
        ----------
        proba : (n, k) array-like
            The head's own probabilities.
        xs : array, store or list of arrays, optional
            The rows' embeddings, one array a space, as at fitting. Without them the answer rests
            on `proba` alone and ranks rows less well.
        """
        values = check_proba(proba)
        own = row_max(values).astype(np.float64)
        if self.regions is None:
            score = own if self.base is None else self.base.confidence(values, xs)
            found = self.curves["score"](score)
        elif xs is None:
            found = self.curves["own"](own)
        else:
            X = JointRows(as_spaces(xs))
            if X.shape[0] != len(own) or X.shape[1] != self.regions.centroids.shape[1]:
                raise ValueError(
                    f"xs has shape {X.shape}, expected ({len(own)}, "
                    f"{self.regions.centroids.shape[1]}): the rows of proba in the fitted space(s)"
                )
            vote_share = self.regions.vote_share(X, row_argmax(values))
            found = self.curves["mixed"](self.mix(vote_share, own))
        return np.clip(found, 1.0 / values.shape[1], 1.0)

    def mix(self, vote_share: Floats, own: Floats) -> Floats:
        """Blend the ranks of vote_share and of the head's own probability."""
        ranks = self.curves["support_rank"](vote_share), self.curves["own_rank"](own)
        return (1 - OWN_SHARE) * ranks[0] + OWN_SHARE * ranks[1]

    def at_level(self, confidence: Floats, level: float, *, n_labels: int) -> Calibrator:
        """Return a calibrator whose confidence has another mean, moved alike in logits.

        Parameters
        ----------
        confidence : (n,) float64
            What this one says of the rows that the mean is taken over.
        level : float
            That mean, as labels tell it.
        n_labels : int
            How many did.
        """
        z = logit(np.clip(confidence, *LOGIT_ENDS))
        level = float(np.clip(level, *LOGIT_ENDS))
        shift = shift_to_mean(z, level, reach=MAX_LOGIT)
        moved = {
            name: Curve(curve.x, expit(logit(np.clip(curve.y, *LOGIT_ENDS)) + shift))
            if name in CONFIDENCE_CURVES
            else curve
            for name, curve in self.curves.items()
        }
        return replace(self, curves=moved, level=level, n_labels=n_labels)

    def transform(self, proba: ArrayLike, xs: Any = None) -> NDArray[np.float32]:
        """Return probabilities (n, k) whose largest is the confidence, at the same label.

        Rows sum to one. The other columns share the rest in their old proportions, evened out only
        where one of them would overtake the label.
        """
        values = check_proba(proba)
        return with_confidence(values, self.confidence(values, xs))

    def about(self) -> dict[str, Any]:
        """Return what a reader of the result should know, as plain JSON values."""
        return {
            "method": self.method,
            "n_labels": self.n_labels,
            "level": self.level,
            "ece_before": self.ece_before,
            "ece_after": self.ece_after,
            "base": None if self.base is None else self.base.method,
        }

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return (arrays, plain JSON values) from which `from_state` makes the same calibrator."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, curve in self.curves.items():
            arrays[f"curve.{name}"] = np.stack([curve.x, curve.y])
        if self.regions is not None:
            arrays["centroids"], arrays["votes"] = self.regions.centroids, self.regions.votes
        classes = {str(c): name for c, name in self.class_of_cluster.items()}
        config = self.about() | {"class_of_cluster": classes, "base": None}
        if self.base is not None:
            inner, config["base"] = self.base.state()
            arrays |= {f"base.{name}": array for name, array in inner.items()}
        return arrays, config

    @classmethod
    def from_state(
        cls, arrays: Mapping[str, NDArray[Any]], config: Mapping[str, Any]
    ) -> Calibrator:
        """Make a calibrator from what `state` returned."""
        curves = {
            name.removeprefix("curve."): Curve(array[0], array[1])
            for name, array in arrays.items()
            if name.startswith("curve.")
        }
        inner = {n.removeprefix("base."): a for n, a in arrays.items() if n.startswith("base.")}
        return cls(
            method=str(config["method"]),
            level=float(config["level"]),
            n_labels=int(config["n_labels"]),
            ece_before=config["ece_before"],
            ece_after=config["ece_after"],
            class_of_cluster={int(c): name for c, name in config["class_of_cluster"].items()},
            curves=curves,
            regions=MiniClusterVotes(arrays["centroids"], arrays["votes"])
            if "votes" in arrays
            else None,
            base=None if config["base"] is None else cls.from_state(inner, config["base"]),
        )


def isotonic(score: Floats, target: Floats, weights: Floats) -> Curve:
    """Return the best rising map from score to target in least squares."""
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(out_of_bounds="clip").fit(score, target, sample_weight=weights)
    return Curve(
        np.asarray(fitted.X_thresholds_, dtype=np.float64),
        np.asarray(fitted.y_thresholds_, dtype=np.float64),
    )
