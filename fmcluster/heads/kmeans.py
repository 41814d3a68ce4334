r"""Spherical k-means.

Maximize :math:`\sum_i \max_k \langle x_i, c_k \rangle` over unit centroids :math:`c_k`, for rows
normalized to length one (Dhillon & Modha, "Concept decompositions for large sparse text data using
clustering", Machine Learning 2001). Starts are compared on a sample, and the rounds of the best one
are over all rows (`fmcluster.partition.lloyd`), in memory or larger than it, spread over the
processes that there are. Probabilities are a softmax of the cosines whose temperature is the median
margin between the best and the second best centroid, a score until calibrated.

Labels of some rows are held while further rounds begin at these centroids
(`fmcluster.partition.seeded`); class c is cluster c.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.softmax import softmax
from fmcluster.heads.base import ClusterHead
from fmcluster.partition.kmeans import median_margin
from fmcluster.partition.lloyd import held, lloyd
from fmcluster.partition.seeded import constrained_kmeans
from fmcluster.utils.validation import check_range
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.rows import joint

# Rows of the median margin: a median of so many is certain to a percent of the distribution.
MARGIN_ROWS = 20_000
# Its cosines: of thousands of clusters fewer rows, 64 MiB.
MARGIN_VALUES = 2**24


@dataclass(eq=False, repr=False, kw_only=True)
class KMeansHead(ClusterHead):
    """Spherical k-means.

    Parameters
    ----------
    n_init : int
        Random starts, compared on 256 rows per cluster (8,192 at least); Lloyd's rounds over all
        rows begin at the one with the largest objective.
    max_iter : int
        Rounds over all rows at most; fewer once one gains less than 1e-5 of what rows lack of
        cosine one.

    Attributes
    ----------
    cluster_centers_ : (k, d) float32
        Unit centroids, in the order of the labels.
    temperature_ : float
        Divides the cosines before the softmax.
    n_iter_ : int
        Rounds taken over all rows; with labels, those that held them.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.vstack([np.eye(2) + 0.01 * i for i in range(5)])
    >>> sorted(np.bincount(KMeansHead(n_clusters=2, random_state=0).fit(X).labels_).tolist())
    [5, 5]
    """

    name = "kmeans"
    takes_answers = ("labels",)

    # Starts differ by points of accuracy; each costs ten rounds of a sample.
    n_init: int = 8
    # Twice faiss's own 25; most end after 10 to 25.
    max_iter: int = 50

    def _fit(self, data: HeadData) -> None:
        self.groups_: NDArray[np.int64] | None = None
        check_range(self.n_init, "n_init", low=1)
        check_range(self.max_iter, "max_iter", low=1)
        seed = data.seed("kmeans")
        rows = held(data.joint)
        self.centroids_, self.n_iter_ = lloyd(
            rows, data.n_clusters, n_init=self.n_init, max_iter=self.max_iter, seed=seed
        )
        if data.answers is not None and len(data.answers.rows):
            self.centroids_, self.n_iter_ = constrained_kmeans(
                rows,
                self.centroids_,
                data.answers.rows,
                data.answers.target,
                data.answers.n_classes,
                max_iter=self.max_iter,
                seed=seed,
            )
        values = data.n_rows * data.n_clusters
        step = max(1, data.n_rows // MARGIN_ROWS, -(-values // MARGIN_VALUES))
        sample = data.joint[np.arange(0, data.n_rows, step)]
        self.temperature_ = median_margin(sample @ self.centroids_.T)

    @property
    def cluster_centers_(self) -> NDArray[np.float32]:
        """Unit centroids (n_clusters_, d) in the order of the labels."""
        return self.centroids_[self.columns_]

    def _proba(self, xs: list[NDArray[np.float32]]) -> NDArray[np.floating]:
        # float64, so that a row's answer does not depend on the rows beside it.
        cosines = joint(xs).astype(np.float64) @ self.centroids_.T.astype(np.float64)
        return grouped_proba(softmax(cosines / self.temperature_), self.groups_)

    def grouped(self, groups: NDArray[np.int64], *, temperature: float) -> KMeansHead:
        """Return a fitted head whose clusters are unions of the clusters of this one.

        Every row stays with the group of its nearest centroid, so that the clusters of a coarser
        grouping are unions of those of a finer one.

        Parameters
        ----------
        groups : (n_clusters_,) int64
            Group 0..p-1 of each cluster, none empty.
        temperature : float
            Divides the cosines before the softmax.
        """
        head = copy.copy(self)
        head.n_clusters = head.n_clusters_ = int(groups.max()) + 1
        head.centroids_, head.groups_ = self.cluster_centers_, np.asarray(groups, np.int64)
        head.columns_, head.temperature_ = np.arange(head.n_clusters_), float(temperature)
        head.labels_ = head.groups_[self.labels_]
        head.cluster_prior_ = np.bincount(head.labels_) / len(head.labels_)
        return head

    def _state(self) -> dict[str, NDArray[Any]]:
        state = {"centroids": self.centroids_, "temperature": np.array([self.temperature_])}
        return state if self.groups_ is None else state | {"groups": self.groups_}

    def _load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.centroids_, self.groups_ = arrays["centroids"], arrays.get("groups")
        self.temperature_ = float(arrays["temperature"][0])


def grouped_proba(
    proba: NDArray[np.float64], groups: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    """Return the probabilities (n, p) of groups of clusters, the largest that of the label.

    Parameters
    ----------
    proba : (n, k) float64
        Probabilities of the clusters.
    groups : (k,) int64, optional
        Group 0..p-1 of each; None for one a cluster.
    """
    if groups is None:
        return proba
    member = np.zeros((proba.shape[1], int(groups.max()) + 1))
    member[np.arange(len(groups)), groups] = 1
    out, own = proba @ member, groups[proba.argmax(axis=1)]
    at = np.arange(len(out)), own
    # Several clusters that are near together outweigh the nearest: a hair more for its group.
    out[at] = np.maximum(out[at], out.max(axis=1) * np.where(out.argmax(axis=1) == own, 1, 1.001))
    return out / out.sum(axis=1, keepdims=True)
