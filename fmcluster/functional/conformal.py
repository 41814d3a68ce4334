r"""Conformal p-values: how many of n reference rows are at least as strange as this one.

.. math:: p(x) = \frac{1 + |\{i : s_i \ge s(x)\}|}{n + 1}

If x and the reference rows are exchangeable, :math:`P(p(x) \le \alpha) \le \alpha` whatever the
score s (Vovk, Gammerman and Shafer, 2005; of outliers: Bates et al., "Testing for outliers with
conformal p-values", Annals of Statistics 2023).

**False discovery rate** (Benjamini and Hochberg, JRSS B 1995). Of m p-values in rising order, the
first k are discoveries, k the largest number with

.. math:: p_{(k)} \le \alpha k / m.

Of what is found, a share of at most :math:`\alpha` is chance, on the mean; where *nothing* is to be
found, anything is with a chance of at most :math:`\alpha`. It holds for conformal p-values too,
though they share one reference (Bates et al.).

**Beyond the reference.** A conformal p-value is at least 1 / (n + 1), however strange the row: with
few reference rows no single one could ever be a discovery among many. Past the strangest of n
reference scores the p-value goes on as their upper tail does, by the mean excess :math:`\sigma`
over a high quantile (the exponential case of the peaks over a threshold, Pickands 1975):

.. math:: p(s) = \frac{1}{n + 1} \exp\Big(-\frac{s - s_{(n)}}{\sigma}\Big), \qquad s > s_{(n)}

That part is a model, not a guarantee; up to the strangest score nothing changes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import betabinom

from fmcluster.utils.validation import check_range

# Share of the reference whose mean excess tells how the tail falls, and the least rows of it.
TAIL, FEWEST_IN_TAIL = 0.1, 5


def p_values(scores: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """Return the p-values (m,) of new rows, in [1 / (n + 1), 1]; ties count against strangeness.

    Parameters
    ----------
    scores : (m,)
        How strange the new rows are; larger is stranger.
    reference : (n,)
        The same score of rows that are not strange, each made without the row itself.
    """
    ordered = np.sort(np.asarray(reference, np.float64))
    n = len(ordered)
    above = n - np.searchsorted(ordered, np.asarray(scores, np.float64), side="left")
    return np.asarray((1 + above) / (n + 1))


def own_p_values(scores: ArrayLike) -> NDArray[np.float64]:
    """Return the p-value (n,) of every row against all the others, in [1 / n, 1].

    Parameters
    ----------
    scores : (n,)
        How strange each row is among the others; larger is stranger.
    """
    values = np.asarray(scores, np.float64)
    ordered = np.sort(values)
    return np.asarray((len(ordered) - np.searchsorted(ordered, values, side="left")) / len(ordered))


def discoveries(p: ArrayLike, alpha: float) -> NDArray[np.bool_]:
    """Return which of the p-values (m,) are discoveries at false discovery rate `alpha`.

    Raises
    ------
    ValueError
        `alpha` is outside (0, 1), p-values outside [0, 1].
    """
    check_range(alpha, "alpha", low=0, high=1, open_low=True)
    values = np.asarray(p, np.float64)
    if len(values) and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"p-values lie in [0, 1], got {values.min()} to {values.max()}")
    ordered = np.sort(values)
    passed = np.flatnonzero(ordered <= alpha * np.arange(1, len(values) + 1) / max(len(values), 1))
    return values <= (ordered[passed[-1]] if len(passed) else -1.0)


def tail_p_values(scores: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """Return conformal p-values (m,) that go on falling beyond the strangest reference row.

    Parameters
    ----------
    scores : (m,)
        How strange the new rows are; larger is stranger.
    reference : (n,)
        The same of rows that are not.
    """
    s, ordered = np.asarray(scores, np.float64), np.sort(np.asarray(reference, np.float64))
    p = p_values(s, ordered)
    n_tail = max(FEWEST_IN_TAIL, int(np.ceil(TAIL * len(ordered))))
    if len(ordered) <= n_tail:
        return p
    sigma = float((ordered[-n_tail:] - ordered[-n_tail - 1]).mean())
    if sigma <= 0:
        return p
    return p * np.exp(-np.maximum(s - ordered[-1], 0) / sigma)


def excess_share(p: ArrayLike, n_reference: int, alpha: float) -> tuple[float, float]:
    r"""Return the share of rows that are no chance, and the p-value that there are none.

    Of rows like the reference a share alpha has a p-value of at most alpha: where a share F has,
    :math:`(F - \alpha) / (1 - \alpha)` are something else, if those all have (a lower bound, as
    Storey's estimate is, JRSS B 2002). How many of m new rows lie beyond the j-th strangest of n
    reference rows is exactly beta-binomial if nothing is strange.

    Parameters
    ----------
    p : (m,)
        Conformal p-values against `n_reference` rows.
    alpha : float
        In (0, 1).
    """
    values = np.asarray(p, np.float64)
    j = int(alpha * (n_reference + 1) + 1e-9)
    if j < 1:  # too few reference rows to tell a share alpha
        return 0.0, 1.0
    count = int((values <= alpha).sum())
    level = j / (n_reference + 1)
    share = max(0.0, (count / len(values) - level) / (1 - level))
    return share, float(betabinom.sf(count - 1, len(values), j, n_reference + 1 - j))
