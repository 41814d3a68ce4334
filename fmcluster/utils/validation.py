"""Input validation: every public function checks what it was given here, with one wording.

An error quotes what was given, says what was expected and what to do about it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.utils.blocks import by_rows, row_blocks


# Enough to find the cause by; more make an error a page.
def _some(values: NDArray[Any], limit: int = 5) -> str:
    """Render the first few values, and how many more there are."""
    head = ", ".join(str(v) for v in values[:limit].tolist())
    return head + (f" and {len(values) - limit} more" if len(values) > limit else "")


# A line of a terminal, less the words around it.
def one_line(value: Any, limit: int = 80) -> str:
    """Quote a value in one line: arrays and frames take many."""
    quoted = " ".join(repr(value).split())
    return quoted if len(quoted) <= limit else quoted[:limit] + " ..."


def listed(values: Any) -> Any:
    """Return views of a dict, sets and generators as lists: numpy takes each for one value."""
    known = hasattr(values, "__array__") or hasattr(values, "__getitem__")
    return values if known or not isinstance(values, Iterable) else list(values)


def check_matrix(
    X: ArrayLike, *, name: str = "X", min_rows: int = 1, ids: NDArray[Any] | None = None
) -> NDArray[np.floating]:
    """Return ``X`` as a finite 2-D floating array (float64 kept, all else float32).

    Raises
    ------
    ValueError
        Not 2-D, fewer than `min_rows` rows, no columns, or NaN/infinite rows, which are named
        (by `ids` where given).
    TypeError
        Not numeric.
    """
    check_unmasked(X, name=name)
    array = np.asarray(X)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be numeric, got dtype {array.dtype}: embed the data first")
    if array.ndim != 2:
        raise ValueError(
            f"{name} must be 2-D (rows, dimensions), got shape {array.shape}: "
            "one row is X.reshape(1, -1), one dimension is X.reshape(-1, 1)"
        )
    if array.shape[0] < min_rows or array.shape[1] == 0:
        raise ValueError(
            f"{name} has shape {array.shape}: at least {min_rows} row(s) and 1 column are needed"
        )
    if array.dtype != np.float64:
        array = array.astype(np.float32, copy=False)
    check_finite_rows(array, name=name, ids=ids)
    return array


def check_unmasked(array: Any, *, name: str = "X") -> None:
    """Raise ValueError where values of a masked array are hidden: whatever reads it sees them."""
    if isinstance(array, np.ma.MaskedArray) and (hidden := int(np.ma.count_masked(array))):
        raise ValueError(
            f"{name} is a masked array that hides {hidden} value(s), which would be read all the "
            "same: fill them (X.filled(value)) or leave their rows out"
        )


def check_finite_rows(
    array: NDArray[Any], *, name: str = "X", ids: NDArray[Any] | None = None
) -> None:
    """Raise ValueError that names the rows of `array` holding NaN or infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        if all(np.isfinite(array[part].sum(dtype=np.float64)) for part in row_blocks(array)):
            return
    bad = np.flatnonzero(~by_rows(lambda part: np.isfinite(part).all(axis=1), array))
    if len(bad):
        rows = bad if ids is None else np.asarray(ids)[bad]
        raise ValueError(
            f"{name} holds NaN or infinite values in {len(bad)} row(s): {_some(rows)}; "
            "drop or repair them"
        )


def check_labels(y: ArrayLike, n_rows: int | None = None, *, name: str = "labels") -> NDArray[Any]:
    """Return 1-D labels (any dtype), of length `n_rows` where that is given."""
    check_unmasked(y, name=name)
    if isinstance(y, Mapping):
        raise ValueError(
            f"{name} must be one a row in the order of the ids, got a {type(y).__name__} of "
            f"{len(y)}: give [{name}[i] for i in result.ids.tolist()]"
        )
    y = listed(y)
    try:
        array = np.asarray(y)
    except ValueError:  # lists of several lengths
        array = np.empty(len(y), dtype=object)  # type: ignore[arg-type]
        array[:] = list(y)  # type: ignore[arg-type]
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, one a row, got shape {array.shape}")
    if n_rows is not None and len(array) != n_rows:
        raise ValueError(f"{name} has {len(array)} entries for {n_rows} rows: they must be equal")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.flatnonzero(~np.isfinite(array))
        raise ValueError(f"{name} holds NaN or infinite values at position(s) {_some(bad)}")
    if array.dtype.kind in "OUS":
        _check_objects(array if isinstance(y, np.ndarray) else np.asarray(y, dtype=object), name)
    return array


