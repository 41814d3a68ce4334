r"""`RobustClassifier`: a classifier on embeddings whose training labels may be wrong.

`fmcluster.functional.noise.denoise` gives each row the classes it deserves, and a softmax
regression is trained on those: first by cross-entropy on the corrected labels, then, for some
recipes, by generalised cross-entropy on a blend of corrected and given labels, which lets go of
rows that do not fit. The first fit is smooth, for it is to forget what was corrected wrongly; the
second may follow the rows more closely. The penalty on a mean loss should fall as one over the root
of the rows (Shalev-Shwartz et al., "Stochastic convex optimization", COLT 2009); as a class's
weights are earned by its own rows, the inverse strength of a summed loss is C = 60 over the root of
the rows a class.

Which recipe is best depends on the data. Corrected labels err together, where neighbors err
together; given labels err apart, and a robust loss forgives that the better the more classes there
are. So the recipes compete, fitted to two thirds of the rows and judged by how often they agree
with the *given* labels of the last third, which neither fit nor correction has seen. Where most
labels of every class are right, agreement with noisy labels ranks classifiers as agreement with
true ones would; no true label is needed. The first recipe is kept unless another is ahead by more
than the standard error of their difference.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from fmcluster.functional.noise import Denoised, denoise, stratified_folds
from fmcluster.functional.softmax import Linear, fit_softmax, softmax
from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import check_in, check_labels, check_range
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import JointRows, as_spaces, is_lazy, is_space_list, is_store

# As in `issues`: the votes of many neighbors, since two labels in five may be wrong.
N_NEIGHBORS = 50
# Each recipe is fitted so often: three is the least at which most rows are learned from.
N_FOLDS = 3
# More rows than these do not change which recipe wins, only how long that takes.
CONTEST_ROWS = 12_000
# Fewer rows per class cannot be split in three.
CONTEST_ROWS_PER_CLASS = 6
# C times the root of the rows per class, of the fit to corrected labels.
STRENGTH = 60.0
# A generalised cross-entropy pulls on few rows: it needs less of a penalty for the same fit.
ROBUST_SCALE = 5.0


class Recipe(NamedTuple):
    """How labels are corrected, and the weight of the given ones beside the corrected."""

    adaptive: bool
    trust: float


# Of recipes that agree equally often the first wins: smoother ones stand before trusting ones.
# Trust: none, half and most of what is given.
RECIPES = (
    Recipe(True, 0.5),
    Recipe(True, 0.0),
    Recipe(False, 0.0),
    Recipe(True, 0.8),
    Recipe(False, 0.8),
)


def winner(hits: dict[Recipe, NDArray[np.bool_]], favourite: Recipe) -> Recipe:
    """Return the recipe that is right most often, the favourite where it is not clearly behind."""
    best = max(hits, key=lambda recipe: int(hits[recipe].sum()))
    differ = hits[best] != hits[favourite]
    ahead = int(hits[best].sum()) - int(hits[favourite].sum())
    return best if ahead > np.sqrt(differ.sum()) else favourite


class RobustClassifier(ClassifierMixin, BaseEstimator):
    """Softmax regression trained under label noise.

    Parameters
    ----------
    C : "auto" or float
        Inverse strength of the L2 penalty of the first fit; "auto" is 60 over the root
        of the rows a class.
    robustness : float in [0, 1]
        Exponent of the generalised cross-entropy: 0 is the cross-entropy, 1 the absolute error.
    trust : "auto" or float in [0, 1]
        Weight of the given labels beside the corrected ones; "auto" lets recipes compete.
    max_iter : int
        Rounds of L-BFGS of each of the two fits.
    random_state : None, int or RandomState
        Seed of the folds.

    Attributes
    ----------
    classes_ : (k,) array
        Classes in the order of the probabilities.
    noise_rate_ : float
        Estimated share of wrong training labels.
    transition_ : (k, k) float64
        Row c: the labels that class c was given.
    label_quality_ : (n,) float64
        Probability that each training label is right.
    trust_ : float
        The weight that was used.
    agreement_ : dict of (bool, float) to float
        Agreement with held-out given labels of each recipe (adaptive channel, trust) that competed;
        empty where none did.
    C_ : float
        The inverse strength that was used.
    coef_ : (k, d), intercept_ : (k,)
        The linear map, for rows as given.
    n_iter_ : int
        Rounds of L-BFGS that both fits took.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 50)
    >>> X = np.eye(2)[y] + 0.1 * rng.normal(size=(100, 2))
    >>> noisy = np.where(rng.random(100) < 0.3, 1 - y, y)
    >>> float((RobustClassifier(random_state=0).fit(X, noisy).predict(X) == y).mean())
    1.0
    """

    def __init__(
        self,
        *,
        C: Any = "auto",
        robustness: float = 0.9,
        trust: Any = "auto",
        max_iter: int = 50,
        random_state: Any = None,
    ) -> None:
        self.C = C
        self.robustness = robustness
        self.trust = trust
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any, *, clusters: ArrayLike | None = None) -> Self:
        """Learn from embeddings (n, d) and labels (n,), some of them wrong.

        Parameters
        ----------
        X : (n, d) array, store, or list of spaces
            Embeddings; several spaces are joined, here and in `predict`.
        y : (n,)
            Labels of any type.
        clusters : (n,) array-like of int, optional
            A clustering of the rows, one more piece of evidence of what a label should be.

        Raises
        ------
        ValueError
            One class only, lengths that differ, NaN or infinite values.
        """
        if isinstance(self.C, str):
            check_in(self.C, ("auto",), "C")
        else:
            check_range(self.C, "C", low=0, open_low=True)
        check_range(self.robustness, "robustness", low=0, high=1)
        if isinstance(self.trust, str):
            check_in(self.trust, ("auto",), "trust")
        else:
            check_range(self.trust, "trust", low=0, high=1)
        check_range(self.max_iter, "max_iter", low=1)
        X, y = validate_data(
            self, _matrix(X), y, dtype=[np.float32, np.float64], ensure_min_samples=2
        )
        check_classification_targets(y)
        self.classes_, given = np.unique(y, return_inverse=True)
        n_classes = len(self.classes_)
        if n_classes < 2:
            raise ValueError(
                f"y holds one class only, {self.classes_.tolist()}: a classifier needs at least two"
            )
        mean = X.mean(axis=0, dtype=np.float64)
        centered = (X - mean).astype(np.float32)
        scale = float(np.sqrt((centered.astype(np.float64) ** 2).sum(axis=1).mean())) or 1.0
        rows = centered / np.float32(scale)
        given = given.astype(np.int64)
        if clusters is not None:
            names = check_labels(clusters, len(rows), name="clusters")
            clusters = np.unique(names, return_inverse=True)[1]
        hits = self._contest(rows, given, n_classes, clusters) if self.trust == "auto" else {}
        self.agreement_ = {recipe: float(hit.mean()) for recipe, hit in hits.items()}
        recipe = RECIPES[0] if self.trust == "auto" else Recipe(True, float(self.trust))
        if hits:
            recipe = winner(hits, recipe)
        graph = KNNGraph.build(rows, k=N_NEIGHBORS)
        found = self._denoise(rows, given, n_classes, recipe.adaptive, graph, clusters)
        start = self._start(rows, found)
        model = self._finish(rows, given, found, start, recipe.trust)
        self.C_, self.trust_ = self._strength(len(rows), n_classes), recipe.trust
        self.coef_ = (model.weight / scale).T
        self.intercept_ = model.bias - mean @ self.coef_.T
        self.n_iter_ = max(1, start.n_iter + (0 if model is start else model.n_iter))
        self.noise_rate_ = found.noise_rate
        self.transition_ = found.transition
        self.label_quality_ = found.score
        return self

    def _denoise(
        self,
        rows: NDArray[np.float32],
        given: NDArray[np.int64],
        n_classes: int,
        adaptive: bool,
        graph: KNNGraph,
        clusters: NDArray[np.int64] | None,
    ) -> Denoised:
        return denoise(
            rows,
            given,
            n_classes,
            graph.indices,
            graph.similarities,
            clusters=clusters,
            # Under a channel that adapts, later rounds drift towards "all labels are right".
            n_iter=3 if adaptive else 5,
            adaptive=adaptive,
            seed=seed_of(self.random_state, "robust"),
        )

    def _strength(self, n_rows: int, n_classes: int) -> float:
        if self.C != "auto":
            return float(self.C)
        return STRENGTH * float(np.sqrt(n_classes / n_rows))

    def _start(self, rows: NDArray[np.float32], found: Denoised) -> Linear:
        C = self._strength(*found.posterior.shape)
        return fit_softmax(rows, found.posterior, C=C, max_iter=self.max_iter)

    def _finish(
        self,
        rows: NDArray[np.float32],
        given: NDArray[np.int64],
        found: Denoised,
        start: Linear,
        trust: float,
    ) -> Linear:
        """Return the fit to the blend, starting from the fit to the corrected labels."""
        if trust == 0:
            return start
        blend = (1 - trust) * found.posterior
        blend[np.arange(len(given)), given] += np.float32(trust)
        return fit_softmax(
            rows,
            blend,
            C=ROBUST_SCALE * self._strength(*found.posterior.shape),
            robustness=self.robustness,
            start=start,
            max_iter=self.max_iter,
        )

    def _contest(
        self,
        rows: NDArray[np.float32],
        given: NDArray[np.int64],
        n_classes: int,
        clusters: NDArray[np.int64] | None,
    ) -> dict[Recipe, NDArray[np.bool_]]:
        """Return where each recipe agrees with given labels that it has not seen."""
        # The standard error of a share of 50 is up to seven points: of fewer no recipe is told.
        if len(given) < max(50, CONTEST_ROWS_PER_CLASS * n_classes):
            return {}
        seed = seed_of(self.random_state, "contest")
        if len(given) > CONTEST_ROWS:
            some = np.random.default_rng(seed).choice(len(given), CONTEST_ROWS, replace=False)
            rows, given = rows[some], given[some]
            clusters = None if clusters is None else clusters[some]
        fold = stratified_folds(given, N_FOLDS, seed)
        agreed = {recipe: np.zeros(len(given), bool) for recipe in RECIPES}
        for f in range(N_FOLDS):
            train, test = rows[fold != f], rows[fold == f]
            label, answer = given[fold != f], given[fold == f]
            near = None if clusters is None else clusters[fold != f]
            graph = KNNGraph.build(train, k=N_NEIGHBORS)
            for adaptive in (True, False):
                found = self._denoise(train, label, n_classes, adaptive, graph, near)
                start = self._start(train, found)
                for recipe in (one for one in RECIPES if one.adaptive == adaptive):
                    model = self._finish(train, label, found, start, recipe.trust)
                    agreed[recipe][fold == f] = model.scores(test).argmax(axis=1) == answer
        return agreed

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Return class scores (m, k), or (m,) of the second class where there are two."""
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return class probabilities (m, k)."""
        return softmax(self._scores(X), dtype=None)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable class of each row."""
        scores = self._scores(X)
        return self.classes_[scores.argmax(axis=1)]

    def _scores(self, X: ArrayLike) -> NDArray[Any]:
        check_is_fitted(self)
        rows: Any = validate_data(self, _matrix(X), reset=False, dtype=[np.float32, np.float64])
        return Linear(self.coef_.T, self.intercept_).scores(rows.astype(np.float64, copy=False))


