"""`ClusterHead`: what every head is - a scikit-learn clusterer that can also predict and be saved.

A head supplies `_fit` (learn from `HeadData`), `_proba` (probabilities of a block of new rows) and
`_state`/`_load_state` (its arrays). Everything users rely on is here, once: input of any kind,
labels without gaps, ``argmax(predict_proba) == predict``, ``predict(training rows) == labels_``,
saving without pickle.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from fmcluster.functional.labels.answers import RowAnswers
from fmcluster.functional.softmax import normalized
from fmcluster.heads.asked import check_asked
from fmcluster.heads.config import FORMAT, SAVED, plain_params
from fmcluster.utils.blocks import BLOCK_VALUES, check_room, row_argmax, row_blocks, stacked
from fmcluster.utils.errors import CollapseWarning, CorruptShardError
from fmcluster.utils.files import atomic_path, digest_file, safe_child, write_json
from fmcluster.utils.folders import replaced_folder
from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import check_finite_rows, check_n_clusters, check_unmasked
from fmcluster.utils.version import __version__
from fmcluster.vectors.fit_data import HeadData, rows_to_fit
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import (
    BLOCK_ROWS,
    Rows,
    as_spaces,
    count_distinct,
    from_tensor,
    is_lazy,
    is_space_list,
    is_store,
)


@dataclass(eq=False, repr=False)
class ClusterHead(ClusterMixin, BaseEstimator):
    """Base of all heads.

    Constructor arguments are fields of a dataclass that scikit-learn prints, clones and compares:
    all but the first are keyword-only, and each is documented at the class that declares it.

    Parameters
    ----------
    n_clusters : int or "auto"
        Number of clusters; "auto" estimates it.
    random_state : None, int or RandomState
        Seed; two equal seeds give equal labels.

    Attributes
    ----------
    labels_ : (n,) int64
        Cluster of each training row, consecutive from 0.
    n_clusters_ : int
        Clusters found; fewer than asked only with a `CollapseWarning`.
    cluster_prior_ : (n_clusters_,) float64
        Share of each cluster, sums to one.
    n_features_in_ : int
        Dimensions of the (first) space.
    """

    name: ClassVar[str] = ""
    # Whether `_fit` has anything to learn of one cluster; where not, every row is in it.
    fits_one_cluster: ClassVar[bool] = True
    # Whether `predict_proba` is confidence already, by the head's own means.
    self_calibrated: ClassVar[bool] = False
    # What `fit` takes of a person's answers: "labels", "links" or both.
    takes_answers: ClassVar[tuple[str, ...]] = ()

    # As scikit-learn's `KMeans`: a number that is meant to be given.
    n_clusters: int | str = 8
    _: KW_ONLY
    random_state: Any = None

    # -- what a head supplies ---------------------------------------------------------------

    def _fit(self, data: HeadData) -> None:
        raise NotImplementedError

    def _proba(self, xs: list[NDArray[np.float32]]) -> NDArray[np.floating]:
        """Return probabilities (m, k) of a block of rows, one array per space."""
        raise NotImplementedError

    def _state(self) -> dict[str, NDArray[Any]]:
        """Return the learned arrays that `_proba` needs."""
        raise NotImplementedError

    def _load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take back what `_state` gave."""
        raise NotImplementedError

    # -- the estimator ----------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        graph: KNNGraph | None = None,
        answers: RowAnswers | None = None,
    ) -> Self:
        """Learn clusters from embeddings.

        Parameters
        ----------
        X : (n, d) array, memory map, store, or a list of those (several spaces)
            Embeddings; never modified.
        y : ignored
            Present for scikit-learn; labels are never read.
        graph : KNNGraph, optional
            Ready neighbors of the rows; built when needed otherwise.
        answers : RowAnswers, optional
            What a person said about some rows, for heads that take it (`takes_answers`).

        Raises
        ------
        ValueError
            NaN or infinite rows (named), more clusters than (distinct) rows, a single row;
            answers that this head does not take, or of more classes than clusters.
        """
        self._fit_spaces(self._open(X, reset=True), graph, answers)
        return self

    def _fit_spaces(
        self,
        spaces: list[Rows],
        graph: KNNGraph | None,
        answers: RowAnswers | None,
        *,
        keep: bool = False,
    ) -> NDArray[np.float32] | None:
        """Fit on opened spaces; with `keep` return the rows' probabilities, computed once."""
        n_rows = spaces[0].n_rows
        check_asked(self, n_rows, graph, answers)
        whole = spaces
        spaces, graph, told, known = rows_to_fit(spaces, graph, answers)
        widest = getattr(self, "n_neighbors", 0)
        data = HeadData(spaces, 0, seed_of(self.random_state, self.name), graph, told, widest)
        data.n_clusters = self._resolve_n_clusters(data)
        for stale in ("cluster_prior_", "columns_", "n_clusters_"):
            self.__dict__.pop(stale, None)
        self.space_dims_ = [space.n_dims for space in spaces]
        self.is_single_ = data.n_clusters == 1 and not self.fits_one_cluster
        if keep:
            check_room((n_rows, data.n_clusters))
        if not self.is_single_:
            self._fit(data)
        # A class that was answered is a cluster, even where no row is predicted to be in it.
        return self._finish(
            whole, data.n_clusters, keep=keep, whole=answers is not None, known=known
        )

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return the cluster of each row of `X`, in 0..n_clusters_-1."""
        check_is_fitted(self, "columns_")
        return self._over_blocks(self._open(X, reset=False), lambda p: p.argmax(axis=1))

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Return (m, n_clusters_) probabilities; rows sum to one, their argmax is `predict`.

        Until a `Calibrator` has seen them they are scores, not confidences.
        """
        check_is_fitted(self, "columns_")
        return self._over_blocks(self._open(X, reset=False), lambda p: p)

    def fit_predict(self, X: Any, y: Any = None, *, graph: KNNGraph | None = None) -> Any:
        """Fit and return `labels_`."""
        return self.fit(X, graph=graph).labels_

    def fit_predict_proba(
        self, X: Any, *, graph: KNNGraph | None = None, answers: RowAnswers | None = None
    ) -> NDArray[np.float32]:
        """Fit and return the probabilities (n, n_clusters_) of the rows of `X`, computed once."""
        spaces = self._open(X, reset=True)
        proba = self._fit_spaces(spaces, graph, answers, keep=True)
        assert proba is not None
        return proba

    def fit_answered(
        self,
        before: ClusterHead,
        X: Any,
        answers: RowAnswers,
        *,
        graph: KNNGraph | None = None,
        edited: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Fit with answers, after `before` was fitted on the same rows; as `fit_predict_proba`.

        `edited` (n, k) is what a person made of the clusters of `before`, for heads that can use
        it.
        """
        return self.fit_predict_proba(X, graph=graph, answers=answers)

    def of_own_rows(self, proba: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the fit knows of its own rows, where that is more than `predict_proba`."""
        return proba

    def reorder(self, order: NDArray[np.int64]) -> None:
        """Renumber the clusters: number j is what was ``order[j]``."""
        place = np.argsort(order)
        for name in ("columns_", "cluster_prior_"):
            setattr(self, name, getattr(self, name)[order])
        self.labels_: NDArray[np.int64] = place[self.labels_]

    # -- shared machinery -------------------------------------------------------------------

    def _open(self, X: Any, *, reset: bool) -> list[Rows]:
        """Check `X` and return its spaces; arrays go through scikit-learn's validation."""
        X = from_tensor(X)
        if not (is_store(X) or is_space_list(X) or is_lazy(X)):
            check_unmasked(X)
            X = validate_data(
                self,
                X,
                reset=reset,
                dtype=[np.float32, np.float64],
                ensure_all_finite=False,
                ensure_min_samples=2 if reset else 1,
            )
            check_finite_rows(X, name="X")
            return as_spaces(X)
        spaces = as_spaces(X)
        if reset:
            if spaces[0].n_rows < 2:
                raise ValueError("n_samples=1: at least 2 rows are needed to cluster")
            self.n_features_in_ = spaces[0].n_dims
        elif [space.n_dims for space in spaces] != self.space_dims_:
            raise ValueError(
                f"X has spaces of {[space.n_dims for space in spaces]} dimensions, "
                f"{type(self).__name__} is expecting {self.space_dims_}"
            )
        return spaces

    def _resolve_n_clusters(self, data: HeadData) -> int:
        least = 0 if data.answers is None else data.answers.n_classes
        if isinstance(self.n_clusters, str) and self.n_clusters == "auto":
            from fmcluster.partition.estimates.number import choose_n_clusters

            found = 1 if count_distinct(data.joint, 2) < 2 else choose_n_clusters(data)
            return max(found, least)
        asked = check_n_clusters(self.n_clusters, data.n_rows)
        if asked < least:
            raise ValueError(
                f"n_clusters={asked} is below the {least} classes of the labels: ask for at least "
                f"{least}"
            )
        distinct = count_distinct(data.spaces[0], asked) if len(data.spaces) == 1 else asked
        return check_n_clusters(asked, data.n_rows, n_distinct=distinct)

    def _finish(
        self,
        spaces: list[Rows],
        asked: int,
        *,
        keep: bool,
        whole: bool = False,
        known: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32] | None:
        """Set labels without gaps, the map from probability columns to labels, and the prior.

        With `keep` return the probabilities.
        """
        self.columns_ = np.arange(asked)
        proba = self._over_blocks(spaces, lambda p: p) if keep else None
        if proba is None:
            raw = self._over_blocks(spaces, lambda p: p.argmax(axis=1))
        else:
            raw = row_argmax(proba)
        alive, labels = np.unique(raw, return_inverse=True)
        if whole:
            alive, labels = np.arange(asked), raw
        self.columns_ = alive
        self.n_clusters_ = len(alive)
        self.labels_ = labels.astype(np.int64).reshape(-1)
        if len(alive) < asked:
            warnings.warn(
                f"head {self.name!r} kept {len(alive)} of {asked} clusters: "
                f"{asked - len(alive)} have no row; n_clusters_ says so",
                CollapseWarning,
                stacklevel=3,
            )
        prior = getattr(self, "cluster_prior_", None)
        if prior is None:
            seen = self.labels_ if known is None else self.labels_[known]
            prior = np.bincount(seen, minlength=len(alive)).astype(np.float64)
        else:
            prior = np.asarray(prior, dtype=np.float64)[alive]
        self.cluster_prior_ = prior / prior.sum()
        if proba is None or len(alive) == asked:
            return proba
        for part in row_blocks(proba):  # in place: a disk may have room for one of them
            proba[part, : len(alive)] = normalized(proba[part][:, alive])
        return proba[:, : len(alive)]

    def _over_blocks(
        self, spaces: list[Rows], take: Callable[[NDArray[Any]], NDArray[Any]]
    ) -> NDArray[Any]:
        """Apply `take` to the probabilities of each block of rows and join the answers."""
        n_rows = spaces[0].n_rows
        # Of thousands of clusters fewer rows at a time: each has some copies of all of them.
        size = min(BLOCK_ROWS, max(1, BLOCK_VALUES // len(self.columns_)))

        def block(start: int) -> NDArray[Any]:
            xs = [space[start : start + size] for space in spaces]
            for x in xs:
                check_finite_rows(x, name="X")
            proba = np.ones((len(xs[0]), 1)) if self.is_single_ else np.asarray(self._proba(xs))
            return take(normalized(proba[:, self.columns_]).astype(np.float32))

        return stacked((block(start) for start in range(0, n_rows, size)), n_rows)

    # -- saving -----------------------------------------------------------------------------

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``config.json`` and ``model.safetensors``: tensors and JSON, nothing pickled.

        A head that is there is replaced; a folder with other things in it is refused.
        """
        with replaced_folder(folder, marker="config.json", owned=SAVED) as target:
            self.write(target)

    def write(self, folder: Path) -> None:
        """Write the files of `save_pretrained` into a folder that somebody else makes whole."""
        check_is_fitted(self, "columns_")
        from safetensors.numpy import save_file

        state = {} if self.is_single_ else self._state()
        arrays = {f"state.{key}": value for key, value in state.items()}
        arrays |= {"columns": self.columns_, "cluster_prior": self.cluster_prior_}
        arrays = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
        with atomic_path(folder / "model.safetensors") as temporary:
            save_file(arrays, temporary)
        config = {
            "format": FORMAT,
            "fmcluster_version": __version__,
            "head": self.name,
            "params": plain_params(self),
            "n_features_in": int(self.n_features_in_),
            "space_dims": list(self.space_dims_),
            "n_clusters": int(self.n_clusters_),
            "weights_digest": digest_file(folder / "model.safetensors"),
        }
        write_json(folder / "config.json", config)

    @classmethod
    def _from_saved(cls, folder: Path, config: dict[str, Any]) -> Self:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        known = cls().get_params(deep=False)
        unknown = set(config["params"]) - set(known)
        if unknown:
            raise CorruptShardError(f"{folder}/config.json has unknown params {sorted(unknown)}")
        head = cls(**config["params"])
        path = safe_child(folder, "model.safetensors")
        try:
            arrays = load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise CorruptShardError(f"{path} is not a readable safetensors file: {error}") from None
        if digest_file(path) != config["weights_digest"]:
            raise CorruptShardError(f"{path} does not match the digest in config.json: fetch again")
        head.n_features_in_ = int(config["n_features_in"])
        head.space_dims_ = [int(d) for d in config["space_dims"]]
        head.columns_ = arrays["columns"]
        head.cluster_prior_ = arrays["cluster_prior"]
        head.n_clusters_ = int(config["n_clusters"])
        state = {key[6:]: value for key, value in arrays.items() if key.startswith("state.")}
        head.is_single_ = not state
        if state:
            head._load_state(state)
        return head

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "columns_")
