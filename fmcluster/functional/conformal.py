r"""Conformal p-values: how many of n reference rows are at least as strange as this one.

.. math:: p(x) = \frac{1 + |\{i : s_i \ge s(x)\}|}{n + 1}

If x and the reference rows are exchangeable, :math:`P(p(x) \le \alpha) \le \alpha` whatever the
score s (Vovk, Gammerman and Shafer, 2005; of outliers: Bates et al., "Testing for outliers with
conformal p-values", Annals of Statistics 2023).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
