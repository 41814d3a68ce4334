r"""A few labels to all rows: diffusion over the neighbor graph, then classes of one shape.

1. Diffusion (Zhou et al., "Learning with local and global consistency", NIPS 2003):
   :math:`F \leftarrow \alpha D^{-1/2} W D^{-1/2} F + (1 - \alpha) Y`.
2. Softmax regression on the labeled rows alone.
3. The product of both is a soft guess for every row; Gaussian classes with a shared covariance are
   fitted to the guesses of *all* rows, labeled rows pinned, and guess again.

Step 3 is where unlabeled rows pay: the covariance is known from all of them, the class means from
whole clusters and not from the few labeled rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags

from fmcluster.functional.noise import discriminant
from fmcluster.functional.products import diffused, product
from fmcluster.functional.softmax import BLOCK_ROWS, fit_softmax, softmax
from fmcluster.utils.stopping import check_stopped

if TYPE_CHECKING:
    import torch

# Zhou et al. take 0.99, run to the end; of 0.9 the 30 rounds leave 0.9^30 = 4 %.
ALPHA, ROUNDS = 0.9, 30
# Gaussian scores are too sharp beside log votes: unscaled they would decide alone.
DISCRIMINANT_WEIGHT = 0.2
Floats = NDArray[Any]


def affinity(indices: NDArray[Any], similarities: Floats) -> csr_matrix:
    """Return the symmetric normalized affinity (n, n) of a neighbor graph.

    A neighbor weighs exp(-gap / unit), its gap taken from the row's nearest one and the unit from
    the graph, so that the scale of the cosines does not matter.
    """
    n, k = indices.shape
    gap = similarities[:, :1] - similarities
    unit = max(float(np.median(gap[:, -1])), 1e-6)
    weight = np.exp(-gap / unit).astype(np.float32).ravel()
    directed = csr_matrix((weight, indices.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    both = (directed + directed.T).tocsr()
    scale = diags(1 / np.sqrt(np.maximum(np.asarray(both.sum(axis=1)).ravel(), 1e-12)))
    return (scale @ both @ scale).tocsr().astype(np.float32)


def spread_labels(
    x: Any,
    graph: csr_matrix,
    rows: NDArray[np.int64],
    target: NDArray[np.int64],
    n_classes: int,
    *,
    n_rounds: int = 2,
    device: torch.device | None = None,
) -> tuple[NDArray[np.float32], float]:
    """Return class scores (n, c) of all rows, rows summing to one, and how far to believe them.

    The second value is the share of unlabeled rows on which the answer agrees with the regression
    on the labeled rows alone. Two classifiers that err apart agree about as often as they are
    right (Jiang et al., "Assessing generalization of SGD via disagreement", ICLR 2022); hiding
    labeled rows instead is too hopeful, for rows chosen to be typical are easy.

    Parameters
    ----------
    x : (n, d) centered rows, read in blocks
    graph : (n, n) normalized affinity
    rows, target : (l,) int
        Labeled rows and their classes 0..n_classes-1.
    device : torch.device, optional
        Where the products over all rows are made; the processor without one.
    """
    n = x.shape[0]
    pinned = np.zeros((n, n_classes), np.float32)
    pinned[rows, target] = 1
    votes = diffused(graph, pinned, alpha=ALPHA, n_iter=ROUNDS, device=device)
    # Classes that no walk reached keep a ten thousandth of the best one's votes.
    votes += 1e-4 * votes.max(axis=1, keepdims=True) + 1e-12
    votes /= votes.sum(axis=1, keepdims=True)
    model = fit_softmax(np.asarray(x[rows], np.float32), pinned[rows])
    weight, bias = model.weight, model.bias
    guess = np.empty_like(votes)
    alone = np.empty(n, np.int64)
    # The scale that makes the regression's and the discriminant's scores comparable to log votes.
    scale = 1.0
    for turn in range(n_rounds + 1):
        check_stopped()
        for i in range(0, n, BLOCK_ROWS):
            block = np.asarray(x[i : i + BLOCK_ROWS], np.float32)
            scores = scale * (product(block, weight, device) + bias)
            if turn == 0:
                alone[i : i + BLOCK_ROWS] = scores.argmax(axis=1)
            if turn < n_rounds:
                # Neither alone may exclude a class: at worst it says one in a thousand.
                scores = np.log(softmax(scores, dtype=None) + 1e-3)
                scores += np.log(votes[i : i + BLOCK_ROWS] + 1e-3)
            guess[i : i + BLOCK_ROWS] = softmax(scores, dtype=None)
        if turn < n_rounds:
            guess[rows] = pinned[rows]
            weight, bias = _fit_discriminant(x, guess, device)
            scale = DISCRIMINANT_WEIGHT
    free = np.ones(n, bool)
    free[rows] = False
    agree = guess.argmax(axis=1)[free] == alone[free]
    return guess, float(agree.mean()) if len(agree) else 1.0


def _fit_discriminant(x: Any, guess: Floats, device: torch.device | None) -> tuple[Floats, Floats]:
    """Fit the shared-covariance discriminant to soft classes of all rows, block by block."""
    d, k = x.shape[1], guess.shape[1]
    sums, scatter = np.zeros((k, d)), np.zeros((d, d))
    for i in range(0, len(guess), BLOCK_ROWS):
        block = np.asarray(x[i : i + BLOCK_ROWS], np.float32)
        sums += product(guess[i : i + BLOCK_ROWS].T, block, device)
        scatter += product(block.T, block, device)
    return discriminant(sums, guess.sum(axis=0, dtype=np.float64), scatter)
