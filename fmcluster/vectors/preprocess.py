r"""Preprocessing of embeddings: center, project on principal components, whiten, normalize.

A frozen encoder's space is rarely the best for cosines: a common offset and a few loud directions
hide the rest. With :math:`x` a row, :math:`\mu` the mean, :math:`V` the leading eigenvectors of the
covariance and :math:`\lambda` their eigenvalues, the steps in the order written are

``center``  :math:`x - \mu`;  ``pca=m``  :math:`V_m^T (x - \mu)`;
``whiten``  :math:`\lambda^{-1/2} \odot V_m^T (x - \mu)`;  ``l2``  :math:`x / \|x\|`.

Moments are summed in float64 over blocks, so rows larger than memory are read once and never held.
The fitted step is part of a result: it is fingerprinted, saved, and repeated by ``predict``.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from fmcluster.utils.files import digest_bytes
from fmcluster.utils.validation import check_finite_rows
from fmcluster.vectors.pca import eigenvectors
from fmcluster.vectors.rows import BLOCK_ROWS, is_lazy, unit_rows

# Eigenvalues below this share of the largest are noise: whitening would blow them up.
EIGENVALUE_FLOOR = 1e-6


def parse_steps(steps: str) -> tuple[bool, int | None, bool, bool]:
    """Return (center, components or None, whiten, l2) of a spec such as ``"pca=64,whiten,l2"``.

    Raises
    ------
    ValueError
        An unknown step, a bad number of components, or an order that is not center, pca, whiten,
        l2.
    """
    order = ("center", "pca", "whiten", "l2")
    asked: dict[str, str] = {}
    for step in filter(None, (part.strip() for part in steps.split(","))):
        name, _, value = step.partition("=")
        if name not in order or (value and name != "pca"):
            raise ValueError(
                f"preprocess step {step!r} is not known: use center, pca=NUMBER, whiten, l2"
            )
        if any(order.index(name) <= order.index(before) for before in asked):
            raise ValueError(f"preprocess {steps!r}: the order is center, pca=NUMBER, whiten, l2")
        if name == "pca" and (not value.isdigit() or int(value) < 1):
            raise ValueError(f"preprocess step {step!r}: write pca=64 for 64 components")
        asked[name] = value
    components = int(asked["pca"]) if "pca" in asked else None
    return "center" in asked, components, "whiten" in asked, "l2" in asked


class Preprocessor(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Center, project, whiten and normalize rows, in one affine map.

    Parameters
    ----------
    steps : str
        Comma-separated, of ``center``, ``pca=NUMBER``, ``whiten``, ``l2``, in this order.

    Attributes
    ----------
    mean_ : (d,) float32
        What is subtracted.
    components_ : (m, d) float32 or None
        What the rest is projected on, scaled where it whitens.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(100, 8))
    >>> Preprocessor("pca=4,whiten,l2").fit(X).transform(X).shape
    (100, 4)
    """

    def __init__(self, steps: str = "pca=64,whiten,l2") -> None:
        self.steps = steps

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn mean and components from `X` (n, d): an array, a memory map or a store's space."""
        center, components, whiten, self.l2_ = parse_steps(self.steps)
        X = self._checked(X, reset=True)
        self.mean_ = np.zeros(X.shape[1], np.float32)
        self.components_: NDArray[np.float32] | None = None
        if not (center or components or whiten):
            return self
        total, second = np.zeros(X.shape[1]), np.zeros((X.shape[1], X.shape[1]))
        needs_covariance, n_known = bool(components) or whiten, 0
        for start in range(0, X.shape[0], BLOCK_ROWS):
            block = np.asarray(X[start : start + BLOCK_ROWS], dtype=np.float64)
            check_finite_rows(block, ids=np.arange(start, start + len(block)))
            n_known += int(block.any(axis=1).sum())
            total += block.sum(axis=0)
            if needs_covariance:
                second += block.T @ block
        n_known = n_known or 1  # rows of zeros are no rows to learn from
        mean = total / n_known
        self.mean_ = mean.astype(np.float32)
        if needs_covariance:
            covariance = second / n_known - np.outer(mean, mean)
            self.components_ = _components(covariance, components, whiten).astype(np.float32)
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the preprocessed rows (n, m) float32."""
        check_is_fitted(self, "mean_")
        X = self._checked(X, reset=False)
        return self.apply(np.asarray(X, dtype=np.float32))

    def apply(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return one block of rows preprocessed, unchecked."""
        rows = block - self.mean_
        if self.components_ is not None:
            rows = rows @ self.components_.T
        return unit_rows(rows) if self.l2_ else rows.astype(np.float32, copy=False)

    def view(self, X: Any) -> PreprocessedRows:
        """Return `X` as rows that are preprocessed when they are read."""
        check_is_fitted(self, "mean_")
        return PreprocessedRows(X, self)

    @property
    def _n_features_out(self) -> int:
        return self.n_dims_out

    @property
    def n_dims_out(self) -> int:
        """Dimensions after `transform`."""
        return len(self.mean_) if self.components_ is None else len(self.components_)

    @property
    def fingerprint(self) -> str:
        """Digest of the fitted map."""
        parts = [self.steps.encode(), self.mean_.tobytes()]
        if self.components_ is not None:
            parts.append(self.components_.tobytes())
        return digest_bytes(b"|".join(parts))

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the fitted arrays."""
        arrays = {"mean": self.mean_}
        if self.components_ is not None:
            arrays["components"] = self.components_
        return arrays

    @classmethod
    def from_state(cls, steps: str, arrays: dict[str, NDArray[Any]]) -> Self:
        """Make the fitted step again from `steps` and what `state` gave."""
        made = cls(steps)
        made.l2_ = parse_steps(steps)[3]
        made.mean_ = arrays["mean"]
        made.components_ = arrays.get("components")
        made.n_features_in_ = len(made.mean_)
        return made

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _checked(self, X: Any, *, reset: bool) -> Any:
        if is_lazy(X):
            if reset:
                self.n_features_in_ = X.shape[1]
            elif X.shape[1] != self.n_features_in_:
                raise ValueError(
                    f"X has {X.shape[1]} dimensions, the preprocessing was fitted on "
                    f"{self.n_features_in_}"
                )
            return X
        X = validate_data(
            self, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite=False
        )
        check_finite_rows(X, name="X")
        return X


class PreprocessedRows:
    """Rows of another array-like, preprocessed when read: nothing larger than a block is made.

    Rows of zeros stay zero: nothing is known of them, and centering would make them alike.
    """

    reads_on_demand: ClassVar[bool] = True

    def __init__(self, source: Any, step: Preprocessor) -> None:
        self.source, self.step = source, step
        self.shape = (source.shape[0], step.n_dims_out)
        self.dtype = np.dtype(np.float32)
        self.ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        block = np.asarray(self.source[index], dtype=np.float32)
        rows = self.step.apply(block)
        known = np.asarray(block.any(axis=-1))
        return rows if known.all() else rows * known[..., None].astype(np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        rows = np.empty(self.shape, np.float32)
        for start in range(0, self.shape[0], BLOCK_ROWS):
            rows[start : start + BLOCK_ROWS] = self[start : start + BLOCK_ROWS]
        return rows if dtype is None else rows.astype(dtype)


def _components(
    covariance: NDArray[np.float64], n_components: int | None, whiten: bool
) -> NDArray[np.float64]:
    """Return the rows that project (and whiten) centered data, signs fixed."""
    values, vectors = eigenvectors(covariance)
    kept = int((values > EIGENVALUE_FLOOR * max(values[0], 1e-300)).sum())
    # Whitening directions without variance would divide by nothing; projecting on them is harmless.
    limit = kept if whiten else len(values)
    size = max(1, min(n_components or len(values), limit))
    rows = vectors[:, :size].T
    signs = np.sign(rows[np.arange(size), np.abs(rows).argmax(axis=1)])
    rows = rows * np.where(signs == 0, 1, signs)[:, None]
    return rows / np.sqrt(values[:size])[:, None] if whiten else rows