def label_text(value: Any) -> str:
    """Return a class as text, as clusters are named: 1.0, as tables write it, is 1."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _check_objects(values: NDArray[Any], name: str) -> None:
    """Refuse what numpy would turn into the label "nan", or could not sort."""
    if values.dtype.kind != "O":
        return
    for row, value in enumerate(values):
        if isinstance(value, (list, tuple, dict, set, np.ndarray)):
            raise ValueError(
                f"{name} must be one a row: position {row} holds {str(value)[:40]!r} of type "
                f"{type(value).__name__}; give single values"
            )
    missing = [i for i, value in enumerate(values) if is_missing(value)]
    if missing:
        raise ValueError(
            f"{name} holds no label at position(s) {_some(np.array(missing))}: leave these rows out"
        )
    kinds = {"a number" if isinstance(v, (int, float, np.number)) else "text" for v in values}
    if len(kinds) > 1:
        raise ValueError(f"{name} holds both numbers and text, as {values[0]!r}: give one kind")


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN or what pandas has in their place."""
    # pandas' NA is neither equal nor unequal to itself.
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value


# Half precision leaves sums so near to one; what is further off is no distribution.
def check_proba(proba: ArrayLike, *, name: str = "proba", atol: float = 1e-3) -> NDArray[Any]:
    """Return probabilities (n, k): finite, in [0, 1], rows summing to one."""
    array = check_matrix(proba, name=name)
    found = by_rows(lambda p: np.stack([p.min(axis=1), p.max(axis=1), p.sum(axis=1)], 1), array)
    low, high, sums = found[:, 0].min(), found[:, 1].max(), found[:, 2]
    if low < -atol or high > 1 + atol:
        raise ValueError(f"{name} must lie in [0, 1], got values from {low:.4g} to {high:.4g}")
    worst = int(np.abs(sums - 1).argmax())
    if abs(sums[worst] - 1) > atol:
        raise ValueError(
            f"rows of {name} must sum to 1, row {worst} sums to {sums[worst]:.4g}: normalize them"
        )
    return array


def check_n_clusters(n_clusters: Any, n_rows: int, *, n_distinct: int | None = None) -> int:
    """Return the number of clusters as an int in 1..(distinct) rows."""
    if isinstance(n_clusters, bool) or not isinstance(n_clusters, (int, np.integer)):
        raise TypeError(
            f"n_clusters must be a positive integer or 'auto', got {one_line(n_clusters)} "
            f"of type {type(n_clusters).__name__}"
        )
    if n_clusters < 1:
        raise ValueError(f"n_clusters={n_clusters} must be at least 1")
    if n_clusters > n_rows:
        raise ValueError(
            f"n_clusters={n_clusters} is above the number of rows, n_samples={n_rows}: "
            "ask for fewer clusters"
        )
    if n_distinct is not None and n_clusters > n_distinct:
        raise ValueError(
            f"n_clusters={n_clusters} is above the number of distinct rows, {n_distinct} "
            f"(of {n_rows}): ask for at most {n_distinct}"
        )
    return int(n_clusters)


def check_prior(prior: ArrayLike, n_clusters: int, *, name: str = "cluster_prior") -> NDArray[Any]:
    """Return cluster shares (k,) float64: positive, summing to one."""
    array = np.asarray(prior, dtype=np.float64)
    if array.shape != (n_clusters,):
        raise ValueError(f"{name} has shape {array.shape}, expected ({n_clusters},)")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite values: {_some(array)}")
    if array.min() <= 0:
        where = int(array.argmin())
        raise ValueError(
            f"{name} must be positive, entry {where} is {array[where]:.4g}: "
            "give every cluster a share above zero"
        )
    # Four digits written out still sum so near to one.
    if abs(array.sum() - 1) > 1e-4:
        raise ValueError(f"{name} must sum to 1, it sums to {array.sum():.6g}: divide it by that")
    return array / array.sum()


def check_in(value: Any, options: Collection[Any], name: str) -> Any:
    """Return `value` if it is one of `options`."""
    if not isinstance(value, Hashable) or value not in options:  # a frame equals nothing
        listed = ", ".join(repr(option) for option in options)
        raise ValueError(f"{name}={one_line(value)} is not known: choose one of {listed}")
    return value


def check_counts(arguments: Any) -> None:
    """Refuse fields of a dataclass that are declared as whole numbers and hold something else.

    Half an epoch would be rounded or left out in silence, or end in words that name no argument.
    """
    for each in dataclasses.fields(arguments):
        kind = each.type if isinstance(each.type, str) else each.type.__name__
        value = getattr(arguments, each.name)
        if kind == "int" or (kind == "int | None" and value is not None):
            check_range(value, each.name, whole=True)


def check_range(
    value: Any,
    name: str,
    *,
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
    whole: bool = False,
) -> Any:
    """Return the number `value` if it lies in [low, high] (or (low, high]) and is `whole`."""
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, kinds):
        asked, kind = "a whole number" if whole else "a number", type(value).__name__
        raise TypeError(f"{name} must be {asked}, got {one_line(value)} of type {kind}")
    below = low is not None and (value <= low if open_low else value < low)
    above = high is not None and value > high
    if below or above or not np.isfinite(value):
        left = "(" if open_low or low is None else "["
        bounds = f"{left}{'-inf' if low is None else low}, {'inf)' if high is None else f'{high}]'}"
        raise ValueError(f"{name}={value} is outside {bounds}")
    return value
