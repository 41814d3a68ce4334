"""What to trust, in words: which share of the rows can be used, and which clusters may be one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.metrics import matched_correct
from fmcluster.result.expected import FROM_LABELS, PROMISED, expected
from fmcluster.result.report.confusion import Confusion

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# Calibration error of the default head without labels in percent, mean and worst of the sets of
# benchmarks/results/report.md, and how many of the rows that it took for 95 % right were right.
TYPICAL_ERROR, WORST_ERROR = 7, 13
RIGHT_LEAST, RIGHT_MOST = 80, 99
# Pairs that the sentence names; the section has the others.
NAMED = 3


def trust(
    result: ClusterResult,
    confusions: Sequence[Confusion],
    *,
    names: Sequence[str],
    y: NDArray[Any] | None = None,
) -> list[list[dict[str, Any]]]:
    """Return sentences on what of a result to trust, each as pieces of text.

    Parameters
    ----------
    confusions : sequence of Confusion
        Its pairs of clusters that are taken for one another, most first.
    names : sequence of str
        Of its clusters.
    y : (n,) array, optional
        True labels, which the estimate is held against.

    Returns
    -------
    list of list of dict
        ``{"text": ...}``, and ``"cluster"`` where the piece is a cluster's name.
    """
    sentences = [_usable(result), _by(result)]
    if y is not None and result.is_calibrated:
        sentences.append(_held_against(result, y))
    sentences.append(_may_be_one(confusions, names))
    nowhere = int((result.labels < 0).sum())
    if nowhere:
        sentences.append([_plain(f"{_rows(nowhere)} fit no cluster and are in none.")])
    return [sentence for sentence in sentences if sentence]


def _usable(result: ClusterResult) -> list[dict[str, Any]]:
    if not result.is_calibrated:
        text = (
            "How many rows are right is not known: the scores are not calibrated. Label some rows "
            "(fmcluster query chooses them) and calibrate on them."
        )
        return [_plain(text)]
    told, n = expected(result).usable, result.n_rows
    goal = f"{100 * PROMISED:.0f} %"
    if told.high * n < 1:
        return [
            _plain(f"No part of the rows can be expected to be {goal} right: look at them all.")
        ]
    if told.low == 1:
        return [_plain(f"All {n:,} rows can be used as they are at {goal}.")]
    count = round(told.value * n)
    text = f"About {_percent(told.value)} of the rows ({count:,} of {n:,}) can be used as they are"
    bounds = f"between {_percent(told.low)} and {_percent(told.high)}"
    return [_plain(f"{text} at {goal}, {bounds} if the level of the confidence is off.")]


def _by(result: ClusterResult) -> list[dict[str, Any]]:
    """Say what the estimate comes from, how far off it may be, and what would test it."""
    if not result.is_calibrated:
        return []
    about = result.provenance.get("calibration") or {}
    n_labels, n_answers = int(about.get("n_labels") or 0), len(result.answers)
    if n_answers and not str(about.get("method")).startswith(FROM_LABELS):
        origin = f"calibrated by {n_answers:,} {'answer' if n_answers == 1 else 'answers'}."
    elif n_labels:
        origin = f"calibrated on {n_labels:,} labeled rows."
    else:
        origin = (
            f"calibrated without labels. On eight sets with known classes that was {TYPICAL_ERROR} "
            f"points off in the mean and {WORST_ERROR} at worst, and of the rows that it took for "
            f"{100 * PROMISED:.0f} % right {RIGHT_LEAST} to {RIGHT_MOST} % were: the fewest where "
            "classes are much alike."
        )
    text = (
        f"That is an estimate by the confidence, which was {origin} A promise needs a random "
        "sample of labels (fmcluster certify)."
    )
    return [_plain(text)]


def _held_against(result: ClusterResult, y: NDArray[Any]) -> list[dict[str, Any]]:
    count = round(expected(result).usable.value * result.n_rows)
    correct = matched_correct(y, result.labels)
    if not count:
        return []
    chosen = np.argsort(-result.confidence, kind="stable")[:count]
    share = _percent(float(correct[chosen].mean()), digits=1)
    return [_plain(f"Held against the true labels, {share} of these rows are right.")]


def _may_be_one(confusions: Sequence[Confusion], names: Sequence[str]) -> list[dict[str, Any]]:
    found = [pair for pair in confusions if pair.may_be_one][:NAMED]
    if not found:
        return []
    pieces: list[dict[str, Any]] = []
    for pair in found:
        pieces.append(_plain("; " if pieces else ""))
        pieces.append({"text": names[pair.a], "cluster": pair.a})
        pieces.append(_plain(" and "))
        pieces.append({"text": names[pair.b], "cluster": pair.b})
    if len(found) == 1:
        return [
            *pieces[1:],
            _plain(" may be one cluster: their rows are neighbors of one another."),
        ]
    return [_plain("Of each of these pairs the two may be one cluster: "), *pieces[1:], _plain(".")]


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _percent(share: float, *, digits: int = 0) -> str:
    """Return a share in percent; of less than one percent its first digit."""
    value = 100 * share
    return f"{value:.{digits if value >= 1 or value < 0.05 else 1}f} %"


def _plain(text: str) -> dict[str, Any]:
    return {"text": text}
