r"""Softmax regression on soft targets, by cross-entropy or its noise-robust generalization.

For rows :math:`x_i`, targets :math:`t_i` on the simplex and :math:`p_i = \mathrm{softmax}(W^\top
x_i + b)` minimize

.. math:: C \sum_i \sum_c t_{ic}\,\frac{1 - p_{ic}^{\,g}}{g} + \tfrac12 \lVert W\rVert^2,

whose limit :math:`g \to 0` is the cross-entropy and whose :math:`g = 1` is the mean absolute error
(Zhang & Sabuncu, "Generalized cross entropy loss", NeurIPS 2018). The problem is convex at g = 0
only: for g > 0 give a `start`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

# Rows of a pass over all rows: their scores stay small beside the rows themselves. The package's
# other block size is in `vectors`, which is no floor below this one.
BLOCK_ROWS = 8_192


class Linear(NamedTuple):
    """A linear map to class scores: ``x @ weight + bias``."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    n_iter: int = 0

    def scores(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return (m, k) class scores."""
        return x @ self.weight + self.bias


def log_softmax(scores: NDArray[Any]) -> NDArray[Any]:
    """Return the row log-softmax."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def block_loss(
    scores: NDArray[Any], targets: NDArray[Any], robustness: float
) -> tuple[float, NDArray[Any]]:
    """Return the summed loss of rows and its gradient by `scores` (m, k)."""
    log_p = log_softmax(scores)
    p = np.exp(log_p)
    if robustness == 0:
        return -float((targets * log_p).sum()), p * targets.sum(axis=1, keepdims=True) - targets
    powered = targets * np.exp(robustness * log_p)
    loss = (targets.sum() - powered.sum()) / robustness
    return float(loss), p * powered.sum(axis=1, keepdims=True) - powered


def fit_softmax(
    x: NDArray[Any],
    targets: NDArray[Any],
    *,
    C: float = 10.0,
    robustness: float = 0.0,
    start: Linear | None = None,
    max_iter: int = 100,
) -> Linear:
    """Return the regression of `targets` (n, k) on `x` (n, d), by L-BFGS over all rows.

    Parameters
    ----------
    x, targets : (n, d), (n, k)
        Rows, and their non-negative soft classes (rows need not sum to one: that is a row weight).
    C : float
        Inverse strength of the L2 penalty, as in scikit-learn.
    robustness : float in [0, 1]
        The exponent g.
    start : Linear, optional
        First guess; zeros otherwise.
    max_iter : int
        Largest number of L-BFGS rounds.
    """
    (n, d), k = x.shape, targets.shape[1]

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        both = flat.reshape(d + 1, k)
        weight = both[:-1].astype(x.dtype)
        loss, slope = 0.5 * float((both[:-1] ** 2).sum()), np.zeros_like(both)
        slope[:-1] = both[:-1]
        for i in range(0, n, BLOCK_ROWS):
            block = x[i : i + BLOCK_ROWS]
            scores = block @ weight + both[-1].astype(x.dtype)
            part, pull = block_loss(scores, targets[i : i + BLOCK_ROWS], robustness)
            loss += C * part
            slope[:-1] += C * (block.T @ pull)
            slope[-1] += C * pull.sum(axis=0)
        return loss, slope.ravel()

    first = np.zeros((d + 1, k)) if start is None else np.vstack([start.weight, start.bias])
    found = minimize(
        objective, first.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": max_iter}
    )
    both = found.x.reshape(d + 1, k)
    return Linear(both[:-1], both[-1], int(found.nit))


def softmax(scores: ArrayLike, *, dtype: Any = np.float64) -> NDArray[Any]:
    """Return the row softmax, computed in `dtype` (None: that of the scores)."""
    return softmax_in_place(np.array(scores, dtype=dtype))


def softmax_in_place(scores: NDArray[Any]) -> NDArray[Any]:
    """Turn rows of scores into their softmax, where (n, k) is too large to hold twice."""
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def normalized(proba: NDArray[Any]) -> NDArray[Any]:
    """Return rows that sum to one; even where all of a row is zero."""
    total = proba.sum(axis=1, keepdims=True)
    return np.where(total > 0, proba / np.where(total > 0, total, 1), 1 / proba.shape[1])
