"""What can be estimated without labels: how many clusters, how large, how imbalanced.

Three questions, three functions, and one that makes the opposite: a long-tailed cut of labeled
data to test them on. Every estimate comes with an interval and says what the interval knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.functional.prior import (
    PROFILES,
    Profile,
    effective_clusters,
    em_prior,
    fit_profile,
    long_tail_counts,
    smoothed_shares,
)
from fmcluster.partition.candidates import sample_with_graph
from fmcluster.partition.estimates import number as _n_clusters
from fmcluster.partition.estimates import sizes as _sizes
from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import check_in, check_labels, check_proba, check_range
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.rows import as_spaces, count_distinct

# Draws behind 95 % intervals: five lie beyond each end.
N_BOOTSTRAP = 200


@dataclass(frozen=True)
class PriorEstimate:
    """Estimated cluster shares.

    Attributes
    ----------
    prior : (k,) float64
        Share of each cluster, positive, sums to one; in the order of the probabilities' columns,
        or largest first where it was estimated from embeddings.
    imbalance_ratio : float
        Largest over smallest share, the smallest counted as at least one row.
    interval : (float, float)
        95 % interval of the ratio from rows drawn again (and labels drawn from their
        probabilities). It holds sampling error and doubt, not a systematic error of the clusters.
    profile : Profile
        Exponential or power-law curve through the shares, with its goodness of fit.
    effective_clusters : float
        exp(entropy) of the shares; k where they are even.
    """

    prior: NDArray[np.float64]
    imbalance_ratio: float
    interval: tuple[float, float]
    profile: Profile
    effective_clusters: float


@dataclass(frozen=True)
class ClusterNumberEstimate:
    """Estimated number of clusters.

    Attributes
    ----------
    best : int
        The middle of the numbers whose partitions score best.
    interval : (int, int)
        Numbers that score about as well; the whole of `k_range` where the data have no more
        structure than one Gaussian.
    curve : dict
        ``k`` and ``score``, arrays of equal length.
    is_confident : bool
        False where no structure was found, or where the interval spans more than a factor of
        three: data may be cut into many fine or few coarse clusters equally well.
    """

    best: int
    interval: tuple[int, int]
    curve: dict[str, NDArray[Any]]
    is_confident: bool


def estimate_prior(
    result_or_proba: Any, *, concentration: float | None = None, random_state: int | None = 0
) -> PriorEstimate:
    """Estimate cluster shares from a result or from calibrated probabilities.

    A result's head has estimated the shares from the rows; they are taken. Probabilities alone go
    through EM (`fmcluster.functional.prior.em_prior`), which can tell no more than they do: where
    their doubt is spread over all clusters, so are the shares.

    Parameters
    ----------
    result_or_proba : ClusterResult or (n, k) array
        Probabilities are taken as calibrated: an uncalibrated, over-confident head gives the
        sizes of its own labels.
    concentration : float, optional
        Rows' worth of even sizes that keep every share above zero; half a row a cluster by
        default.
    random_state : int or None
        Of the bootstrap.

    Raises
    ------
    ValueError
        Probabilities that are not finite, in [0, 1] and normalized.
    """
    proba = check_proba(getattr(result_or_proba, "proba", result_or_proba))
    n, k = proba.shape
    weight = k / 2 if concentration is None else concentration
    known = getattr(result_or_proba, "cluster_prior", None)
    generator = np.random.default_rng(seed_of(random_state, "prior"))
    if known is not None:
        prior = smoothed_shares(n * np.asarray(known, dtype=np.float64), weight)
        return _describe(prior, n, _ratios_of_draws(prior, n, generator))
    prior = em_prior(proba, concentration=weight).prior
    edges = proba.cumsum(axis=1, dtype=np.float64)
    ratios = np.empty(N_BOOTSTRAP)
    for draw in range(N_BOOTSTRAP):
        rows = generator.integers(n, size=n)
        labels = (edges[rows] < generator.random((n, 1)) * edges[rows, -1:]).sum(axis=1)
        counts = np.bincount(np.minimum(labels, k - 1), minlength=k)
        ratios[draw] = counts.max() / max(counts.min(), 1)
    return _describe(prior, n, ratios)


def estimate_sizes(
    emb: Any, n_clusters: int, *, n_seeds: int = 2, random_state: int = 0
) -> PriorEstimate:
    """Estimate the sorted shares of `n_clusters` clusters from embeddings, without labels.

    Parameters
    ----------
    emb : (n, d) array, store, or list of spaces
    n_clusters : int
        How many clusters; see `estimate_n_clusters`.
    n_seeds : int
        Seeds over which the sorted sizes are averaged.
    """
    rows, graph, n = _rows_and_graph(emb, n_clusters, random_state)
    shares = _sizes.size_profile(
        rows, n_clusters, graph, n_seeds=n_seeds, random_state=random_state
    )
    generator = np.random.default_rng(seed_of(random_state, "sizes"))
    return _describe(shares, n, _ratios_of_draws(shares, n, generator))


def estimate_n_clusters(
    emb: Any, k_range: tuple[int, int] = (2, 200), *, n_seeds: int = 2, random_state: int = 0
) -> ClusterNumberEstimate:
    """Estimate the number of clusters of embeddings.

    Parameters
    ----------
    emb : (n, d) array, store, or list of spaces
        At most 20,000 rows are read; of more, a random sample.
    k_range : (int, int)
        Least and largest number considered; the largest is capped at a quarter of the rows.
    n_seeds : int
        Runs whose curves are averaged.

    Raises
    ------
    ValueError
        A range that is empty, reversed or starts below two; fewer than 8 rows.
    """
    ends = tuple(k_range) if isinstance(k_range, Iterable) else ()
    if len(ends) != 2 or not all(isinstance(k, (int, np.integer)) for k in ends):
        raise TypeError(f"k_range must be two whole numbers, such as (2, 200), got {k_range!r}")
    low, high = ends
    if not 2 <= low <= high:
        raise ValueError(f"k_range={k_range} must be (low, high) with 2 <= low <= high")
    rows, graph, _ = _rows_and_graph(emb, 2, random_state)
    if len(rows) < _n_clusters.FEWEST_ROWS:
        raise ValueError(
            f"n_samples={len(rows)}: at least {_n_clusters.FEWEST_ROWS} rows are needed to count "
            "clusters"
        )
    if count_distinct(rows, 2) < 2:
        raise ValueError(f"the {len(rows)} rows are all the same: there is nothing to count")
    found = _n_clusters.estimate_number(
        rows, graph, k_range=(int(low), int(high)), n_seeds=n_seeds, random_state=random_state
    )
    narrow = found.interval[1] <= 3 * found.interval[0]
    confident = found.gain >= _n_clusters.STRUCTURE and narrow
    return ClusterNumberEstimate(
        found.best, found.interval, {"k": found.k, "score": found.score}, confident
    )


def make_long_tail(
    y: ArrayLike,
    imbalance_ratio: float = 100,
    *,
    profile: str = "exponential",
    random_state: int | None = 0,
) -> NDArray[np.int64]:
    """Cut labeled data to a long tail and return the kept row indices, ascending.

    Classes are ranked in a random order; the class of rank r keeps what `long_tail_counts` says
    for the size of the largest class, or all its rows where it has fewer.

    Parameters
    ----------
    y : (n,) array
        Labels of any type.
    imbalance_ratio : float
        Largest over smallest class.
    profile : {"exponential", "pareto"}
        How sizes fall with rank.
    random_state : int or None
        Of the order of classes and of the rows kept.
    """
    labels = check_labels(y, name="y")
    if len(labels) == 0:
        raise ValueError("y has no rows: nothing can be cut")
    check_in(profile, PROFILES, "profile")
    check_range(imbalance_ratio, "imbalance_ratio", low=1)
    classes, codes = np.unique(labels, return_inverse=True)
    sizes = np.bincount(codes.ravel())
    counts = long_tail_counts(int(sizes.max()), len(classes), imbalance_ratio, profile=profile)
    generator = np.random.default_rng(seed_of(random_state, "long-tail"))
    kept = []
    for count, code in zip(counts, generator.permutation(len(classes)), strict=True):
        rows = np.flatnonzero(codes.ravel() == code)
        kept.append(generator.permutation(rows)[:count])
    return np.sort(np.concatenate(kept)).astype(np.int64)


def _rows_and_graph(emb: Any, least: int, random_state: int) -> tuple[Any, Any, int]:
    """Return unit rows (a sample of many), their neighbor graph and the number of all rows."""
    data = HeadData(as_spaces(emb), least, seed_of(random_state, "estimate"), None)
    if data.n_rows < max(2, least):
        raise ValueError(f"n_clusters={least} is above the number of rows, {data.n_rows}")
    rows, graph = sample_with_graph(data)
    return rows, graph, data.n_rows


def _ratios_of_draws(
    shares: NDArray[np.float64], n_rows: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return the imbalance ratios of counts drawn from the shares."""
    draws = generator.multinomial(n_rows, shares / shares.sum(), size=N_BOOTSTRAP)
    return draws.max(axis=1) / np.maximum(draws.min(axis=1), 1)


def _describe(
    prior: NDArray[np.float64], n_rows: int, ratios: NDArray[np.float64]
) -> PriorEstimate:
    ratio = float(prior.max() / max(prior.min(), 1.0 / n_rows))
    # The middle 95 % of the draws.
    low, high = np.quantile(ratios, [0.025, 0.975])
    interval = (float(min(low, ratio)), float(max(high, ratio)))
    profile = fit_profile(np.maximum(prior, 0.5 / n_rows))
    return PriorEstimate(prior, ratio, interval, profile, effective_clusters(prior))