def _matrix(X: Any) -> Any:
    """Return rows (n, d): the one space as it is, several joined as heads see them."""
    if not (is_store(X) or is_space_list(X) or is_lazy(X)):
        return X
    spaces = as_spaces(X)
    return np.asarray(spaces[0] if len(spaces) == 1 else JointRows(spaces))


def fit_robust(emb: Any, noisy_labels: ArrayLike, *, random_state: int = 0) -> RobustClassifier:
    """Return a `RobustClassifier` fitted to embeddings and labels, some of them wrong.

    Parameters
    ----------
    emb : ClusterResult, EmbeddingStore or (n, d) array
        The rows; a result's clusters are one more piece of evidence of what a label should be.
    noisy_labels : (n,) array-like
        The given labels, of any type.
    random_state : int
        Seed of the folds.

    Raises
    ------
    ValueError
        Labels of another length, one class only, NaN or infinite embeddings, a result without
        embeddings.
    """
    clusters = getattr(emb, "labels", None) if hasattr(emb, "proba") else None
    source = emb if clusters is None else emb.embeddings
    if source is None:
        raise ValueError("the result holds no embeddings to learn from: result.attach(X) first")
    rows = _matrix(source)
    labels = check_labels(noisy_labels, len(rows), name="noisy_labels")
    return RobustClassifier(random_state=random_state).fit(rows, labels, clusters=clusters)
