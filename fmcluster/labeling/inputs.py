"""What is asked about: a `ClusterResult`, a store or an array, seen through one set of attributes.

`query`, `propagate` and `find_label_issues` all take "a result or embeddings": `LabelingInput.of`
validates it. A result is read by its attributes only: anything shaped like one will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.utils.ids import IdIndex
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import MEMORY_BYTES, JointRows, as_spaces, is_space_list, is_store


@dataclass(frozen=True)
class LabelingInput:
    """Rows with ids and, where a clustering was given, what it says of them.

    Attributes
    ----------
    rows : (n, d) array or larger-than-memory rows of unit length
        Embeddings; the cluster probabilities stand in where a result has lost its embeddings.
    ids : (n,) array
        Row ids, 0..n-1 for a plain array.
    labels, proba, confidence, prior : arrays or None
        Clusters, their probabilities (n, k), confidence (n,) and estimated shares (k,).
    graph : KNNGraph or None
        Neighbors that the result already holds.
    """

    rows: Any
    ids: NDArray[Any]
    labels: NDArray[np.int64] | None = None
    proba: NDArray[Any] | None = None
    confidence: NDArray[Any] | None = None
    prior: NDArray[Any] | None = None
    graph: KNNGraph | None = None

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.ids)

    @classmethod
    def of(cls, given: Any) -> LabelingInput:
        """Read a result, a store, an array, or a list of spaces.

        Raises
        ------
        TypeError
            None of those.
        ValueError
            Fewer than two rows, or NaN and infinite values.
        """
        if isinstance(given, LabelingInput):
            return given
        if not (hasattr(given, "labels") and hasattr(given, "proba")):
            rows = unit_source(given)
            ids = getattr(given, "ids", None)
            return cls(rows, np.arange(rows.shape[0]) if ids is None else np.asarray(ids))
        proba = None if given.proba is None else np.asarray(given.proba)
        embeddings = getattr(given, "embeddings", None)
        if embeddings is None and proba is None:
            raise TypeError("the result holds neither embeddings nor probabilities: cluster again")
        rows = unit_source(proba if embeddings is None else embeddings)
        ids = getattr(given, "ids", None)

        def optional(name: str) -> NDArray[Any] | None:
            value = getattr(given, name, None)
            return None if value is None else np.asarray(value)

        return cls(
            rows,
            np.arange(rows.shape[0]) if ids is None else np.asarray(ids),
            _placed(np.asarray(given.labels, dtype=np.int64), proba),
            proba,
            optional("confidence"),
            optional("cluster_prior"),
            getattr(given, "graph", None),
        )

    def neighbors(self, k: int, *, random_state: int = 0) -> KNNGraph:
        """Return each row's `k` nearest others, from the result's graph where it is wide enough."""
        k = min(k, self.n_rows - 1)
        if self.graph is not None and self.graph.k >= k and self.graph.n_rows == self.n_rows:
            return self.graph.take(k)
        return KNNGraph.build(self.rows, k=k, random_state=random_state)

    def find(self, ids: ArrayLike, *, name: str = "ids") -> NDArray[np.int64]:
        """Return the row numbers of `ids`.

        Raises
        ------
        ValueError
            Unknown or repeated ids.
        """
        return IdIndex(self.ids).rows_of(ids, name=name)


def _placed(labels: NDArray[np.int64], proba: NDArray[Any] | None) -> NDArray[np.int64]:
    """Return labels, rows of no cluster (-1) at their likeliest: that they are unsure is known."""
    if proba is None or (labels >= 0).all():
        return labels
    return np.where(labels >= 0, labels, proba.argmax(axis=1))


def unit_source(X: Any) -> Any:
    """Return unit rows (n, d) float32: an array where it fits in memory, else read in blocks.

    Raises
    ------
    TypeError, ValueError
        Not numeric, not 2-D, fewer than two rows, NaN or infinite values.
    """
    if not (is_store(X) or is_space_list(X)):
        X = X if hasattr(X, "shape") else np.asarray(X)
        if np.dtype(X.dtype).kind not in "fiub":
            raise TypeError(
                f"embeddings must be numeric, got dtype {X.dtype}: embed the data first"
            )
    rows = JointRows(as_spaces(X))
    if rows.shape[0] < 2:
        raise ValueError(f"n_samples={rows.shape[0]}: at least 2 rows are needed")
    return np.asarray(rows) if rows.shape[0] * rows.shape[1] * 4 <= MEMORY_BYTES else rows
