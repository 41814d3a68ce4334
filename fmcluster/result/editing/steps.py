"""The steps that a person's edits are; what they have in common is in `chain`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.calibration import Calibrator, without_evidence
from fmcluster.heads.base import ClusterHead
from fmcluster.result.editing.chain import Clustering, Edit, Names, Prior, RowsOf, full_names
from fmcluster.result.editing.columns import (
    Labels,
    Proba,
    drop_column,
    merge_columns,
    merged_numbers,
    numbers_without,
    split_columns,
    without_column,
)
from fmcluster.utils.blocks import copied
from fmcluster.vectors.rows import as_spaces, one_or_list


@dataclass(frozen=True)
class Merge(Edit):
    """Groups of clusters become one each; names as given or found, None where nothing is named.

    `found` says that nobody gave the names: they are of terms.
    """

    op = "merge"
    groups: tuple[tuple[int, ...], ...] = ()
    names: tuple[str | None, ...] = ()
    found: bool = False

    def fits(self, n_clusters: int) -> bool:
        flat = [c for group in self.groups for c in group]
        known = all(0 <= c < n_clusters for c in flat) and len(set(flat)) == len(flat)
        return known and all(self.groups) and len(self.names) == len(self.groups)

    def numbers(self, n_clusters: int) -> Labels:
        return merged_numbers(n_clusters, self.groups)

    def columns(self, proba: Proba, labels: Labels, parts: Any) -> tuple[Proba, Labels]:
        return merge_columns(proba, labels, self.numbers(proba.shape[1]))

    def named(self, names: Names, n_clusters: int) -> Names:
        if names is None and all(name is None for name in self.names):
            return None
        out = list(super().named(full_names(names, n_clusters), n_clusters) or ())
        numbers = self.numbers(n_clusters)
        for group, name in zip(self.groups, self.names, strict=True):
            place = int(numbers[group[0]])
            out[place] = f"cluster {place}" if name is None else name
        return tuple(out)

    def shares(self, prior: Prior) -> Prior:
        return np.bincount(self.numbers(len(prior)), weights=prior).astype(np.float64)

    def log(self) -> dict[str, Any]:
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

    def fits(self, n_clusters: int) -> bool:
        parts = 0 if self.head is None else self.head.n_clusters_
        return 0 <= self.cluster < n_clusters and sorted(self.order) == list(range(parts))

    def count(self, n_clusters: int) -> int:
        return n_clusters + len(self.order) - 1

    def parts(self, xs: Any) -> NDArray[np.float32]:
        """Return the probabilities (m, p) of the parts; even where nothing is known of a row."""
        assert self.head is not None
        spaces = as_spaces(xs)
        q = self.head.predict_proba(one_or_list(spaces))[:, list(self.order)]
        return without_evidence(np.ascontiguousarray(q), spaces)

    def columns(self, proba: Proba, labels: Labels, parts: Any) -> tuple[Proba, Labels]:
        return split_columns(proba, labels, self.cluster, parts)

    def named(self, names: Names, n_clusters: int) -> Names:
        if names is None and self.names is None:
            return None
        found = full_names(names, n_clusters)
        new = self.names or _part_names(found, self.cluster, len(self.order))
        return (*found[: self.cluster], new[0], *found[self.cluster + 1 :], *new[1:])

    def shares(self, prior: Prior) -> Prior:
        parts = prior[self.cluster] * np.asarray(self.part_shares)
        out = np.concatenate([prior, parts[1:]])
        out[self.cluster] = parts[0]
        return out

    def log(self) -> dict[str, Any]:
        return {"op": self.op, "cluster": self.cluster, "into": len(self.order)}


@dataclass(frozen=True)
class Dissolve(Edit):
    """One cluster goes; `spill` is where rows go that had no other choice (new numbers)."""

    op = "dissolve"
    cluster: int = 0
    spill: tuple[float, ...] = (1.0,)

    def fits(self, n_clusters: int) -> bool:
        return 0 <= self.cluster < n_clusters and len(self.spill) == n_clusters - 1 > 0

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
        return numbers_without(n_clusters, self.cluster)

    def columns(self, proba: Proba, labels: Labels, parts: Any) -> tuple[Proba, Labels]:
        return drop_column(proba, labels, self.cluster, np.asarray(self.spill))

    def shares(self, prior: Prior) -> Prior:
        numbers = self.numbers(len(prior))
        kept = numbers >= 0
        out = prior[self.cluster] * np.asarray(self.spill)
        out[numbers[kept]] += prior[kept]
        return out

    def log(self) -> dict[str, Any]:
        return {"op": self.op, "cluster": self.cluster}


@dataclass(frozen=True)
class Rename(Edit):
    """Clusters get names; `found` says that nobody gave them: they are of terms or by a namer."""

    op = "rename"
    names: tuple[tuple[int, str], ...] = ()
    found: bool = False

    def named(self, names: Names, n_clusters: int) -> Names:
        out = list(full_names(names, n_clusters))
        for cluster, name in self.names:
            out[cluster] = name
        return tuple(out)

    def log(self) -> dict[str, Any]:
        return {"op": self.op, "names": {str(cluster): name for cluster, name in self.names}}


def put(state: Clustering, rows: Labels, clusters: Labels) -> Clustering:
    """Return the clustering with rows (m,) in the clusters (m,) that a person says, for certain."""
    certain = np.zeros((len(rows), state.proba.shape[1]), np.float32)
    certain[np.arange(len(rows)), clusters] = 1
    gain = certain.sum(axis=0, dtype=np.float64) - state.proba[rows].sum(axis=0, dtype=float)
    # Half a row: shares stay positive.
    n = len(state.labels)
    prior = np.maximum(state.cluster_prior + gain / n, 0.5 / n)
    changed = {name: getattr(state, name).copy() for name in ("labels", "confidence", "score")}
    proba = copied(state.proba)
    proba[rows], changed["labels"][rows] = certain, clusters
    changed["confidence"][rows] = changed["score"][rows] = 1
    return dataclasses.replace(state, proba=proba, cluster_prior=prior / prior.sum(), **changed)


@dataclass(frozen=True)
class Move(Edit):
    """Rows of the result are put where a person says; new rows are not concerned."""

    op = "move"
    ids: tuple[Any, ...] = ()
    cluster: int = 0

    def on_rows(self, state: Clustering, parts: Any, rows_of: RowsOf) -> Clustering:
        rows = rows_of(np.asarray(self.ids))
        return put(state, rows, np.full(len(rows), self.cluster))

    def log(self) -> dict[str, Any]:
        return {"op": self.op, "ids": list(self.ids), "cluster": self.cluster}

    def without_rows(self) -> Edit | None:
        return None


@dataclass(frozen=True)
class Recalibrate(Edit):
    """Confidence calibrated after earlier edits, on labels or without.

    Attributes
    ----------
    calibrator : Calibrator
        Reads the probabilities alone.
    names : tuple of str
        Names after the classes; none, and the clusters keep theirs.
    given : dict
        The ids, labels and weights that it was fitted on, as plain JSON values; ids None without.
    before : dict or None
        What ``provenance["calibration"]`` said before.
    certain : tuple of ids
        Rows that a person had put where they are: their certainty is not to be doubted.
    """

    op = "calibrate"
    calibrator: Calibrator | None = field(default=None, compare=False)
    names: tuple[str, ...] = ()
    given: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Any] | None = None
    certain: tuple[Any, ...] = ()

    def columns(self, proba: Proba, labels: Labels, parts: Any) -> tuple[Proba, Labels]:
        assert self.calibrator is not None
        return self.calibrator.transform(proba), labels

    def on_rows(self, state: Clustering, parts: Any, rows_of: RowsOf) -> Clustering:
        """As of `Edit`; the score stays what the head said."""
        after = super().on_rows(state, parts, rows_of)
        if self.certain:
            rows = rows_of(np.asarray(self.certain))
            after.proba[rows] = 0
            after.proba[rows, after.labels[rows]] = after.confidence[rows] = 1
        return dataclasses.replace(after, score=state.score)

    def named(self, names: Names, n_clusters: int) -> Names:
        return self.names or names

    def log(self) -> dict[str, Any]:
        return {"op": self.op, **self.given}

    def without_rows(self) -> Edit | None:
        return dataclasses.replace(self, given={}, certain=())


STEPS: dict[str, type[Edit]] = {
    each.op: each for each in (Merge, Split, Dissolve, Rename, Move, Recalibrate)
}


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
