"""Two halves of the rows: what is made of either, and how far the two say the same of a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.assignment import align_labels
from fmcluster.utils.stopping import in_threads
from fmcluster.vectors.faiss_index import one_blas_thread

Ints = NDArray[np.int64]
R = TypeVar("R")


def of_halves(n_rows: int, make: Callable[[Ints], R], *, seed: int) -> list[R]:
    """Return what `make` makes of the rows (ascending) of each of two random halves."""
    order = np.random.default_rng(seed).permutation(n_rows)
    middle = n_rows // 2

    def one(half: Ints) -> R:
        with one_blas_thread():
            return make(np.sort(half))

    return list(in_threads(one, [order[:middle], order[middle:]], most=2))


def agreement(
    first: Ints, second: Ints, n_clusters: int, weights: NDArray[np.floating] | None = None
) -> float:
    """Return the share of rows that two partitions put alike, clusters matched one to one."""
    same = first == align_labels(first, second, n_clusters=n_clusters)
    return float(np.average(same, weights=weights))
