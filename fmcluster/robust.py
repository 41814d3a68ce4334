"""`RobustClassifier`: a classifier on embeddings whose training labels may be wrong.

`fmcluster.functional.noise.denoise` gives each row the classes it deserves; a softmax regression is
then trained on a blend of those and the labels that were given, first by cross-entropy on the
corrected labels, then by generalised cross-entropy on the blend, which lets go of rows that no
longer fit. What the correction got wrong on purpose-built noise the given labels mend, and what
the given labels have wrong the correction mends.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from fmcluster._validation import check_range, seed_of
from fmcluster.functional.noise import denoise, softmax_rows
from fmcluster.functional.softmax import Linear, fit_softmax
from fmcluster.index import KNNGraph

N_NEIGHBOURS = 50


class RobustClassifier(ClassifierMixin, BaseEstimator):
    """Softmax regression trained under label noise.

    Parameters
    ----------
    C : float
        Inverse strength of the L2 penalty.
    robustness : float in [0, 1]
        Exponent of the generalised cross-entropy: 0 is the cross-entropy, 1 the absolute error.
    trust : float in [0, 1]
        Weight of the given labels beside the corrected ones.
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
        C: float = 10.0,
        robustness: float = 0.7,
        trust: float = 0.5,
        max_iter: int = 100,
        random_state: Any = None,
    ) -> None:
        self.C = C
        self.robustness = robustness
        self.trust = trust
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from embeddings (n, d) and labels (n,), some of them wrong.

        Raises
        ------
        ValueError
            One class only, lengths that differ, NaN or infinite values.
        """
        check_range(self.C, "C", low=0, open_low=True)
        check_range(self.robustness, "robustness", low=0, high=1)
        check_range(self.trust, "trust", low=0, high=1)
        check_range(self.max_iter, "max_iter", low=1)
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64], ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, given = np.unique(y, return_inverse=True)
        n_classes = len(self.classes_)
        if n_classes < 2:
            raise ValueError(
                f"y holds one class only, {self.classes_[0]!r}: a classifier needs at least two"
            )
        mean = X.mean(axis=0, dtype=np.float64)
        centred = (X - mean).astype(np.float32)
        scale = float(np.sqrt((centred.astype(np.float64) ** 2).sum(axis=1).mean())) or 1.0
        rows = centred / np.float32(scale)
        graph = KNNGraph.build(rows, k=N_NEIGHBOURS)
        found = denoise(
            rows,
            given.astype(np.int64),
            n_classes,
            graph.indices,
            graph.similarities,
            seed=seed_of(self.random_state, "robust"),
        )
        blend = (1 - self.trust) * found.posterior
        blend[np.arange(len(given)), given] += self.trust
        start = fit_softmax(rows, found.posterior, C=self.C, max_iter=self.max_iter)
        model = fit_softmax(
            rows,
            blend,
            C=self.C,
            robustness=self.robustness,
            start=start,
            max_iter=self.max_iter,
        )
        self.coef_ = (model.weight / scale).T
        self.intercept_ = model.bias - mean @ self.coef_.T
        self.n_iter_ = max(1, start.n_iter + model.n_iter)
        self.noise_rate_ = found.noise_rate
        self.transition_ = found.channel
        self.label_quality_ = found.score
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Return class scores (m, k), or (m,) of the second class where there are two."""
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return class probabilities (m, k)."""
        return softmax_rows(self._scores(X))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable class of each row."""
        scores = self._scores(X)
        return self.classes_[scores.argmax(axis=1)]

    def _scores(self, X: ArrayLike) -> NDArray[Any]:
        check_is_fitted(self)
        rows: Any = validate_data(self, X, reset=False, dtype=[np.float32, np.float64])
        return Linear(self.coef_.T, self.intercept_).scores(rows.astype(np.float64, copy=False))


def fit_robust(emb: Any, noisy_labels: ArrayLike, *, random_state: int = 0) -> RobustClassifier:
    """Return a `RobustClassifier` fitted to embeddings (a store or array) and labels.

    Raises
    ------
    ValueError
        Labels of another length, one class only, NaN or infinite embeddings.
    """
    return RobustClassifier(random_state=random_state).fit(np.asarray(emb), noisy_labels)
