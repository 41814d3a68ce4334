r"""Entropic optimal transport between n rows and k clusters: balanced, semi-relaxed, partial.

For scores :math:`S \in R^{n \times k}` (larger = better), row masses r, cluster shares c, total
mass :math:`\rho` and a penalty :math:`\lambda` on the cluster sizes, the plan solves

.. math::

    \max_{Q \ge 0} \langle Q, S \rangle + \varepsilon H(Q)
        - \lambda\, \mathrm{KL}(Q^T 1 \,\|\, \rho c)
    \quad \text{s.t.} \quad Q 1 \le r, \quad 1^T Q 1 = \rho .

:math:`\lambda = \infty` makes the cluster sizes exact (balanced), a finite one lets them differ
(semi-relaxed), :math:`\rho < 1` leaves mass :math:`1 - \rho` unassigned: it goes to one more,
*virtual*, cluster of score zero (partial; P2OT, Zhang et al., ICLR 2024).

With the rows normalized the only unknowns are the k column potentials g. Where
:math:`p_i = \mathrm{softmax}(S_i / \varepsilon + g)`, :math:`q(g) = \sum_i r_i p_i` and
:math:`t(g) = \rho c\, e^{-g \varepsilon / \lambda}`, the dual is concave in g with gradient
:math:`t(g) - q(g)`. It is climbed by

* Sinkhorn steps, :math:`g \leftarrow f (g + \log \rho c - \log q)`,
  :math:`f = \lambda / (\lambda + \varepsilon)`, which never fail, and
* Newton steps on the k x k curvature :math:`\mathrm{diag}(q) - \sum_i r_i p_i p_i^T` (+ the
  penalty's), estimated on a sample of the rows and kept only where they halve the error.

Both read the rows in blocks of exponentials with a row shift; scalings are absorbed into g when
they grow. Where the scores span much more than epsilon the problem is first solved at larger
epsilons (annealing), so that nothing underflows.

References: Cuturi, NeurIPS 2013; Chizat et al., Math. Comp. 2018; Schmitzer, SISC 2019;
Brauer et al., arXiv:1710.06635 (Newton).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fmcluster.functional._ot_rows import (
    Array,
    Reduce,
    Rows,
    check_row_mass,
    check_scores,
    to_numpy,
)
from fmcluster.utils.validation import check_prior, check_range

FLOAT32_TOL = 4e-6  # below it float32 column sums are noise
NEWTON_MAX_COLUMNS = 2048  # above it k x k systems cost more than they save
CURVATURE_ROWS = 4096  # least rows that the curvature is estimated on
NEWTON_STEPS = 2  # as many finish, once they work
COLUMNS_A_PASS = 15  # columns at which the curvature of all rows costs as much as a pass
SPAN = 40.0  # scores that span more than this many epsilons are annealed


@dataclass(frozen=True)
class SinkhornResult:
    """A transport plan, kept as potentials: ``plan = exp((row + scores + col) / epsilon)``.

    Attributes
    ----------
    row_potential : (n,) array
        Dual variables of the rows, in the units of the scores.
    col_potential : (k,) array
        Dual variables of the clusters, in the units of the scores.
    row_marginal : (n,) array
        Mass of each row of the plan; below the asked row mass where the plan is partial.
    col_marginal : (k,) array
        Mass of each cluster; sums to rho.
    status : {"converged", "max_iter"}
        Whether `error` came under the tolerance.
    n_iter : int
        Passes over the rows.
    error : float
        L1 distance between column sums and their targets, over rho.
    virtual_potential : float or None
        Dual variable of the virtual cluster of a partial plan.
    """

    row_potential: Array
    col_potential: Array
    row_marginal: Array
    col_marginal: Array
    status: str
    n_iter: int
    error: float
    virtual_potential: float | None = None
    _rows: Rows = field(repr=False, default=None)  # type: ignore[assignment]

    @property
    def plan(self) -> Array:
        """The plan (n, k); computed on each access, never stored."""
        return self.plan_rows(slice(None))

    def plan_rows(self, rows: slice) -> Array:
        """Return the rows of the plan that a slice of step one names, (m, k)."""
        start, stop, step = rows.indices(self._rows.n_rows)
        if step != 1:
            raise ValueError(f"rows={rows} has step {step}: plan_rows takes contiguous rows")
        return self._rows.plan(start, max(start, stop))


@dataclass(frozen=True)
class _Point:
    """Potentials g with their column sums, targets and relative L1 error."""

    g: NDArray[np.float64]
    q: NDArray[np.float64]
    target: NDArray[np.float64]
    error: float


@dataclass
class _Dual:
    """The k-dimensional problem: targets, penalties and the steps that climb it."""

    rows: Rows
    mass: NDArray[np.float64]  # target column masses, the virtual one last
    soft: NDArray[np.bool_]  # columns under the KL penalty
    penalty: float
    rho: float
    reduce: Reduce
    n_total: int
    n_iter: int = 0
    stride: int = 1  # every so many rows the curvature is estimated on

    def ratio(self) -> NDArray[np.float64]:
        """Return epsilon / lambda a column, zero where the size is exact."""
        return np.where(self.soft, self.rows.epsilon / self.penalty, 0.0)

    def center(self, g: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shift all potentials together to where the targets sum to the mass that there is.

        The plan does not see the shift, so this is exact and free; without it the shift would be
        the slowest of all directions of a semi-relaxed problem.
        """
        if not self.soft.any():
            return g - g[int(np.argmax(self.mass))]
        ratio = self.rows.epsilon / self.penalty
        logs = np.log(self.mass[self.soft]) - ratio * g[self.soft]
        top = logs.max()
        return g + (top + np.log(np.exp(logs - top).sum()) - np.log(self.rho)) / ratio

    def evaluate(self, g: NDArray[np.float64]) -> _Point:
        """Measure one point of the dual: one pass over the rows."""
        self.n_iter += 1
        g = self.center(g)
        q = np.maximum(self.reduce(self.rows.column_sums(g)), 1e-300)
        # exp(700) is near the largest float64.
        target = self.mass * np.exp(np.clip(-g * self.ratio(), -700, 700))
        return _Point(g, q, target, float(np.abs(q - target).sum() / self.rho))

    def sinkhorn_step(self, at: _Point) -> _Point:
        step = np.log(self.mass) - np.log(at.q)
        return self.evaluate((at.g + step) / (1.0 + self.ratio()))

    def newton_direction(self, at: _Point) -> NDArray[np.float64]:
        """Solve the k x k system of the sampled curvature, scaled to unit diagonal."""
        k = len(at.q)
        mean, gram = self.rows.curvature(at.g, self.stride)
        both = self.reduce(np.concatenate([mean[None], gram]))
        mean, gram = np.maximum(both[0], 1e-300), both[1:]
        root = np.sqrt(mean)
        # The shift of all potentials is left to `center`; the rank-one term pins it here.
        system = np.eye(k) * (1 + 1e-9) - gram / np.outer(root, root)
        system += np.outer(root, root) / mean.sum()
        system[np.diag_indices(k)] += self.ratio() * at.target / at.q
        root = np.sqrt(at.q)
        direction = np.linalg.solve(system, (at.target - at.q) / root) / root
        # A factor of e^20 on a column is as far as one linearization can be meant.
        return direction * min(1.0, 20.0 / max(np.abs(direction).max(), 1e-300))

    def newton_step(self, at: _Point) -> _Point | None:
        """Search along the Newton direction for a much smaller slope; None where there is none.

        Slopes, not values: near the top the value is below float32's resolution.
        """
        direction = self.newton_direction(at)
        slope = float(direction @ (at.target - at.q))
        if not np.isfinite(slope) or slope <= 0:
            return None
        length, low = 1.0, 0.0
        # Secants end sooner where the slope is near a line at all; else Sinkhorn steps go on.
        for _ in range(6):
            to = self.evaluate(at.g + length * direction)
            there = float(direction @ (to.target - to.q))
            if there >= -0.5 * slope:
                return to
            # Overshot: the dual is concave, so the secant's root lies between.
            length = max(low + 0.1 * (length - low), length * slope / (slope - there))
        return None

    def newton_pays(self, error: float, rate: float, tol: float) -> bool:
        """Return whether Sinkhorn steps that shrink the error by `rate` would cost more."""
        k = self.rows.n_cols
        if k > NEWTON_MAX_COLUMNS:
            return False
        passes = NEWTON_STEPS * (1 + k / (COLUMNS_A_PASS * self.stride))
        return rate >= 1 or np.log(tol / error) < passes * np.log(rate)

    def climb(self, g: NDArray[np.float64], tol: float, max_iter: int) -> _Point:
        """Climb until the error is under `tol` or the passes are used up."""
        at = best = self.evaluate(g)
        plain = 4  # Sinkhorn steps before the next Newton step
        backoff, rate = 4, 1.0
        self.stride = max(1, self.n_total // max(CURVATURE_ROWS, 8 * len(at.q)))
        while at.error > tol and self.n_iter < max_iter:
            if plain > 0 or not self.newton_pays(at.error, rate, tol):
                to = self.sinkhorn_step(at)
                rate, plain = to.error / at.error, plain - 1
                at = to
            else:
                step = self.newton_step(at)
                if step is None or step.error > 2 * at.error:
                    # Twice the Sinkhorn steps each time; after 64 Newton is as good as off.
                    plain, backoff = backoff, min(2 * backoff, 64)
                # Too little gained for what it cost: the curvature wants more rows.
                if step is None or step.error > 0.25 * at.error:
                    self.stride = max(1, self.stride // 2)
                at = step or at
            best = at if at.error < best.error else best
        return best


def sinkhorn(
    scores: Array,
    *,
    row_marginal: ArrayLike | None = None,
    col_marginal: ArrayLike | None = None,
    epsilon: float = 0.05,
    rho: float = 1.0,
    col_penalty: float = np.inf,
    max_iter: int = 1000,
    tol: float = 1e-5,
    init: SinkhornResult | ArrayLike | None = None,
    block_rows: int | None = None,
    reduce: Reduce | None = None,
) -> SinkhornResult:
    r"""Share n rows among k clusters: :math:`\max \langle Q, S \rangle + \varepsilon H(Q)`.

    Parameters
    ----------
    scores : (n, k) numpy array, memory map or torch tensor
        Larger = better (cost = -scores). float64 is solved in float64, all else in float32. The
        result refers to it: the plan is computed from it when asked for.
    row_marginal : (n,) array, optional
        Mass of each row, summing to one (over all processes); 1 / n by default.
    col_marginal : (k,) array, optional
        Share of each cluster, positive, summing to one; uniform by default.
    epsilon : float
        Entropy weight, in the units of the scores.
    rho : float in (0, 1]
        Total mass of the plan; below one the least certain rows are left (partly) unassigned.
    col_penalty : float
        Weight lambda of KL(sizes || rho * col_marginal); inf holds the sizes exactly.
    max_iter : int
        Passes over the rows.
    tol : float
        Stop where the L1 distance between column sums and targets is below ``tol * rho``; float32
        resolves no less than 4e-6.
    init : SinkhornResult or (k,) array, optional
        Warm start: an earlier result, or column potentials in the units of the scores.
    block_rows : int, optional
        Stream blocks of so many rows and keep nothing between passes. By default blocks fit the
        cache, and exponentials are kept while they take under 256 MB.
    reduce : callable, optional
        Sums a float64 array over processes, each of which holds some of the rows.

    Returns
    -------
    SinkhornResult
        ``.plan`` (n, k) sums to `rho`; also potentials, marginals, status and error. Arrays are
        numpy or torch as `scores` is.

    Raises
    ------
    ValueError
        Scores with NaN, a marginal of the wrong length, with zeros or not summing to one, rho
        outside (0, 1], epsilon or col_penalty not positive.

    Warns
    -----
    ConvergenceWarning
        `max_iter` passes did not reach `tol`; the status says so too.

    Examples
    --------
    >>> import numpy as np
    >>> result = sinkhorn(np.array([[1.0, 0.0], [1.0, 0.1]]), epsilon=0.01)
    >>> result.plan.round(2).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    scores = check_scores(scores)
    summed: Reduce = reduce or (lambda values: values)
    check_range(epsilon, "epsilon", low=0, open_low=True)
    check_range(rho, "rho", low=0, high=1, open_low=True)
    check_range(tol, "tol", low=0, open_low=True)
    if not col_penalty > 0:
        raise ValueError(f"col_penalty={col_penalty} must be positive (inf: exact sizes)")
    n, k = scores.shape
    n_total = int(round(float(summed(np.array([float(n)]))[0])))
    virtual = rho < 1
    rows = Rows(
        scores, check_row_mass(row_marginal, n, n_total, summed), epsilon, virtual, block_rows
    )
    rows.row_mass = rows.tensor(rows.row_mass)
    prior = np.full(k, 1.0 / k)
    if col_marginal is not None:
        prior = check_prior(to_numpy(col_marginal), k, name="col_marginal")
    mass = np.append(rho * prior, 1 - rho) if virtual else rho * prior
    soft = np.arange(len(mass)) < (k if np.isfinite(col_penalty) else 0)
    dual = _Dual(rows, mass, soft, float(col_penalty), rho, summed, n_total)
    if rows.dtype == torch.float32:
        tol = max(tol, FLOAT32_TOL)
    at = _solve(dual, _initial(init, k, virtual), tol, max_iter)
    if at.error > tol:
        _warn_not_converged(dual.n_iter, at.error, tol)
    return _result(dual, at, "converged" if at.error <= tol else "max_iter")


def _solve(dual: _Dual, init: Any, tol: float, max_iter: int) -> _Point:
    """Anneal epsilon down to the one asked for (cold starts only), climbing at each."""
    rows, epsilon = dual.rows, dual.rows.epsilon
    if init is not None:
        return dual.climb(init / epsilon, tol, max_iter)
    potential = np.zeros(rows.n_cols)
    stage = max(epsilon, _mean_span(dual) / SPAN)
    while stage > epsilon:
        rows.rescale(stage)
        # A stage need only be a start for the next, four times colder.
        at = dual.climb(potential / stage, 0.05, min(max_iter, dual.n_iter + 20))
        potential, stage = at.g * stage, max(stage / 4, epsilon)
    rows.rescale(epsilon)
    return dual.climb(potential / epsilon, tol, max_iter)


def _mean_span(dual: _Dual) -> float:
    """Mean over all rows of the distance from the best to the worst score."""
    rows, total = dual.rows, 0.0
    for start in range(0, rows.n_rows, rows.block_rows):
        block = rows.read(start, min(start + rows.block_rows, rows.n_rows))
        top, bottom = block.amax(1), block.amin(1)
        if rows.virtual:
            top, bottom = top.clamp(min=0), bottom.clamp(max=0)
        total += float((top - bottom).double().sum())
    return float(dual.reduce(np.array([total]))[0]) / dual.n_total


def _result(dual: _Dual, at: _Point, status: str) -> SinkhornResult:
    rows, k = dual.rows, dual.rows.n_real
    row_potential, row_mass = rows.finish(at.g)
    return SinkhornResult(
        row_potential=rows.native(row_potential * rows.epsilon),
        col_potential=rows.native(rows.tensor(at.g[:k] * rows.epsilon)),
        row_marginal=rows.native(row_mass),
        col_marginal=rows.native(rows.tensor(at.q[:k])),
        status=status,
        n_iter=dual.n_iter,
        error=at.error,
        virtual_potential=float(at.g[-1] * rows.epsilon) if rows.virtual else None,
        _rows=rows,
    )


def _initial(init: Any, k: int, virtual: bool) -> NDArray[np.float64] | None:
    if init is None:
        return None
    extra = 0.0
    if isinstance(init, SinkhornResult):
        extra, init = init.virtual_potential or 0.0, init.col_potential
    potential = np.asarray(to_numpy(init), dtype=np.float64)
    if potential.shape != (k,) or not np.isfinite(potential).all():
        raise ValueError(f"init has shape {potential.shape}, expected ({k},) finite potentials")
    return np.append(potential, extra) if virtual else potential


def _warn_not_converged(n_iter: int, error: float, tol: float) -> None:
    from sklearn.exceptions import ConvergenceWarning

    warnings.warn(
        f"sinkhorn stopped after {n_iter} passes at error {error:.2e} > tol={tol:.0e}: "
        "raise max_iter, epsilon or tol",
        ConvergenceWarning,
        stacklevel=3,
    )
