"""Principal components: one map, in float64, for every use of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class PCAMap:
    """Projection to principal components, in float64 so that a row's answer is its own."""

    mean: NDArray[np.float64]
    components: NDArray[np.float64]

    @classmethod
    def fit(cls, x: NDArray[np.float32], n_components: int) -> PCAMap:
        """Take the first `n_components` of rows ``x`` (n, d), fewer where the rank is lower."""
        mean = x.mean(axis=0, dtype=np.float64)
        centred = x - mean
        values, vectors = np.linalg.eigh(centred.T @ centred / len(x))
        keep = max(1, min(n_components, int((values > 1e-10 * max(values[-1], 1e-30)).sum())))
        return cls(mean, vectors[:, ::-1][:, :keep].T.copy())

    def __call__(self, x: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the projection (m, r) of rows (m, d)."""
        return (x.astype(np.float64) - self.mean) @ self.components.T

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `from_arrays` takes."""
        return {"pca_mean": self.mean, "pca_components": self.components}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> PCAMap:
        """Restore a map."""
        return cls(arrays["pca_mean"], arrays["pca_components"])


MOST_DIMS = 256


def principal_axes(centred: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (d, MOST_DIMS) leading axes of wide rows, an empty array for narrow ones."""
    if centred.shape[1] <= MOST_DIMS:
        return np.empty((0, 0), np.float32)
    scatter = (centred.T @ centred).astype(np.float64)
    _, vectors = np.linalg.eigh(scatter)
    return np.ascontiguousarray(vectors[:, : -MOST_DIMS - 1 : -1], np.float32)
