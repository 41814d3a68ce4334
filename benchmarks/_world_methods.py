"""What is run on a world: our heads with their calibrated confidence, and peers.

A method sees rows, the number of classes and a seed; a peer sees several spaces side by side, each
of unit rows. Figures are of `evaluate`, with the true labels, afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.api import cluster
from fmcluster.calibration import fit_calibrated
from fmcluster.functional.metrics import evaluate
from fmcluster.heads import make_head
from fmcluster.utils.optional import require
from fmcluster.vectors.rows import unit_rows

KEPT = ("acc", "macro_acc", "tail_acc", "nmi", "ari", "n_clusters", "ece", "auroc")
# Neighbors whose classes say how pure a row's surroundings are.
PURITY_NEIGHBORS = 10
# As everybody runs it before clustering (umap-learn's own advice), and HDBSCAN after it.
UMAP = {"n_neighbors": 15, "n_components": 5, "min_dist": 0.0, "metric": "cosine"}
MIN_CLUSTER_SIZE = 10
# Before the spec of a head: a peer and a head are both called kmeans.
HEAD = "head:"
# Draws of k-means of which the tightest is kept.
N_INIT = 10


@dataclass
class Found:
    """Labels (-1: noise), perhaps calibrated probabilities and estimated shares."""

    labels: NDArray[np.integer]
    proba: NDArray[np.floating] | None = None
    prior: NDArray[np.floating] | None = None


Method = Callable[[Any, int, int], Found]


def joint(X: Any) -> NDArray[np.float32]:
    """Return unit rows; several spaces side by side count the same."""
    spaces = X if isinstance(X, list) else [X]
    return unit_rows(np.concatenate([unit_rows(space) for space in spaces], axis=1))


def head_method(spec: str) -> Method:
    """Return the method of ``name`` or ``name:key=value,key=value``, as `fmcluster.cluster` fits.

    Raises
    ------
    ValueError
        As `make_head`, when it is run.
    """
    import yaml

    name, _, rest = spec.partition(":")
    given = dict(part.split("=", 1) for part in rest.split(",") if part)
    params = {key: yaml.safe_load(value) for key, value in given.items()}

    def run(X: Any, k: int, seed: int) -> Found:
        head = make_head(name, n_clusters=k, random_state=seed, **params)
        fit = fit_calibrated(head, X, random_state=seed)
        return Found(head.labels_, fit.proba, head.cluster_prior_)

    return run


def _kmeans(X: Any, k: int, seed: int) -> Found:
    head = make_head("kmeans", n_clusters=k, n_init=N_INIT, random_state=seed)
    return Found(head.fit(joint(X)).labels_)


def _linkage(X: Any, k: int, seed: int, *, kind: str) -> Found:
    """Cut the tree of `kind` at k: cosine distances for "average", squared Euclidean for "ward"."""
    from scipy.cluster.hierarchy import fcluster, linkage

    x = joint(X)
    distances = np.clip(1 - (x @ x.T)[np.triu_indices(len(x), 1)], 0, None).astype(np.float64)
    # Ward's tree is made of Euclidean distances: of unit rows, the root of twice the cosine's.
    tree = linkage(np.sqrt(2 * distances) if kind == "ward" else distances, kind)
    return Found(fcluster(tree, k, "maxclust") - 1)


class Umap:
    """The UMAP of the last rows: two peers share it, and its CPU seconds count for both."""

    def __init__(self) -> None:
        self._of: tuple[Any, int] | None = None
        self._spent = 0.0
        self._reduced: NDArray[Any]

    def __call__(self, X: Any, seed: int) -> tuple[NDArray[Any], float]:
        """Return the reduced rows, and what they cost if that was not spent right now."""
        if self._of is not None and self._of[0] is X and self._of[1] == seed:
            return self._reduced, self._spent
        umap = require("umap", extra="baselines", package="umap-learn")
        began = time.process_time()
        # One thread: with a seed umap-learn takes no more, and says so each time if not told.
        self._reduced = umap.UMAP(**UMAP, random_state=seed, n_jobs=1).fit_transform(joint(X))
        self._of, self._spent = (X, seed), time.process_time() - began
        return self._reduced, 0.0


def _evoc(X: Any, k: int, seed: int) -> Found:
    module = require("evoc", extra="baselines", package="evoc")
    return Found(np.asarray(module.EVoC(random_state=seed).fit_predict(joint(X))))


PEERS: dict[str, Method | str] = {
    "kmeans": _kmeans,
    "average": partial(_linkage, kind="average"),
    "ward": partial(_linkage, kind="ward"),
    "umap+kmeans": "umap",
    "umap+hdbscan": "umap",
    "evoc": _evoc,
}


class Runner:
    """Run methods on a world and measure them."""

    def __init__(self) -> None:
        from _world_oracles import Oracles  # of this module

        self._umap, self._oracles = Umap(), Oracles()

    def row(self, method: str, X: Any, y: NDArray[np.int64], seed: int) -> dict[str, Any]:
        """Return the figures of a method: a peer, "k-estimate", "told ...", "head:" and a spec."""
        k, began, again = len(np.unique(y)), time.process_time(), 0.0
        if method == "k-estimate":
            result = cluster(X, n_clusters="auto", random_state=seed)
            levels = [level.n_clusters for level in result.levels]
            spent = round(time.process_time() - began, 2)
            return {"k_estimate": result.n_clusters, "levels": levels, "cpu_seconds": spent}
        if method.startswith("told "):
            found = self._oracles(method, X, y, seed)
        elif PEERS.get(method) == "umap":
            z, again = self._umap(X, seed)
            found = Found(_of_reduced(z, method, k, seed))
        else:
            peer = PEERS.get(method)
            run = peer if callable(peer) else head_method(method.removeprefix(HEAD))
            found = run(X, k, seed)
        spent = time.process_time() - began + again
        return {"cpu_seconds": round(spent, 2), **figures(y, found)}


def _of_reduced(z: NDArray[Any], method: str, k: int, seed: int) -> NDArray[np.integer]:
    """Return the labels of a method on rows that UMAP reduced."""
    from sklearn.cluster import HDBSCAN, KMeans

    if method == "umap+hdbscan":
        return np.asarray(HDBSCAN(min_cluster_size=MIN_CLUSTER_SIZE, copy=True).fit(z).labels_)
    return np.asarray(KMeans(k, n_init=N_INIT, random_state=seed).fit(z).labels_)


def figures(y: NDArray[np.int64], found: Found) -> dict[str, float]:
    """Return the metrics that are kept, rounded, with the total variations of sizes."""
    measured = evaluate(y, found.labels, found.proba)
    row = {key: round(float(measured[key]), 4) for key in KEPT if key in measured}
    true = np.bincount(y)
    row["tv"] = round(variation(true, np.bincount(found.labels[found.labels >= 0])), 4)
    if found.prior is not None:
        row["tv_prior"] = round(variation(true, found.prior), 4)
    if (found.labels < 0).any():
        row["noise"] = round(float((found.labels < 0).mean()), 4)
    return row


def variation(true: ArrayLike, estimated: ArrayLike) -> float:
    """Return the total variation of sizes from the true ones, each sorted from the largest.

    Which cluster is which does not count; the shorter list is filled up with zeros.
    """
    shares = [np.sort(np.asarray(sizes, np.float64))[::-1] for sizes in (true, estimated)]
    n = max(len(sizes) for sizes in shares)
    a, b = (np.pad(s / max(s.sum(), 1e-12), (0, n - len(s))) for s in shares)
    return float(np.abs(a - b).sum() / 2)


def purity(X: Any, y: NDArray[np.int64]) -> float:
    """Return the mean share of a row's nearest neighbors that are of its class."""
    x = joint(X)
    n_near = min(PURITY_NEIGHBORS, len(x) - 1)
    same = 0.0
    for start in range(0, len(x), 1024):
        block = x[start : start + 1024] @ x.T
        block[np.arange(len(block)), start + np.arange(len(block))] = -np.inf
        near = np.argpartition(-block, n_near - 1, axis=1)[:, :n_near]
        same += (y[near] == y[start : start + 1024, None]).mean(axis=1).sum()
    return round(float(same / len(x)), 4)
