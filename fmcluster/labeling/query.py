"""`query`: which rows to label next, so that few labels go far.

=========== ======================================================================================
random      a uniform draw, the baseline
typical     the densest row of each of `budget` clusters (TypiClust, Hacohen et al., ICML 2022)
centroid    the row nearest each of `budget` centroids (Gupte et al., TMLR 2024)
coverage    most rows within a radius of a pick (ProbCover, Yehuda et al., NeurIPS 2022)
herding     most rows well represented, radii adapting to budget and density (see
            `fmcluster.functional.selection`)
coreset     the row farthest from all picks, again and again (Sener & Savarese, ICLR 2018)
uncertain   the lowest calibrated confidence
tail        typical rows by quotas that favour rare clusters
certify     an even draw from the most confident rows, for ``result.certify``: how far down is
            where confidence and the budget promise most certified rows
auto        `herding` while there are no labels: it covers the cluster structure; given labels,
            herding in which rows count the more, the less certain `propagate` is of them
=========== ======================================================================================

Herding and coverage work on a pool of rows that grows with the square root of the budget, so that
a million rows need no million-row neighbor graph for a budget of a few hundred.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.labeling.inputs import LabelingInput
from fmcluster.labeling.propagate import Propagated, propagate
from fmcluster.labeling.strategies import RULES, Round, confident_rows
from fmcluster.utils.validation import check_in, check_labels, label_text

__all__ = ["STRATEGIES", "Propagated", "propagate", "query"]

STRATEGIES = tuple(RULES)
# Strategies that draw each row of some set with the same chance, so that weights are known.
EVEN = ("random", "certify")


def query(
    result: Any,
    budget: int = 200,
    *,
    strategy: str = "auto",
    labeled: ArrayLike | Mapping[Any, Any] | None = None,
    random_state: int = 0,
    accuracy: float = 0.95,
    return_weights: bool = False,
) -> Any:
    """Choose the rows to label next.

    Parameters
    ----------
    result : ClusterResult, EmbeddingStore or (n, d) array
        The rows; of a result also its clusters, confidence and prior.
    budget : int
        How many rows to choose.
    strategy : str
        One of `STRATEGIES`; see the module's table.
    labeled : array-like of ids, or dict of id to label, optional
        Rows labeled in earlier rounds; they are not chosen again and count as covered. With their
        labels (a dict), confidence is what `propagate` makes of them. By default the answers that
        the result holds.
    random_state : int
        Equal seeds give equal choices.
    accuracy : float
        What ``strategy="certify"`` draws for: the share that `ClusterResult.certify` will be asked
        to promise.
    return_weights : bool
        Also return 1 / the chance that each row had, for ``certify(..., weights=)``; of strategies
        that draw at random only.

    Returns
    -------
    (budget,) array
        Distinct ids of rows without a label, most valuable first; with `return_weights` a pair
        (ids, weights).

    Raises
    ------
    ValueError
        A budget below 1 or above the number of rows without a label, an unknown strategy, unknown
        or repeated ids in `labeled`, weights of a strategy that draws nothing, ``"certify"`` where
        there is no clustering to certify.

    Examples
    --------
    >>> X = np.repeat(np.eye(3), 5, axis=0) + 0.01 * np.random.default_rng(0).normal(size=(15, 3))
    >>> sorted((query(X, 3) // 5).tolist())
    [0, 1, 2]
    """
    check_in(strategy, STRATEGIES, "strategy")
    inputs = LabelingInput.of(result)
    target = None
    if labeled is None:  # go on from the answers that the result holds, of whatever types
        held = getattr(getattr(result, "answers", None), "labels", None)
        labeled = {one: label_text(told) for one, told in held.items()} if held else None
    if isinstance(labeled, Mapping):
        target = check_labels(list(labeled.values()), name="the labels in labeled")
        labeled = list(labeled)
    taken = inputs.find([] if labeled is None else labeled, name="labeled")
    unlabeled = inputs.n_rows - len(taken)
    if isinstance(budget, bool) or not isinstance(budget, (int, np.integer)):
        raise TypeError(f"budget must be an integer, got {budget!r}")
    if not 1 <= budget <= unlabeled:
        raise ValueError(
            f"budget={budget} must lie in 1..{unlabeled}: of {inputs.n_rows} rows "
            f"{len(taken)} are labeled already"
        )
    if return_weights and strategy not in EVEN:
        raise ValueError(
            f"strategy={strategy!r} draws no random sample, so that its rows have no weights: "
            f"choose one of {', '.join(map(repr, EVEN))}"
        )
    if not 0 < accuracy < 1:
        raise ValueError(f"accuracy={accuracy!r} must lie between 0 and 1, such as 0.95")
    ask = Round(inputs, int(budget), taken, target, random_state, float(accuracy))
    picks = RULES[strategy](ask)
    chosen = inputs.ids[_complete(ask, picks)]
    if not return_weights:
        return chosen
    drawn_from = len(confident_rows(ask)) if strategy == "certify" else unlabeled
    return chosen, np.full(len(chosen), drawn_from / len(chosen))


def _complete(ask: Round, picks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Fill up with random free rows where a strategy ran out of distinct ones."""
    picks = picks[: ask.budget]
    if len(picks) == ask.budget:
        return picks
    left = np.setdiff1d(ask.free, picks)
    rng = np.random.default_rng(ask.seed("fill"))
    return np.concatenate([picks, rng.choice(left, ask.budget - len(picks), replace=False)])
