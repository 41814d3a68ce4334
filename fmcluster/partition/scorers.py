r"""A label-free score of partitions, usable as ``scoring=`` in scikit-learn's searches.

The score of a partition is :math:`Q + S`: Newman's modularity of the partition on the k-neighbor
graph plus the mean simplified silhouette of the rows, both of the rows that are scored. No label is
read, so a search may run where nothing is labeled. Rows are scored in the space that the search
was given, not in the one a pipeline makes of it: else a step that squeezes the rows together would
win by that alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.partition.scores import score_partition
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import JointRows, as_spaces

# As the graph that `cluster` makes: one graph may serve both.
N_NEIGHBORS = 20


def partition_score(
    X: Any, labels: NDArray[np.int64], *, n_neighbors: int = N_NEIGHBORS, random_state: int = 0
) -> float:
    """Return modularity plus simplified silhouette of a partition; at most 2, larger is better.

    Parameters
    ----------
    X : (n, d) array, store, or list of those
        The rows.
    labels : (n,) int
        Cluster of each row.
    n_neighbors : int
        Width of the graph.
    random_state : int
        Of the approximate index of large data.
    """
    rows = JointRows(as_spaces(X))
    n = rows.shape[0]
    if len(labels) != n:
        raise ValueError(f"{len(labels)} labels were given for {n} rows: give one a row")
    if n < 3:
        raise ValueError(f"{n} rows cannot be scored: give at least 3")
    dense = np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.int64)
    graph = KNNGraph.build(rows, k=min(n_neighbors, n - 1), random_state=random_state)
    return score_partition(np.asarray(rows), dense, graph)


def modularity_silhouette_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Score a fitted clusterer on rows `X` without labels: pass it as ``scoring=``.

    Parameters
    ----------
    estimator : object with ``predict``
        A fitted head, or a Pipeline that ends in one.
    X : (n, d) array
        Rows that are scored.
    y : ignored
        Present for scikit-learn; labels are never read.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from fmcluster.heads import make_head
    >>> X = np.random.default_rng(0).normal(size=(90, 6)) + np.repeat(np.eye(6)[:3] * 9, 30, 0)
    >>> grid = {"n_clusters": [2, 3, 5]}
    >>> head = make_head("kmeans", random_state=0)
    >>> GridSearchCV(head, grid, scoring=modularity_silhouette_scorer).fit(X).best_params_
    {'n_clusters': 3}
    """
    return partition_score(X, np.asarray(estimator.predict(X)))
