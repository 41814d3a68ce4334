r"""Gaussian mixture by expectation maximisation (Dempster et al., JRSS B 1977), over scikit-learn.

.. math:: \max_{\pi, \mu, \Sigma} \sum_i \log \sum_k \pi_k\, N(x_i; \mu_k, \Sigma)

Adapted to frozen embeddings: rows are normalised to length one and projected to their first
principal components, where covariances can be estimated; one covariance is shared by all
components (``tied``), because hundreds of dimensions with a covariance for each cluster measured
worse than k-means; the start is spherical k-means. The mixture weights are the cluster prior.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

from fmcluster._validation import check_in, check_range
from fmcluster.heads._nodes import PCAMap, sample_rows
from fmcluster.heads._rows import joint
from fmcluster.heads.base import ClusterHead, HeadData
from fmcluster.heads.kmeans import spherical_kmeans

COVARIANCES = ("tied", "full", "diag", "spherical")


class GMMHead(ClusterHead):
    """Gaussian mixture on principal components.

    Parameters
    ----------
    n_clusters : int or "auto"
        Number of components.
    n_components : int
        Principal components kept.
    covariance_type : {"tied", "full", "diag", "spherical"}
        As in scikit-learn.
    max_iter : int
        Rounds of expectation maximisation.
    reg_covar : float
        Added to the diagonal of covariances.
    max_rows : int
        Rows that the mixture is learned from; the rest is only predicted.
    random_state : None, int or RandomState
        Seed.
    """

    name = "gmm"

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        n_components: int = 64,
        covariance_type: str = "tied",
        max_iter: int = 100,
        reg_covar: float = 1e-6,
        max_rows: int = 200_000,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.max_iter = max_iter
        self.reg_covar = reg_covar
        self.max_rows = max_rows
        self.random_state = random_state

    def _fit(self, data: HeadData) -> None:
        check_in(self.covariance_type, COVARIANCES, "covariance_type")
        check_range(self.max_iter, "max_iter", low=1)
        k = data.n_clusters
        x = sample_rows(data, self.max_rows)
        self.map_ = PCAMap.fit(x, self.n_components)
        z = self.map_(x)
        start = spherical_kmeans(x, k, n_init=4, max_iter=50, seed=data.seed("kmeans"))
        member = np.eye(k)[(x @ start.T).argmax(axis=1)] + 1e-9
        shares = member.mean(axis=0)
        self.mixture_ = GaussianMixture(
            k,
            covariance_type=self.covariance_type,
            means_init=member.T @ z / (shares[:, None] * len(z)),
            weights_init=shares / shares.sum(),
            max_iter=self.max_iter,
            reg_covar=self.reg_covar,
            random_state=data.seed("em"),
        ).fit(z)
        self.n_iter_ = self.mixture_.n_iter_
        self.cluster_prior_ = self.mixture_.weights_

    def _proba(self, xs: list[NDArray[np.float32]]) -> NDArray[np.floating]:
        return self.mixture_.predict_proba(self.map_(joint(xs)))

    def _state(self) -> dict[str, NDArray[Any]]:
        m = self.mixture_
        arrays = {"weights": m.weights_, "means": m.means_, "covariances": m.covariances_}
        return {**arrays, "precisions": m.precisions_cholesky_, **self.map_.arrays()}

    def _load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.map_ = PCAMap.from_arrays(arrays)
        k = len(arrays["weights"])
        self.mixture_ = GaussianMixture(k, covariance_type=self.covariance_type)
        self.mixture_.weights_, self.mixture_.means_ = arrays["weights"], arrays["means"]
        self.mixture_.covariances_ = arrays["covariances"]
        self.mixture_.precisions_cholesky_ = arrays["precisions"]
