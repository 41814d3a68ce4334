"""What a result's edits have in common: steps that change rows, names and shares of clusters.

The steps themselves are in `steps`, new clusters in `loop.grow`. A pipeline keeps its steps in
order and repeats them on new rows after head and calibrator (`repeat`); a result keeps what it was
before the first (`Unedited`) and repeats them on its own rows when the last is taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.result.editing.columns import Labels, Proba
from fmcluster.utils.blocks import row_blocks, stacked

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

    def fits(self, n_clusters: int) -> bool:
        """Return whether the step can be made on so many clusters: files may say anything."""
        return True

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
                out[new] = moved_name(names[old], old, int(new))
        return tuple(out)

    def shares(self, prior: Prior) -> Prior:
        """Return the cluster shares after the step."""
        return prior

    def on_rows(
        self, state: Clustering, parts: NDArray[np.float32] | None, rows_of: RowsOf
    ) -> Clustering:
        """Return the rows of a result after the step."""
        labels = state.labels.copy()

        def blocks() -> Iterator[Proba]:
            for rows in row_blocks(state.proba):
                some = None if parts is None else parts[rows]
                proba, labels[rows] = self.columns(state.proba[rows], state.labels[rows], some)
                nowhere = labels[rows] < 0
                if nowhere.any():  # in no cluster: as likely in one as in another
                    proba = np.where(nowhere[:, None], np.float32(1 / proba.shape[1]), proba)
                yield proba

        # Names alone change no column: nothing is made anew.
        renamed = type(self).columns is Edit.columns
        proba = state.proba if renamed else stacked(blocks(), len(labels))
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


def moved_name(name: str, old: int, new: int) -> str:
    """Return the name after a change of number: one made of the number follows it."""
    return f"cluster {new}" if name == f"cluster {old}" else name


def _certainty(state: Clustering, proba: Proba, labels: Labels) -> dict[str, NDArray[np.float32]]:
    """Return confidence and score of the rows after a change of probabilities.

    The score, the head's own probability before calibration, is kept for the label alone: it moves
    by the same part of what there is to win or to lose as the confidence did.
    """
    here = np.flatnonzero(labels >= 0)
    confidence = np.full(len(labels), 1 / proba.shape[1], np.float32)
    score = np.where(labels >= 0, state.score, confidence)
    old, new = state.confidence[here].astype(float), proba[here, labels[here]].astype(float)
    own = score[here].astype(np.float64)
    won = 1 - (1 - own) * (1 - new) / np.maximum(1 - old, 1e-12)
    moved = np.where(new > old, won, own * new / np.maximum(old, 1e-12))
    score[here] = np.where(new == old, own, np.clip(moved, 0, 1))
    confidence[here] = new
    return {"confidence": confidence, "score": score}
