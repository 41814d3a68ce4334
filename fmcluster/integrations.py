"""Heads inside other libraries: as BERTopic's clustering model, and under mteb's clustering tasks.

Neither library is imported before it is used, and neither is needed by the rest of the package.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted

from fmcluster.calibration import fit_calibrated
from fmcluster.heads import make_head
from fmcluster.utils.optional import require
from fmcluster.utils.validation import check_matrix, check_range


class TopicClusterer(ClusterMixin, BaseEstimator):
    """A head with calibrated confidence, in the shape that BERTopic's ``hdbscan_model`` takes.

    Any head may be given to BERTopic as it is. This one adds ``probabilities_`` (the calibrated
    confidence of each document's topic) and, with `min_confidence`, BERTopic's outlier topic -1.

    Parameters
    ----------
    head : str
        One of `list_heads`.
    n_clusters : int or "auto"
        Number of topics.
    min_confidence : float
        Documents below it become outliers (-1); 0 assigns every document.
    params : dict, optional
        More arguments of the head.
    random_state : int
        The one seed.

    Attributes
    ----------
    labels_ : (n,) int64
        Topic of each document, -1 for outliers.
    probabilities_ : (n,) float64
        Calibrated confidence.
    head_ : ClusterHead
        The fitted head.
    """

    def __init__(
        self,
        head: str = "auto",
        *,
        n_clusters: Any = "auto",
        min_confidence: float = 0.0,
        params: dict[str, Any] | None = None,
        random_state: int = 0,
    ) -> None:
        self.head = head
        self.n_clusters = n_clusters
        self.min_confidence = min_confidence
        self.params = params
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Cluster document embeddings `X` (n, d); `y` is ignored, labels are never read."""
        check_range(self.min_confidence, "min_confidence", low=0, high=1)
        given = {"n_clusters": self.n_clusters, "random_state": self.random_state}
        head = make_head(self.head, **{**given, **(self.params or {})})
        X = check_matrix(X).astype(np.float32, copy=False)
        fit = fit_calibrated(head, X, random_state=self.random_state)
        self.head_, self.calibrator_ = fit.head, fit.calibrator
        self.labels_, self.probabilities_ = self._decide(fit.proba)
        return self

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return the topic of each row of `X`, -1 below `min_confidence`."""
        return self._decide(self.predict_proba(X))[0]

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Return calibrated probabilities (m, k) of rows `X`."""
        check_is_fitted(self, "head_")
        X = check_matrix(X).astype(np.float32, copy=False)
        scores = self.head_.predict_proba(X)
        if self.calibrator_ is None:
            return scores
        return np.asarray(self.calibrator_.transform(scores, [X]), np.float32)

    def _decide(self, proba: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return topics (n,), -1 below `min_confidence`, and confidence (n,)."""
        confidence = proba.max(axis=1).astype(np.float64)
        labels = np.where(confidence >= self.min_confidence, proba.argmax(axis=1), -1)
        return labels.astype(np.int64), confidence


@contextlib.contextmanager
def mteb_clustering(
    head: str, *, params: dict[str, Any] | None = None, random_state: int | None = None
) -> Iterator[None]:
    """Let mteb's clustering tasks cluster with a head in place of its MiniBatchKMeans.

    Parameters
    ----------
    head : str
        One of `list_heads`; mteb tells it the number of clusters.
    params : dict, optional
        More arguments of the head.
    random_state : int, optional
        Seed; default: the one that mteb gives.

    Raises
    ------
    MissingExtraError
        mteb is not installed.

    Examples
    --------
    ::

        with mteb_clustering("scan"):
            mteb.evaluate(model, tasks)
    """
    require("mteb", extra="ecosystem", package="mteb")
    import mteb._evaluators.clustering_evaluator as legacy
    import mteb.abstasks.clustering as current

    def make(*, n_clusters: int, **settings: Any) -> Any:
        seed = settings.get("random_state", 0) if random_state is None else random_state
        return make_head(head, **{"n_clusters": n_clusters, "random_state": seed, **(params or {})})

    stand_in = SimpleNamespace(**{**vars(legacy.cluster), "MiniBatchKMeans": make})
    before = current.MiniBatchKMeans, legacy.cluster
    current.MiniBatchKMeans, legacy.cluster = make, stand_in
    try:
        yield
    finally:
        current.MiniBatchKMeans, legacy.cluster = before
