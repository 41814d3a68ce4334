"""Principal components: one eigen-decomposition, in float64, for every use of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Axes kept of wide rows: everything behind costs in proportion to them.
MOST_DIMS = 256
# Directions with less of the largest variance are rounding: no component is made of them.
RANK_FLOOR = 1e-10
# Rows so many times fewer than dimensions go through their products with one another: at 50 rows
# of 3,072 dimensions d^3 took ten seconds.
WIDE = 4


def eigenvectors(
    moments: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return eigenvalues (d,) and eigenvectors, columns of (d, d), largest first."""
    values, vectors = np.linalg.eigh(np.asarray(moments, dtype=np.float64))
    return values[::-1], vectors[:, ::-1]


def row_eigenvectors(
    centered: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what `eigenvectors` of ``centered.T @ centered`` does, for rows (n, d).

    Of few wide rows it is had from their (n, n) products, in n^2 d instead of d^3; then only the
    directions in which they differ are returned.
    """
    if WIDE * len(centered) > centered.shape[1]:
        return eigenvectors(centered.T @ centered)
    x = np.asarray(centered, dtype=np.float64)
    values, left = eigenvectors(x @ x.T)
    kept = max(1, int((values > RANK_FLOOR * max(values[0], 1e-30)).sum()))
    return values[:kept], x.T @ (left[:, :kept] / np.sqrt(np.maximum(values[:kept], 1e-30)))


def principal_axes(centered: NDArray[np.float32], most: int = MOST_DIMS) -> NDArray[np.float32]:
    """Return (d, most) leading axes of wide rows, an empty array for narrow ones."""
    if centered.shape[1] <= most:
        return np.empty((0, 0), np.float32)
    _, vectors = row_eigenvectors(centered)
    return np.ascontiguousarray(vectors[:, :most], np.float32)


@dataclass
class PCAMap:
    """Projection to principal components, in float64 so that a row's answer is its own."""

    mean: NDArray[np.float64]
    components: NDArray[np.float64]

    @classmethod
    def fit(cls, x: NDArray[np.float32], n_components: int) -> PCAMap:
        """Take the first `n_components` of rows ``x`` (n, d), fewer where the rank is lower."""
        mean = x.mean(axis=0, dtype=np.float64)
        centered = x - mean
        values, vectors = row_eigenvectors(centered)
        rank = int((values > RANK_FLOOR * max(values[0], 1e-30)).sum())
        return cls(mean, vectors[:, : max(1, min(n_components, rank))].T.copy())

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
