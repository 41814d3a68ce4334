"""Two halves of the rows, and what is made of either."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

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
