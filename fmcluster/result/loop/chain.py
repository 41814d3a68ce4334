"""The steps that a result's edits are: what each does to rows, names and shares of clusters.

A pipeline keeps its steps in order and repeats them on new rows after head and calibrator
(`repeat`); a result keeps what it was before the first (`Unedited`) and repeats them on its own
rows when the last is taken back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.calibration import Calibrator, without_evidence
from fmcluster.heads.base import ClusterHead
from fmcluster.result.loop.columns import (
    Labels,
    Proba,
    drop_column,
    merge_columns,
    merged_numbers,
    numbers_without,
    split_columns,
    without_column,
)
from fmcluster.vectors.rows import as_spaces, one_or_list

Names = tuple[str, ...] | None
Prior = NDArray[np.float64]
RowsOf = Callable[[ArrayLike], NDArray[np.int64]]


@dataclass(frozen=True)
class Clustering:
    """What an edit changes of a result; fields as of `ClusterResult`."""

    labels: Labels
    proba: Proba
    confidence: NDArray[np.float32]
    score: NDArray[np.float32]
    cluster_prior: Prior
    names: Names = None


@dataclass(frozen=True)
class Unedited:
    """A result before its edits, and what repeating them on its rows takes.

    Attributes
    ----------
    rows : Clustering
        Before the first edit.
    parts : tuple of (n, p) float32 or None, one an edit
        Probabilities of the parts of a split, for the rows of the result; None for other edits.
    """

    rows: Clustering
    parts: tuple[NDArray[np.float32] | None, ...] = ()


@dataclass(frozen=True)
class Edit:
    """One step; the attributes of each are its arguments, resolved when it was made."""

    op: ClassVar[str] = ""

    def numbers(self, n_clusters: int) -> Labels:
        """Return the new number (k,) of each cluster, -1 for one that goes."""
        return np.arange(n_clusters)

    def count(self, n_clusters: int) -> int:
        """Return the number of clusters after the step."""
        return int(self.numbers(n_clusters).max()) + 1

    def parts(self, xs: Any) -> NDArray[np.float32] | None:
        """Return what the step must know of the rows' embeddings; None where it needs none."""
        return None

    def columns(
        self, proba: Proba, labels: Labels, parts: NDArray[np.float32] | None
    ) -> tuple[Proba, Labels]:
        """Return probabilities and labels after the step, for any rows."""
        return proba, labels

    def named(self, names: Names, n_clusters: int) -> Names:
        """Return the names after the step."""
        numbers = self.numbers(n_clusters)
        if names is None:
            return None
        out = [""] * self.count(n_clusters)
        for old, new in enumerate(numbers):
            if new >= 0:
                out[new] = _moved_name(names[old], old, int(new))
        return tuple(out)

    def shares(self, prior: Prior) -> Prior:
        """Return the cluster shares after the step."""
        return prior

    def on_rows(
        self, state: Clustering, parts: NDArray[np.float32] | None, rows_of: RowsOf
    ) -> Clustering:
        """Return the rows of a result after the step."""
        proba, labels = self.columns(state.proba, state.labels, parts)
        return Clustering(
            labels=labels,
            proba=proba,
            **_certainty(state, proba, labels),
            cluster_prior=self.shares(state.cluster_prior),
            names=self.named(state.names, state.proba.shape[1]),
        )

    def log(self) -> dict[str, Any]:
        """Return the operation and its arguments as plain JSON values."""
        return {"op": self.op}

    def without_rows(self) -> Edit | None:
        """Return the step for those who are not to know rows of the result, None if it is moot."""
        return self


@dataclass(frozen=True)
class Merge(Edit):
    """Groups of clusters become one each; names as given or found, None where nothing is named."""

    op = "merge"
    groups: tuple[tuple[int, ...], ...] = ()
    names: tuple[str | None, ...] = ()

    def numbers(self, n_clusters: int) -> Labels:
        """As of `Edit`."""
        return merged_numbers(n_clusters, self.groups)

    def columns(self, proba: Proba, labels: Labels, parts: Any) -> tuple[Proba, Labels]:
        """As of `Edit`."""
        return merge_columns(proba, labels, self.numbers(proba.shape[1]))

    def named(self, names: Names, n_clusters: int) -> Names:
        """As of `Edit`."""
        if names is None and all(name is None for name in self.names):
            return None
        out = list(super().named(full_names(names, n_clusters), n_clusters) or ())
        numbers = self.numbers(n_clusters)
        for group, name in zip(self.groups, self.names, strict=True):
            place = int(numbers[group[0]])
            out[place] = f"cluster {place}" if name is None else name
        return tuple(out)

    def shares(self, prior: Prior) -> Prior:
        """As of `Edit`."""
        return np.bincount(self.numbers(len(prior)), weights=prior).astype(np.float64)

    def log(self) -> dict[str, Any]:
        """As of `Edit`."""
        groups, names = [list(group) for group in self.groups], list(self.names)
        if len(groups) == 1:
            return {"op": self.op, "clusters": groups[0], "name": names[0]}
        return {"op": self.op, "clusters": groups, "name": names}


