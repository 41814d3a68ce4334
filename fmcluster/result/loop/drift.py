r"""Have the data drifted? Shares of the clusters then and now, and rows unlike anything.

**Shares.** With P calibrated under the old shares :math:`\pi`, the new ones maximize
:math:`\sum_i \log \sum_k \pi'_k P_{ik} / \pi_k` over the new rows (`functional.prior`); the
interval is a bootstrap over the rows of both samples. Old rows are predicted again, by the same
pipeline as the new ones, so that no answer or move of a person counts as drift.

**Test.** If nothing drifted, old and new rows are interchangeable, and the clusters of the new rows
are a draw without replacement from those of all rows: a multivariate hypergeometric. Overall,
chi-square is held against such draws; each cluster has Fisher's exact test, and Holm's correction
for being one of k. The pipeline was fitted on the old rows alone, which the test knows nothing of:
of 120 random halves of six real sets 7.5 % had p < .05 (``kmeans`` 5, ``auto`` 10).

**Unlike anything.** Of rows like the old ones a share alpha has a conformal p-value of at most
alpha; what is beyond that share is new (`functional.conformal.excess_share`). Rows that are
discoveries are left out of the shares: they are of no cluster.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, fisher_exact, norm

from fmcluster.functional.conformal import excess_share, p_values
from fmcluster.functional.prior import em_prior
from fmcluster.result.loop.batch import novel_rows
from fmcluster.result.loop.reference import Reference, joint_rows, reference_of
from fmcluster.result.predictor import predict_rows, proba_of_prepared
from fmcluster.utils.errors import DataError
from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import check_in, check_range

if TYPE_CHECKING:
    from pandas import DataFrame

    from fmcluster.result.result import ClusterResult

Floats = NDArray[np.float64]
# Quantiles of a 95 % interval move by a tenth of its width from seed to seed.
N_BOOTSTRAP = 200
# Rows of a bootstrap draw; its deviations are scaled to the rows there are.
MOST_DRAWN = 2_000
# A p-value down to 0.0005.
N_PERMUTED = 1_999
# Of the p-values that tell rows unlike anything: enough rows of the reference lie beyond it.
ALPHA = 0.05
# Steps of EM: the shares stand still to a thousandth long before.
EM_STEPS = 100
# Rows that are discoveries are left out of the shares; see `update`.
FALSE_DISCOVERIES = 0.05
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Drift:
    """How new rows differ from those of a result.

    Attributes
    ----------
    old_share, new_share : (k,) float64
        Estimated share of each cluster among the old and the new rows that fit one.
    interval : (k, 2) float64
        Of the new share, at `level`.
    p_values, p_adjusted : (k,) float64
        That this cluster's share is the same: by itself, and as one of k (Holm).
    p_value : float
        That all shares are the same.
    unlike_anything : float
        Estimated share of new rows that fit nothing, beyond what chance would give; NaN where the
        result has neither embeddings nor a sample of them.
    unlike_interval : (float, float)
        Its interval.
    unlike_p_value : float
        That there are none.
    n_old, n_new : int
        Rows compared.
    level : float
        Coverage of the intervals.
    names : tuple of str or None
        Names of the clusters.
    """

    old_share: Floats
    new_share: Floats
    interval: Floats
    p_values: Floats
    p_adjusted: Floats
    p_value: float
    unlike_anything: float
    unlike_interval: tuple[float, float]
    unlike_p_value: float
    n_old: int
    n_new: int
    level: float = 0.95
    names: tuple[str, ...] | None = field(default=None, repr=False)

    def table(self) -> DataFrame:
        """Return a pandas table: one row a cluster, the most significant first."""
        import pandas as pd

        k = len(self.old_share)
        columns: dict[str, Any] = {
            "cluster": np.arange(k),
            "name": list(self.names or (f"cluster {c}" for c in range(k))),
            "old_share": self.old_share,
            "new_share": self.new_share,
            "low": self.interval[:, 0],
            "high": self.interval[:, 1],
            "p_value": self.p_values,
            "p_adjusted": self.p_adjusted,
        }
        order = np.argsort(self.p_values, kind="stable")
        return pd.DataFrame(columns).iloc[order].reset_index(drop=True)


def drift(
    result: ClusterResult,
    new_data: Any,
    *,
    column: str | Mapping[str, str] | None = None,
    encoder: Any = None,
    on_error: str = "raise",
    # The usual level: of twenty intervals one may miss; higher makes them wider.
    level: float = 0.95,
    random_state: int = 0,
    batch_size: int | None = None,
    device: str | None = None,
) -> Drift:
    """Compare the cluster shares of new rows with those of the result; nothing is changed.

    Parameters
    ----------
    result : ClusterResult
        With its embeddings, or as it was loaded: its own labels stand for the old rows then.
    new_data : raw rows, array, list of arrays or store
        Whatever `predict` takes.
    column : str or mapping, optional
        Column of the raw rows.
    encoder : object or path, optional
        As for `predict`.
    on_error : {"raise", "skip"}
        Rows that cannot be read: an error, or left out.
    level : float in (0, 1)
        Coverage of the intervals.
    random_state : int
        Of the bootstrap and the permutations.
    batch_size, device
        How to run the encoder.

    Returns
    -------
    Drift
        Per cluster the old share, the new share with an interval and a p-value; the share of rows
        unlike anything.

    Raises
    ------
    StoreMismatchError
        New data of another encoder.
    DataError
        No new rows that could be read.
    ValueError
        Other dimensions, `level` outside (0, 1).

    References
    ----------
    Saerens, Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a priori
    probabilities", Neural Computation 2002.
    """
    check_in(on_error, ("raise", "skip"), "on_error")
    check_range(level, "level", low=0, high=1, open_low=True)
    if level == 1:
        raise ValueError("level=1 is outside (0, 1): no interval is certain")
    found = predict_rows(
        result.pipeline,
        new_data,
        column=column,
        encoder=encoder,
        batch_size=batch_size,
        device=device,
        on_error="raise" if on_error == "raise" else "mark",
        keep_rows=True,
    )
    x = joint_rows(found.xs)
    there = np.flatnonzero(x.any(axis=1))  # of the others nothing is known
    if not len(there):
        raise DataError(f"none of the {len(x)} new rows holds anything: nothing to compare")
    x, new = x[there], found.proba[there]
    reference = reference_of(result)
    unlike = (float("nan"), (float("nan"), float("nan")), float("nan"))
    if reference is None:
        logger.warning(
            "the share of rows unlike anything is not known: the result has neither embeddings nor "
            "a sample of them; result.attach(embeddings) gives them back"
        )
    else:
        fits = ~novel_rows(reference, x, alpha=FALSE_DISCOVERIES, seed=random_state)
        unlike = _unlike(reference, x, level)
        new = new[fits] if fits.any() else new
    old = _old_proba(result)
    counts = [np.bincount(p.argmax(axis=1), minlength=result.n_clusters) for p in (old, new)]
    seed = seed_of(random_state, "drift")
    share, interval = _shares(old, new, level=level, seed=seed)
    each = np.array([_fisher(counts, c) for c in range(result.n_clusters)])
    return Drift(
        old_share=old.mean(axis=0, dtype=np.float64),
        new_share=share,
        interval=interval,
        p_values=each,
        p_adjusted=_holm(each),
        p_value=_permuted(*counts, seed=seed),
        unlike_anything=unlike[0],
        unlike_interval=unlike[1],
        unlike_p_value=unlike[2],
        n_old=len(old),
        n_new=len(new),
        level=level,
        names=result.names,
    )


def _old_proba(result: ClusterResult) -> NDArray[np.float32]:
    """Return probabilities of the rows that have a cluster, as the pipeline predicts them."""
    proba = result.proba
    if result.embeddings is not None:
        proba = proba_of_prepared(result.pipeline, result.embeddings)
    return proba[result.labels >= 0]


def _unlike(
    reference: Reference, x: NDArray[np.float32], level: float
) -> tuple[float, tuple[float, float], float]:
    """Return the share of rows unlike anything, its interval and the p-value of none."""
    p, n = p_values(reference.strangeness(x)[0], reference.scores), len(reference.scores)
    share, p_value = excess_share(p, n, ALPHA)
    hit = float((p <= ALPHA).mean())
    # Of the new rows, and of where the reference puts alpha.
    sd = np.sqrt(hit * (1 - hit) / len(p) + ALPHA * (1 - ALPHA) / n) / (1 - ALPHA)
    reach = float(norm.ppf((1 + level) / 2) * sd)
    raw = (hit - ALPHA) / (1 - ALPHA)
    return share, (max(0.0, raw - reach), float(np.clip(raw + reach, 0, 1))), p_value


def _shares(
    old: NDArray[np.float32], new: NDArray[np.float32], *, level: float, seed: int
) -> tuple[Floats, Floats]:
    """Return the new shares (k,) and their bootstrap interval (k, 2)."""
    share = _em(old, new)
    generator = np.random.default_rng(seed)
    drawn = [min(len(p), MOST_DRAWN) for p in (old, new)]
    scale = np.sqrt(max(m / len(p) for m, p in zip(drawn, (old, new), strict=True)))
    found = np.empty((N_BOOTSTRAP, len(share)))
    for each in found:
        rows = [generator.integers(len(p), size=m) for p, m in zip((old, new), drawn, strict=True)]
        each[:] = _em(old[rows[0]], new[rows[1]])
    tail = (1 - level) / 2
    ends = np.quantile(found - found.mean(axis=0), [tail, 1 - tail], axis=0)
    # A share of zero is drawn as zero each time: no interval is narrower than that of its count.
    n, count = len(new), share * len(new)
    low = np.nan_to_num(beta.ppf(tail, count, n - count + 1), nan=0.0)
    high = np.nan_to_num(beta.ppf(1 - tail, count + 1, n - count), nan=1.0)
    reached = np.clip(share[:, None] + scale * ends.T, 0, 1)
    return share, np.stack(
        [np.minimum(reached[:, 0], low), np.maximum(reached[:, 1], high)], axis=1
    )


def _em(old: NDArray[np.float32], new: NDArray[np.float32]) -> Floats:
    source = np.maximum(old.mean(axis=0, dtype=np.float64), 1e-9)
    source /= source.sum()
    # Shares are shown in tenths of a percent: two digits fewer than the steps stop at.
    return em_prior(new, source_prior=source, max_iter=EM_STEPS, tol=1e-5).prior


def _fisher(counts: list[NDArray[np.int64]], cluster: int) -> float:
    inside = [int(each[cluster]) for each in counts]
    outside = [int(each.sum()) - own for each, own in zip(counts, inside, strict=True)]
    return float(fisher_exact([inside, outside]).pvalue)


def _holm(p: Floats) -> Floats:
    """Return p-values adjusted for their number, after Holm (1979)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty_like(p)
    out[order] = np.minimum(stepped, 1)
    return out


def _permuted(old: NDArray[np.int64], new: NDArray[np.int64], *, seed: int) -> float:
    """Return the p-value of chi-square under every row being as likely to be a new one."""
    both = old + new
    expected = both / both.sum() * new.sum()
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(
        both, int(new.sum()), size=N_PERMUTED
    )
    chi = [((x - expected) ** 2 / np.maximum(expected, 1e-12)).sum(axis=-1) for x in (new, drawn)]
    return float((1 + (chi[1] >= chi[0] * (1 - 1e-12)).sum()) / (N_PERMUTED + 1))
