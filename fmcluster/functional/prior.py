r"""Cluster sizes: estimated from probabilities, described by a profile, and cut to one.

**EM** (Saerens, Latinne and Decaestecker, Neural Computation 2002). Where a classifier's
probabilities :math:`p_{ik}` were made under shares :math:`\pi^0`, the shares :math:`\pi` of the
rows at hand maximize

.. math::

    \frac1n \sum_i \log \sum_k \frac{\pi_k}{\pi^0_k} p_{ik}
        + \frac{\kappa}{nK} \sum_k \log \pi_k

over the simplex; the second term is a Dirichlet prior worth :math:`\kappa` rows of even sizes. It
is concave and every EM step raises it. It needs *calibrated* probabilities.

**Profiles.** Sorted shares :math:`s_1 \ge \dots \ge s_K` are fitted by
:math:`\log s_r = c - b(r-1)` (exponential) or :math:`\log s_r = c - a \log r` (Zipf, a power law).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.utils.validation import check_in, check_prior, check_proba, check_range

PROFILES = ("exponential", "pareto")
FITS = ("exponential", "zipf")


@dataclass(frozen=True)
class PriorEM:
    """Shares found by EM.

    Attributes
    ----------
    prior : (k,) float64
        Positive, sums to one.
    objective : (n_iter + 1,) float64
        Mean penalized log-likelihood before each step and at the end; never falls.
    status : {"converged", "max_iter"}
        Whether the last step moved the shares by less than the tolerance (L1).
    """

    prior: NDArray[np.float64]
    objective: NDArray[np.float64]
    status: str

    @property
    def n_iter(self) -> int:
        """Number of EM steps."""
        return len(self.objective) - 1


def em_prior(
    proba: ArrayLike,
    *,
    source_prior: ArrayLike | None = None,
    concentration: float = 0.0,
    max_iter: int = 1000,
    tol: float = 1e-8,
) -> PriorEM:
    """Estimate the cluster shares of the rows that calibrated probabilities were made for.

    Parameters
    ----------
    proba : (n, k) array
        Calibrated probabilities; rows sum to one.
    source_prior : (k,) array, optional
        The shares under which `proba` is calibrated: those of the rows that the classifier was
        trained on, uniform for a head with a uniform prior. By default the mean of `proba`, so
        that probabilities calibrated on these very rows are taken at their word.
    concentration : float
        Rows' worth of even sizes (kappa); it keeps every share above zero.
    max_iter, tol : int, float
        Stop after so many steps or when the shares move by less than `tol` in L1.

    Raises
    ------
    ValueError
        Probabilities out of range or not normalized, a source prior with zeros or of the wrong
        length, a negative concentration.
    """
    p = check_proba(proba).astype(np.float64)
    n, k = p.shape
    check_range(concentration, "concentration", low=0)
    # The floor gives clusters that no row speaks for a share that EM could raise again.
    source = np.maximum(p.mean(axis=0), 1e-12)
    if source_prior is not None:
        source = check_prior(source_prior, k, name="source_prior")
    likelihood = p / source
    prior = source / source.sum()
    trace = []
    status = "max_iter"
    for _ in range(max_iter):
        joint = likelihood * prior
        evidence = np.maximum(joint.sum(axis=1), 1e-300)
        trace.append(_objective(evidence, prior, concentration))
        counts = (joint / evidence[:, None]).sum(axis=0)
        new = (counts + concentration / k) / (counts.sum() + concentration)
        moved, prior = np.abs(new - prior).sum(), new
        if moved < tol:
            status = "converged"
            break
    trace.append(_objective(np.maximum(likelihood @ prior, 1e-300), prior, concentration))
    return PriorEM(prior, np.array(trace), status)


def _objective(
    evidence: NDArray[np.float64], prior: NDArray[np.float64], concentration: float
) -> float:
    penalty = concentration / len(prior) * np.log(np.maximum(prior, 1e-300)).sum()
    return float((np.log(evidence).sum() + penalty) / len(evidence))


def smoothed_shares(counts: ArrayLike, concentration: float = 0.0) -> NDArray[np.float64]:
    """Return (n_k + kappa / K) / (n + kappa): shares of counts under a Dirichlet prior."""
    n = _check_counts(counts)
    check_range(concentration, "concentration", low=0)
    return (n + concentration / len(n)) / (n.sum() + concentration)


def effective_clusters(prior: ArrayLike) -> float:
    """Return exp(entropy): K for even shares, towards one where one cluster holds everything."""
    p = _check_counts(prior)
    p = p[p > 0] / p.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


@dataclass(frozen=True)
class Profile:
    """A curve through sorted cluster shares.

    Attributes
    ----------
    kind : {"exponential", "zipf"}
    slope : float
        Fall of log share a rank (exponential) or a log rank (Zipf exponent); at least zero.
    imbalance_ratio : float
        Largest over smallest share of the curve.
    r2 : float
        Share of the variance of log sizes that the curve explains; one where sizes are even.
    total_variation : float
        Half the L1 distance between the curve's shares and the given ones.
    shares : (k,) float64
        The curve, largest first, summing to one.
    """

    kind: str
    slope: float
    imbalance_ratio: float
    r2: float
    total_variation: float
    shares: NDArray[np.float64]


def fit_profile(sizes: ArrayLike, *, kind: str = "auto") -> Profile:
    """Fit an exponential or a power-law (Zipf) profile to cluster sizes (k,), in any order.

    Least squares on log sizes; sizes below the least positive one count as half of it. ``auto``
    takes the curve with the smaller total variation to the sizes.

    Raises
    ------
    ValueError
        No sizes, negative ones, or all zero; an unknown kind.
    """
    check_in(kind, ("auto", *FITS), "kind")
    if kind == "auto":
        fits = [fit_profile(sizes, kind=one) for one in FITS]
        return min(fits, key=lambda fit: fit.total_variation)
    n = np.sort(_check_counts(sizes))[::-1]
    share = n / n.sum()
    ranks = np.arange(len(n), dtype=np.float64)
    x = ranks if kind == "exponential" else np.log(ranks + 1)
    y = np.log(np.maximum(share, share[share > 0].min() / 2))
    spread = ((x - x.mean()) ** 2).sum()
    slope = max(0.0, -float(((x - x.mean()) * (y - y.mean())).sum() / spread)) if spread else 0.0
    residual = y - y.mean() + slope * (x - x.mean())
    variance = ((y - y.mean()) ** 2).sum()
    r2 = 1.0 - float((residual**2).sum() / variance) if variance > 1e-12 else 1.0
    curve = np.exp(-slope * x)
    curve /= curve.sum()
    distance = 0.5 * float(np.abs(curve - share).sum())
    return Profile(kind, slope, float(curve[0] / curve[-1]), r2, distance, curve)


def long_tail_counts(
    n_max: int, n_classes: int, imbalance_ratio: float, *, profile: str = "exponential"
) -> NDArray[np.int64]:
    """Return class counts of a long-tailed set, largest first.

    ``exponential``: ``int(n_max * (1 / ratio) ** (c / (K - 1)))``, the published CIFAR-LT tables
    (Cui et al., CVPR 2019; Cao et al., NeurIPS 2019). ``pareto``: ``n_max * (c + 1) ** -a`` with
    the same first and last count.

    Raises
    ------
    ValueError
        A ratio below one, no classes, no rows, an unknown profile.
    """
    check_in(profile, PROFILES, "profile")
    check_range(imbalance_ratio, "imbalance_ratio", low=1)
    check_range(n_max, "n_max", low=1)
    check_range(n_classes, "n_classes", low=1)
    ranks = np.arange(n_classes)
    if n_classes == 1:
        return np.array([n_max], np.int64)
    if profile == "exponential":
        # Python's power, as in the published code: numpy's may differ in the last bit.
        counts = [int(n_max * (1 / imbalance_ratio) ** (c / (n_classes - 1.0))) for c in ranks]
    else:
        exponent = float(np.log(imbalance_ratio) / np.log(n_classes))
        counts = [int(n_max * float(c + 1) ** -exponent + 1e-9) for c in ranks]
    return np.maximum(np.array(counts, np.int64), 1)


def _check_counts(values: ArrayLike) -> NDArray[np.float64]:
    n = np.asarray(values, dtype=np.float64)
    if n.ndim != 1 or len(n) == 0:
        raise ValueError(f"sizes have shape {n.shape}, expected (clusters,)")
    if not np.isfinite(n).all() or n.min() < 0 or n.sum() <= 0:
        raise ValueError(
            f"sizes must be finite, not negative and not all zero, got {n[:5].tolist()}"
        )
    return n
