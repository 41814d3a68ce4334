r"""Which rows of a batch fit nothing: each by itself, and groups that no old row is near.

A row of a class that was never seen is rarely strange by itself: on six real sets its p-value ranks
well (AUROC .86), and a correction for many rows leaves none of it. But such rows come together.
With :math:`\bar\ell^{old}_i` and :math:`\bar\ell^{new}_i` the mean log distance of row i to its 3
nearest old and its q nearest new rows, and s the strangeness (`vectors.strangeness`),

.. math::

    r_i = \bar\ell^{old}_i - \bar\ell^{new}_i, \qquad
    z_i = \frac{1}{q+1} \sum_{j \in \{i\} \cup N^{new}_q(i)} (s_j + r_j)

z is held against the same of batches drawn from the *old* rows, a conformal p-value too: if the new
rows are like them, nothing tells such a batch from theirs. A group row must stand out by its own r
as well, for rows beside a group share its mean. What either test discovers at half the false
discovery rate fits nothing.

Measured (``benchmarks/new_rows.py``: six sets, 600 old rows, a twentieth of the classes unseen and
a sixth of the batch theirs, eight draws): 41 % of them are found, 6 % of what is found is chance
and .7 % of the other rows are named; no batch of old classes alone has any (of 48). Of old classes
of eight rows that make up a sixth of a batch 10 % are taken for new. With 2,000 old rows too, 58 %
are found and 4 % of such batches have any; s alone finds none to 3 %.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.conformal import discoveries, tail_p_values
from fmcluster.result.loop.reference import Reference
from fmcluster.utils.random import seed_of
from fmcluster.vectors.strangeness import N_NEIGHBORS, floor_of

Floats = NDArray[np.float64]
# Of the old rows so few: a small cluster that has many new rows is not unseen.
N_OLD = 3
# q grows with the batch up to eight: five find a tenth less, and a small group is not drowned.
MOST_NEAR, ROWS_PER_NEAR = 8, 15
# Rows that are compared at once; of the old rows at most a third is drawn, or they thin out.
MOST_AT_ONCE = 2_000
# Rows of drawn batches, in three batches at least: a p-value down to 0.0007, then the tail.
DRAWN = 1_500
# How a row of a group must stand out by itself: at .3 twice as much of what is found is chance.
OWN = 0.1


def novel_rows(
    reference: Reference, x: NDArray[np.float32], *, alpha: float, seed: int = 0
) -> NDArray[np.bool_]:
    """Return which of new unit rows (m, d) fit nothing, at false discovery rate `alpha`.

    Rows of zeros are not: nothing is known of them.

    Raises
    ------
    ValueError
        Other dimensions than the reference's.
    """
    if reference.x.shape[1] != x.shape[1]:
        raise ValueError(
            f"new rows have {x.shape[1]} dimensions, the result's {reference.x.shape[1]}"
        )
    out = np.zeros(len(x), np.bool_)
    known = np.flatnonzero(x.any(axis=1))
    if not len(known):
        return out
    s, cosines = reference.strangeness(x[known])
    alone = discoveries(tail_p_values(s, reference.scores), alpha / 2)
    found = alone | _in_groups(reference, x[known], s, cosines, alpha / 2, seed)
    floor = floor_of(reference.neighbors.similarities[:, :N_NEIGHBORS])
    out[known] = found & (cosines[:, 0] < 1 - floor)  # a copy of an old row fits where that does
    return out


def _in_groups(
    reference: Reference,
    x: NDArray[np.float32],
    s: Floats,
    cosines: NDArray[np.floating],
    alpha: float,
    seed: int,
) -> NDArray[np.bool_]:
    """Return which rows are of a group that no old row is near."""
    n, m = len(reference.labels), len(x)
    most = min(n // 3, MOST_AT_ONCE)
    if min(m, most) < 2:
        return np.zeros(m, np.bool_)
    generator = np.random.default_rng(seed_of(seed, "batch"))
    parts = np.array_split(generator.permutation(m), -(-m // most))
    size = min(len(parts[0]), most)
    q = int(np.clip(size // ROWS_PER_NEAR, 1, MOST_NEAR))
    floor = floor_of(reference.neighbors.similarities[:, :N_NEIGHBORS])
    old = np.log(np.maximum(1 - cosines[:, :N_OLD], floor)).mean(axis=1)
    z, r = np.empty(m), np.empty(m)
    for rows in parts:
        z[rows], r[rows] = _scores(x[rows], s[rows], old[rows], q, floor)
    drawn = []
    for _ in range(max(3, -(-DRAWN // size))):
        rows = generator.choice(n, size, replace=False)
        old = _to_others(reference, rows, floor)
        there = np.asarray(reference.x[rows], np.float32)
        drawn.append(_scores(there, reference.scores[rows], old, q, floor))
    p, own = (
        tail_p_values(found, np.concatenate(of_old))
        for found, of_old in zip((z, r), zip(*drawn, strict=True), strict=True)
    )
    return discoveries(p, alpha) & (own <= OWN)


def _scores(
    x: NDArray[np.float32], s: Floats, old: Floats, q: int, floor: float
) -> tuple[Floats, Floats]:
    """Return z and r of one batch (b, d); `old` is the mean log distance to the old rows."""
    cosines = x @ x.T
    # A row and its copies are one: a text that came ten times is no group of ten.
    cosines[cosines > 1 - floor] = -1
    near = np.argpartition(-cosines, q - 1, axis=1)[:, :q]
    distance = np.maximum(1 - np.take_along_axis(cosines, near, axis=1), floor)
    r = old - np.log(distance).mean(axis=1)
    both = s + r
    return (both + both[near].sum(axis=1)) / (q + 1), r


def _to_others(reference: Reference, rows: NDArray[np.int64], floor: float) -> Floats:
    """Return the mean log distance of reference rows to their nearest that are not among `rows`."""
    graph = reference.neighbors
    here = np.zeros(graph.n_rows, np.bool_)
    here[rows] = True
    others = ~here[graph.indices[rows]]
    kept = others & (np.cumsum(others, axis=1) <= N_OLD)
    # Where all are drawn, the last: no nearer one is left.
    kept[~kept.any(axis=1), -1] = True
    distance = np.log(np.maximum(1 - graph.similarities[rows], floor))
    return (distance * kept).sum(axis=1) / kept.sum(axis=1)