@dataclass(frozen=True)
class Split(Edit):
    """One cluster becomes several by a head that was fitted on its rows.

    Attributes
    ----------
    cluster : int
        Its largest part keeps the number.
    order : tuple of int
        The head's cluster that each part is, largest first.
    head : ClusterHead
        Gives the probabilities of the parts.
    part_shares : (p,) tuple of float
        Estimated share of each part in the cluster.
    names : tuple of str, optional
        Names of the parts.
    """

    op = "split"
    cluster: int = 0
    order: tuple[int, ...] = (0,)
    head: ClusterHead | None = field(default=None, compare=False)
    part_shares: tuple[float, ...] = (1.0,)
    names: tuple[str, ...] | None = None

    def count(self, n_clusters: int) -> int:
        """As of `Edit`."""
        return n_clusters + len(self.order) - 1

    def parts(self, xs: Any) -> NDArray[np.float32]:
        """Return the probabilities (m, p) of the parts; even where nothing is known of a row."""
        assert self.head is not None
        spaces = as_spaces(xs)
        q = self.head.predict_proba(one_or_list(spaces))[:, list(self.order)]
        return without_evidence(np.ascontiguousarray(q), spaces)

    def columns(self, proba: Proba, labels: Labels, parts: Any) -> tuple[Proba, Labels]:
        """As of `Edit`."""
        return split_columns(proba, labels, self.cluster, parts)

    def named(self, names: Names, n_clusters: int) -> Names:
        """As of `Edit`."""
        if names is None and self.names is None:
            return None
        found = full_names(names, n_clusters)
        new = self.names or _part_names(found, self.cluster, len(self.order))
        return (*found[: self.cluster], new[0], *found[self.cluster + 1 :], *new[1:])

    def shares(self, prior: Prior) -> Prior:
        """As of `Edit`."""
        parts = prior[self.cluster] * np.asarray(self.part_shares)
        out = np.concatenate([prior, parts[1:]])
        out[self.cluster] = parts[0]
        return out

    def log(self) -> dict[str, Any]:
        """As of `Edit`."""
        return {"op": self.op, "cluster": self.cluster, "into": len(self.order)}


@dataclass(frozen=True)
class Dissolve(Edit):
    """One cluster goes; `spill` is where rows go that had no other choice (new numbers)."""

    op = "dissolve"
    cluster: int = 0
    spill: tuple[float, ...] = (1.0,)

    @classmethod
    def of(cls, cluster: int, state: Clustering) -> Dissolve:
        """Make the step; rows without a choice go where the cluster's rows go on the whole."""
        numbers = numbers_without(state.proba.shape[1], cluster)
        spill = without_column(state.proba[state.labels == cluster], numbers).sum(axis=0)
        if spill.sum() <= 0:
            spill = without_column(state.cluster_prior[None].astype(np.float32), numbers)[0]
        spill = spill.astype(np.float64)
        return cls(cluster, tuple((spill / spill.sum()).tolist()))

    def numbers(self, n_clusters: int) -> Labels:
        """As of `Edit`."""
        return numbers_without(n_clusters, self.cluster)

    def columns(self, proba: Proba, labels: Labels, parts: Any) -> tuple[Proba, Labels]:
        """As of `Edit`."""
        return drop_column(proba, labels, self.cluster, np.asarray(self.spill))

    def shares(self, prior: Prior) -> Prior:
        """As of `Edit`."""
        numbers = self.numbers(len(prior))
        kept = numbers >= 0
        out = prior[self.cluster] * np.asarray(self.spill)
        out[numbers[kept]] += prior[kept]
        return out

    def log(self) -> dict[str, Any]:
        """As of `Edit`."""
        return {"op": self.op, "cluster": self.cluster}


@dataclass(frozen=True)
class Rename(Edit):
    """Clusters get names."""

    op = "rename"
    names: tuple[tuple[int, str], ...] = ()

    def named(self, names: Names, n_clusters: int) -> Names:
        """As of `Edit`."""
        out = list(full_names(names, n_clusters))
        for cluster, name in self.names:
            out[cluster] = name
        return tuple(out)

    def log(self) -> dict[str, Any]:
        """As of `Edit`."""
        return {"op": self.op, "names": {str(cluster): name for cluster, name in self.names}}


