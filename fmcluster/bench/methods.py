"""What the suites compare: our heads, and peers from PyPI that run beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.bench.datasets import BenchData
from fmcluster.calibration import fit_calibrated
from fmcluster.heads import list_heads, make_head
from fmcluster.utils.optional import require
from fmcluster.vectors.faiss_index import faiss_module
from fmcluster.vectors.rows import unit_rows


@dataclass(frozen=True)
class Outcome:
    """What a method gave: labels (-1: noise), maybe probabilities and estimated shares."""

    labels: NDArray[Any]
    proba: NDArray[Any] | None = None
    raw_proba: NDArray[Any] | None = None
    prior: NDArray[Any] | None = None

    @property
    def n_clusters(self) -> int:
        """Clusters found, noise not counted."""
        return len(np.unique(self.labels[self.labels >= 0]))


@dataclass(frozen=True)
class Method:
    """A name, the settings that decide its numbers, and how it runs."""

    name: str
    run: Callable[[BenchData, int], Outcome] = field(repr=False)
    settings: dict[str, Any] = field(default_factory=dict)


def head_method(spec: str, *, k: str = "given", calibrate: bool = True) -> Method:
    """Return the method of a head, written ``name`` or ``name:key=value,key=value``.

    Parameters
    ----------
    spec : str
        Such as ``scan:cluster_prior=estimate``.
    k : {"given", "auto"}
        Whether the head is told the number of classes.
    calibrate : bool
        Whether probabilities are calibrated without labels afterwards.
    """
    import yaml

    name, _, rest = spec.partition(":")
    params = dict(part.split("=", 1) for part in rest.split(",") if part)
    settings = {key: yaml.safe_load(value) for key, value in params.items()}

    def run(data: BenchData, seed: int) -> Outcome:
        n_clusters = data.n_classes if k == "given" else "auto"
        head = make_head(name, n_clusters=n_clusters, random_state=seed, **settings)
        fit = fit_calibrated(head, data.x, data.graph, calibrate=calibrate, random_state=seed)
        return Outcome(head.labels_, fit.proba, fit.scores, head.cluster_prior_)

    about = {"k": k, "calibrate": calibrate, **settings}
    return Method(spec if k == "given" else f"{spec} (k auto)", run, about)


def _faiss_kmeans(data: BenchData, seed: int) -> Outcome:
    faiss = faiss_module()
    x = unit_rows(data.x)
    kmeans = faiss.Kmeans(
        # faiss's own rounds and one start; no row is sampled away, and no cluster is too small.
        x.shape[1], data.n_classes, niter=25, spherical=True, seed=seed, nredo=1,
        max_points_per_centroid=10**9, min_points_per_centroid=1,
    )  # fmt: skip
    kmeans.train(x)
    return Outcome(kmeans.index.search(x, 1)[1].ravel())


def _gmm(data: BenchData, seed: int) -> Outcome:
    from sklearn.mixture import GaussianMixture

    x = unit_rows(data.x)
    mixture = GaussianMixture(data.n_classes, covariance_type="diag", random_state=seed).fit(x)
    proba = mixture.predict_proba(x)
    return Outcome(proba.argmax(axis=1), proba, prior=mixture.weights_)


def _agglomerative(data: BenchData, seed: int, **options: Any) -> Outcome:
    from sklearn.cluster import AgglomerativeClustering

    # Of so many rows there are 98 million pairs: 0.8 GB in float64.
    if len(data.y) > 14_000:
        raise ValueError("the distance matrix would not fit: more than 14,000 rows")
    found = AgglomerativeClustering(data.n_classes, **options).fit(unit_rows(data.x))
    return Outcome(found.labels_)


def _umap_hdbscan(data: BenchData, seed: int) -> Outcome:
    from sklearn.cluster import HDBSCAN

    umap = require("umap", extra="baselines", package="umap-learn")
    # BERTopic's defaults, of both steps: what people run.
    z = umap.UMAP(
        n_neighbors=15, n_components=5, min_dist=0.0, metric="cosine", random_state=seed
    ).fit_transform(data.x)
    return Outcome(HDBSCAN(min_cluster_size=10).fit(z).labels_)


def _fast_hdbscan(data: BenchData, seed: int) -> Outcome:
    module = require("fast_hdbscan", extra="baselines", package="fast-hdbscan")
    # As after UMAP above: larger joins small topics to noise, smaller makes many of one.
    return Outcome(module.HDBSCAN(min_cluster_size=10).fit_predict(unit_rows(data.x)))


def _evoc(data: BenchData, seed: int) -> Outcome:
    module = require("evoc", extra="baselines", package="evoc")
    return Outcome(module.EVoC(random_state=seed).fit_predict(unit_rows(data.x)))


PEERS: dict[str, Callable[[BenchData, int], Outcome]] = {
    "peer/faiss-kmeans": _faiss_kmeans,
    "peer/gmm-diag": _gmm,
    "peer/ward": partial(_agglomerative, linkage="ward"),
    "peer/average-linkage": partial(_agglomerative, linkage="average", metric="cosine"),
    "peer/umap-hdbscan": _umap_hdbscan,
    "peer/fast-hdbscan": _fast_hdbscan,
    "peer/evoc": _evoc,
}


def method(spec: str, *, k: str = "given", calibrate: bool = True) -> Method:
    """Return a method by what the command line says: a head spec, or ``peer/NAME``."""
    if spec in PEERS:
        return Method(spec, PEERS[spec])
    if spec.partition(":")[0] in list_heads():
        return head_method(spec, k=k, calibrate=calibrate)
    known = ", ".join([*list_heads(), *PEERS])
    raise ValueError(f"method {spec!r} is not known: choose of {known}")
