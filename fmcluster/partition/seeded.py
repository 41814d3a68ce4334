r"""k-means of rows some of whose classes are known: they say where it starts, and they stay.

Centroids are matched one to one to the mean directions of the classes' known rows (Hungarian
algorithm, on cosines), so that class c is cluster c; a class whose nearest centroid is another
class's starts at its own mean. Lloyd's rounds then assign only the rows whose class is not known,

.. math:: a_i = y_i \text{ where known}, \quad
          a_i = \arg\max_k \langle x_i, c_k \rangle \text{ elsewhere}

(Basu, Banerjee, Mooney, "Semi-supervised clustering by seeding", ICML 2002).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.assignment import hungarian
from fmcluster.partition.kmeans import nearest_centroid
from fmcluster.partition.lloyd import Round, held, next_centroids, one_round
from fmcluster.utils.random import seed_of
from fmcluster.vectors.rows import unit_rows


def classes_first(
    centroids: NDArray[np.float32],
    known: NDArray[np.float32],
    target: NDArray[np.int64],
    n_classes: int,
) -> NDArray[np.float32]:
    """Return centroids (k, d) in the order of the classes, those of no class after them.

    Parameters
    ----------
    centroids : (k, d) float32
        Unit rows, at least as many as classes.
    known : (l, d) float32
        Rows whose class is known, of length one.
    target : (l,) int64
        Their classes, 0..n_classes-1.
    """
    sums = np.zeros((n_classes, centroids.shape[1]), np.float32)
    np.add.at(sums, target, known)
    means = unit_rows(sums)
    cosines = means @ centroids.T
    match = hungarian(cosines)
    first = centroids[match]
    crowded = (cosines.argmax(axis=1) != match) & (np.bincount(target, minlength=n_classes) > 0)
    first[crowded] = means[crowded]
    others = np.setdiff1d(np.arange(len(centroids)), match)
    return np.concatenate([first, centroids[others]])


def constrained_kmeans(
    X: Any,
    centroids: NDArray[np.float32],
    rows: NDArray[np.int64],
    target: NDArray[np.int64],
    n_classes: int,
    *,
    max_iter: int = 50,
    seed: int = 0,
) -> tuple[NDArray[np.float32], int]:
    """Return unit centroids (k, d), class c's at c, and the rounds taken.

    Parameters
    ----------
    X : array-like with shape and slices
        All rows; every process gives the same.
    centroids : (k, d) float32
        Where the rounds start, in any order.
    rows, target : (l,) int64
        Rows whose class is known, and their classes 0..n_classes-1.
    max_iter : int
        Rounds at most; fewer once one gains less than 1e-5 of what rows lack of cosine one.
    seed : int
        Of the directions that empty clusters take.
    """
    known = unit_rows(np.asarray(X[rows]))
    centroids = classes_first(centroids, known, target, n_classes)
    X = held(X)
    before, rounds = -np.inf, 0
    for rounds in range(1, max_iter + 1):
        found = _held(one_round(X, centroids), centroids, known, target)
        centroids = next_centroids(found, seed=seed_of(seed, "empty", rounds))
        if found.is_at_rest(before):
            break
        before = found.objective
    return centroids, rounds


def _held(
    found: Round,
    centroids: NDArray[np.float32],
    known: NDArray[np.float32],
    target: NDArray[np.int64],
) -> Round:
    """Return the sums of a round with the known rows moved from their nearest to their own."""
    nearest = nearest_centroid(known, centroids)
    sums, counts = found.sums.copy(), found.counts.copy()
    for where, sign in ((nearest, -1), (target, 1)):
        np.add.at(sums, where, sign * known)
        np.add.at(counts, where, sign)
    gain = (known * (centroids[target] - centroids[nearest])).sum()
    return Round(sums, counts.clip(min=0), found.objective + float(gain))
