r"""Gaussian mixture by expectation maximization (Dempster et al., JRSS B 1977), over scikit-learn.

.. math:: \max_{\pi, \mu, \Sigma} \sum_i \log \sum_k \pi_k\, N(x_i; \mu_k, \Sigma)

Adapted to frozen embeddings: rows are normalized to length one and projected to their first
principal components, where covariances can be estimated; one covariance is shared by all
components (``tied``), because hundreds of dimensions with a covariance for each cluster measured
worse than k-means; the start is spherical k-means. The mixture weights are the cluster prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from fmcluster.heads.base import ClusterHead
from fmcluster.partition.kmeans import N_INIT, nearest_centroid, spherical_kmeans
from fmcluster.partition.mini_clusters import group_sums
from fmcluster.utils import distributed
from fmcluster.utils.validation import check_in, check_range
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.pca import PCAMap
from fmcluster.vectors.rows import joint

COVARIANCES = ("tied", "full", "diag", "spherical")
# Rows that a cluster without any counts as: its mean is then that of all, not a division by 0.
EMPTY = 1e-6
# Rows of the first covariances: they cost a k-means of so many.
START_ROWS = 20_000
# Rows a cluster where clusters are so many: with fewer the inner covariance is of single rows.
ROWS_A_START = 10


class Mixture(GaussianMixture):
    """scikit-learn's, with the densities of a tied covariance by one projection of the rows.

    It projects them once for each component: of a hundred components that is all there is to wait
    for.
    """

    def _estimate_log_prob(self, X: NDArray[np.float64], **more: Any) -> NDArray[np.float64]:
        """Return the log density (n, k) of each component; newer versions pass a namespace."""
        if self.covariance_type != "tied":
            return super()._estimate_log_prob(X, **more)
        root = self.precisions_cholesky_
        z, means = X @ root, self.means_ @ root
        square = -2 * (z @ means.T)
        square += np.einsum("nd,nd->n", z, z)[:, None]
        square += np.einsum("kd,kd->k", means, means)
        square += X.shape[1] * np.log(2 * np.pi)
        square *= -0.5
        square += np.log(np.diagonal(root)).sum()
        return square


@dataclass(eq=False, repr=False, kw_only=True)
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
        Rounds of expectation maximization.
    reg_covar : float
        Added to the diagonal of covariances.
    max_rows : int
        Rows that the mixture is learned from; the rest is only predicted.
    """

    name = "gmm"

    # A tied covariance has n_components^2 / 2 numbers, each from all rows.
    n_components: int = 64
    covariance_type: str = "tied"
    # scikit-learn's default; fewer rounds may stop on the way, more are time.
    max_iter: int = 100
    reg_covar: float = 1e-6
    # Time of a round of EM; the rest is only predicted.
    max_rows: int = 200_000

    def _fit(self, data: HeadData) -> None:
        check_in(self.covariance_type, COVARIANCES, "covariance_type")
        check_range(self.max_iter, "max_iter", low=1)
        k = data.n_clusters
        x = data.sample_rows(self.max_rows)
        self.map_ = PCAMap.fit(x, self.n_components)
        z = self.map_(x)
        start = spherical_kmeans(x, k, n_init=N_INIT, seed=data.seed("kmeans"))
        labels = nearest_centroid(x, start)
        counts = np.bincount(labels, minlength=k) + EMPTY
        means = (group_sums(z, labels, k) + EMPTY * z.mean(axis=0)) / counts[:, None]
        precisions = self._precisions(z, k, data.seed("em"))
        weights, gpu = counts / counts.sum(), distributed.gpu()
        options: dict[str, Any] = {"max_iter": self.max_iter, "reg_covar": self.reg_covar}
        if gpu is not None and self.covariance_type == "tied":  # no other is known there
            from fmcluster.functional.mixture import fit_tied

            found = fit_tied(z, means, weights, precisions, device=gpu, **options)
            self.mixture_, self.n_iter_ = self._mixture(*found[:4]), found.n_iter
        else:
            self.mixture_ = Mixture(
                k,
                covariance_type=self.covariance_type,
                means_init=means,
                weights_init=weights,
                precisions_init=precisions,
                random_state=data.seed("em"),
                **options,
            ).fit(z)
            self.n_iter_ = self.mixture_.n_iter_
        self.cluster_prior_ = self.mixture_.weights_

    def _mixture(
        self,
        weights: NDArray[np.float64],
        means: NDArray[np.float64],
        covariances: NDArray[np.float64],
        precisions_cholesky: NDArray[np.float64],
    ) -> Mixture:
        """Return the fitted mixture of these arrays."""
        made = Mixture(len(weights), covariance_type=self.covariance_type)
        made.weights_, made.means_, made.covariances_ = weights, means, covariances
        made.precisions_cholesky_ = precisions_cholesky
        return made

    def _precisions(self, z: NDArray[np.float64], k: int, seed: int) -> NDArray[np.float64]:
        """Return the inverse covariances to begin with, in scikit-learn's shape.

        Those inside the clusters of its k-means, which it would run on all rows.
        """
        if len(z) > START_ROWS:
            size = min(len(z), max(START_ROWS, ROWS_A_START * k))
            z = z[np.random.default_rng(seed).choice(len(z), size, replace=False)]
        labels = KMeans(k, n_init=1, random_state=seed).fit(z).labels_
        counts = np.bincount(labels, minlength=k) + EMPTY
        gaps = z - (group_sums(z, labels, k) / counts[:, None])[labels]
        kind, ridge = self.covariance_type, self.reg_covar * np.eye(z.shape[1])
        if kind == "tied":
            return np.linalg.inv(gaps.T @ gaps / len(gaps) + ridge)
        if kind == "full":
            inside = (gaps[labels == c] for c in range(k))
            found = [part.T @ part / n for part, n in zip(inside, counts, strict=True)]
            return np.asarray(np.linalg.inv(np.array(found) + ridge), np.float64)
        variances = group_sums(gaps**2, labels, k) / counts[:, None] + self.reg_covar
        return np.asarray(1 / (variances if kind == "diag" else variances.mean(axis=1)))

    def _proba(self, xs: list[NDArray[np.float32]]) -> NDArray[np.floating]:
        return self.mixture_.predict_proba(self.map_(joint(xs)))

    def _state(self) -> dict[str, NDArray[Any]]:
        m = self.mixture_
        arrays = {"weights": m.weights_, "means": m.means_, "covariances": m.covariances_}
        return {**arrays, "precisions": m.precisions_cholesky_, **self.map_.arrays()}

    def _load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.map_ = PCAMap.from_arrays(arrays)
        names = ("weights", "means", "covariances", "precisions")
        self.mixture_ = self._mixture(*(arrays[name] for name in names))