@dataclass(frozen=True)
class Move(Edit):
    """Rows of the result are put where a person says; new rows are not concerned."""

    op = "move"
    ids: tuple[Any, ...] = ()
    cluster: int = 0

    def on_rows(self, state: Clustering, parts: Any, rows_of: RowsOf) -> Clustering:
        """As of `Edit`."""
        rows = rows_of(np.asarray(self.ids))
        certain = np.zeros((len(rows), state.proba.shape[1]), np.float32)
        certain[:, self.cluster] = 1
        gain = certain.sum(axis=0, dtype=np.float64) - state.proba[rows].sum(axis=0, dtype=float)
        # Half a row: shares stay positive.
        n = len(state.labels)
        prior = np.maximum(state.cluster_prior + gain / n, 0.5 / n)
        changed = {name: getattr(state, name).copy() for name in ("labels", "confidence", "score")}
        proba = state.proba.copy()
        proba[rows], changed["labels"][rows] = certain, self.cluster
        changed["confidence"][rows] = changed["score"][rows] = 1
        return dataclasses.replace(state, proba=proba, cluster_prior=prior / prior.sum(), **changed)

    def log(self) -> dict[str, Any]:
        """As of `Edit`."""
        return {"op": self.op, "ids": list(self.ids), "cluster": self.cluster}

    def without_rows(self) -> Edit | None:
        """As of `Edit`."""
        return None


@dataclass(frozen=True)
class Recalibrate(Edit):
    """Confidence calibrated on labels after earlier edits.

    Attributes
    ----------
    calibrator : Calibrator
        Reads the probabilities alone.
    names : tuple of str
        Names after the classes.
    given : dict
        The ids, labels and weights that it was fitted on, as plain JSON values.
    before : dict or None
        What ``provenance["calibration"]`` said before.
    """

    op = "calibrate"
    calibrator: Calibrator | None = field(default=None, compare=False)
    names: tuple[str, ...] = ()
    given: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Any] | None = None

    def columns(self, proba: Proba, labels: Labels, parts: Any) -> tuple[Proba, Labels]:
        """As of `Edit`."""
        assert self.calibrator is not None
        return self.calibrator.transform(proba), labels

    def on_rows(self, state: Clustering, parts: Any, rows_of: RowsOf) -> Clustering:
        """As of `Edit`; the score stays what the head said."""
        return dataclasses.replace(super().on_rows(state, parts, rows_of), score=state.score)

    def named(self, names: Names, n_clusters: int) -> Names:
        """As of `Edit`."""
        return self.names

    def log(self) -> dict[str, Any]:
        """As of `Edit`."""
        return {"op": self.op, **self.given}

    def without_rows(self) -> Edit | None:
        """As of `Edit`."""
        return dataclasses.replace(self, given={})


STEPS: dict[str, type[Edit]] = {
    each.op: each for each in (Merge, Split, Dissolve, Rename, Move, Recalibrate)
}


def repeat(edits: Sequence[Edit], proba: Proba, xs: Any) -> Proba:
    """Return probabilities (m, k') of new rows after all edits.

    Parameters
    ----------
    edits : sequence of Edit
        In the order they were made.
    proba : (m, k) float32
        Calibrated probabilities before the edits.
    xs : list of (m, d) arrays
        Prepared embeddings, one array a space.
    """
    labels = proba.argmax(axis=1)
    for edit in edits:
        proba, labels = edit.columns(proba, labels, edit.parts(xs))
    return proba


def count_after(edits: Sequence[Edit], n_clusters: int) -> int:
    """Return the number of clusters after all edits of `n_clusters`."""
    for edit in edits:
        n_clusters = edit.count(n_clusters)
    return n_clusters


def full_names(names: Names, n_clusters: int) -> tuple[str, ...]:
    """Return the names, or those that clusters have by their numbers."""
    return names or tuple(f"cluster {number}" for number in range(n_clusters))


def _moved_name(name: str, old: int, new: int) -> str:
    """Return the name after a change of number: one made of the number follows it."""
    return f"cluster {new}" if name == f"cluster {old}" else name


def _part_names(names: tuple[str, ...], cluster: int, n_parts: int) -> tuple[str, ...]:
    """Return "name / 1", "name / 2" ...; numbers that are not taken, or numbers alone."""
    if names[cluster] == f"cluster {cluster}":
        later = range(len(names), len(names) + n_parts - 1)
        return (names[cluster], *(f"cluster {number}" for number in later))
    taken, number = set(names), 0
    out: list[str] = []
    while len(out) < n_parts:
        number += 1
        name = f"{names[cluster]} / {number}"
        if name not in taken:
            out.append(name)
    return tuple(out)


def _certainty(state: Clustering, proba: Proba, labels: Labels) -> dict[str, NDArray[np.float32]]:
    """Return confidence and score of the rows after a change of probabilities.

    The score, the head's own probability before calibration, is kept for the label alone: it moves
    by the same part of what there is to win or to lose as the confidence did.
    """
    here = np.flatnonzero(labels >= 0)
    confidence, score = state.confidence.copy(), state.score.copy()
    old, new = confidence[here].astype(np.float64), proba[here, labels[here]].astype(np.float64)
    own = score[here].astype(np.float64)
    won = 1 - (1 - own) * (1 - new) / np.maximum(1 - old, 1e-12)
    moved = np.where(new > old, won, own * new / np.maximum(old, 1e-12))
    score[here] = np.where(new == old, own, np.clip(moved, 0, 1))
    confidence[here] = new
    return {"confidence": confidence, "score": score}
