r"""The noise transition matrix, :math:`T_{cj} = P(\text{given } j \mid \text{true } c)`, estimated.

A class of few rows cannot tell its own row of T, so rows borrow from each other.
`estimate_transition` borrows the weight of a fixed number of rows; `adaptive_transition` lets the
counts say how alike the classes are, apart for how often a label is kept and for where a wrong one
goes:

.. math:: T_{cc} \sim \mathrm{Beta}(s_1 \bar t, s_1 (1 - \bar t)), \qquad
          T_{c, j \ne c} / (1 - T_{cc}) \sim \mathrm{Dirichlet}(s_2 b),

with :math:`s_1, s_2` where the evidence (the Dirichlet-multinomial likelihood of the counts) is
largest. Under symmetric noise they come out large and T has hardly more than one free number; under
class-pair noise :math:`s_2` comes out small and every class keeps its own partner.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

# Rows' worth of the common noise: more hides class pairs, less trusts classes of few rows.
STRENGTH = 10.0
# From trusting a single row to one noise for all classes, half a decade apart.
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
Floats = NDArray[Any]


def estimate_transition(joint: Floats, *, strength: float = STRENGTH) -> NDArray[np.float64]:
    """Return the transition matrix (k, k) from (true, given) counts, shrunk where a class is rare.

    Each row is shrunk with the weight of `strength` rows towards the noise common to all classes:
    the overall rate, spread as the given labels are.
    """
    joint = np.asarray(joint, dtype=np.float64)
    k = len(joint)
    if k == 1:
        return np.ones((1, 1))
    kept = np.trace(joint) / joint.sum()
    common = np.tile(joint.sum(axis=0) + 1e-12, (k, 1))
    np.fill_diagonal(common, 0)
    common *= (1 - kept) / common.sum(axis=1, keepdims=True)
    np.fill_diagonal(common, kept)
    return (joint + strength * common) / (joint.sum(axis=1, keepdims=True) + strength)


def adaptive_transition(joint: Floats) -> NDArray[np.float64]:
    """Return the transition matrix (k, k) from (true, given) counts, shrunk as they ask for."""
    joint = np.asarray(joint, dtype=np.float64)
    k = len(joint)
    if k == 1:
        return np.ones((1, 1))
    right = np.diag(joint).copy()
    off = joint[~np.eye(k, dtype=bool)].reshape(k, k - 1)
    wrong = off.sum(axis=1)
    kept = right.sum() / joint.sum()
    two = np.stack([right, wrong], axis=1)
    keep = _shrunk(two, np.tile([kept, 1 - kept], (k, 1)))[:, 0]
    # Where wrong labels go in all classes together; a little everywhere, for nothing is impossible.
    to = joint.sum(axis=0) - right + 1e-3 * wrong.sum() / k + 1e-9
    base = np.tile(to, (k, 1))[~np.eye(k, dtype=bool)].reshape(k, k - 1)
    base /= base.sum(axis=1, keepdims=True)
    transition = np.zeros((k, k))
    transition[~np.eye(k, dtype=bool)] = (_shrunk(off, base) * (1 - keep)[:, None]).ravel()
    transition[np.diag_indices(k)] = keep
    return transition


def _shrunk(counts: Floats, base: Floats) -> Floats:
    """Return row shares of `counts`, each row shrunk towards `base` as far as evidence says."""
    best = max(STRENGTHS, key=lambda strength: _evidence(counts, strength * base + 1e-12))
    return (counts + best * base) / (counts.sum(axis=1, keepdims=True) + best)


def _evidence(counts: Floats, prior: Floats) -> float:
    """Return the log Dirichlet-multinomial likelihood of rows of (soft) counts."""
    whole = gammaln(prior.sum(axis=1)) - gammaln(prior.sum(axis=1) + counts.sum(axis=1))
    return float((whole + (gammaln(prior + counts) - gammaln(prior)).sum(axis=1)).sum())
