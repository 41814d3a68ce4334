"""What to trust, in words: which share of the rows can be used, and which clusters may be one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.functional.metrics import matched_correct
from fmcluster.result.report.confusion import Confusion

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# What "can be used as they are" means: so many of those rows are right.
PROMISED = 0.95
# Calibration error of the default head without labels in percent, the mean of five sets and the
# worst of them: benchmarks/results/calibration.md.
TYPICAL_ERROR, WORST_ERROR = 5, 15
# Pairs that the sentence names; the section has the others.
NAMED = 3


def usable(confidence: ArrayLike, accuracy: float = PROMISED) -> int:
    """Return how many of the most confident rows have a mean confidence of at least `accuracy`.

    Of calibrated confidence it is an estimate of how many rows are right so often; a promise is
    `ClusterResult.certify`'s alone.
    """
    order = np.sort(np.asarray(confidence, np.float64))[::-1]
    mean = np.cumsum(order) / np.arange(1, len(order) + 1)
    return int((mean >= accuracy).sum())


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
    result : ClusterResult
        The result.
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
    count, n = usable(result.confidence), result.n_rows
    goal = f"{100 * PROMISED:.0f} %"
    if count == 0:
        return [
            _plain(f"No part of the rows can be expected to be {goal} right: look at them all.")
        ]
    if count == n:
        return [_plain(f"All {n:,} rows can be used as they are at {goal}.")]
    share = 100 * count / n
    shown = f"{share:.0f}" if share >= 1 else f"{share:.1f}"
    text = f"About {shown} % of the rows ({count:,} of {n:,}) can be used as they are at {goal}."
    return [_plain(text)]


def _by(result: ClusterResult) -> list[dict[str, Any]]:
    """Say what the estimate comes from, how far off it may be, and what would test it."""
    if not result.is_calibrated:
        return []
    about = result.provenance.get("calibration") or {}
    n_labels, n_answers = int(about.get("n_labels") or 0), len(result.answers)
    if n_labels:
        origin = f"calibrated on {n_labels:,} labeled rows."
    elif n_answers:
        origin = f"calibrated by {n_answers:,} answers."
    else:
        origin = (
            f"calibrated without labels: that was {TYPICAL_ERROR} points off in the mean over the "
            f"sets of our benchmarks, and {WORST_ERROR} in one with many small clusters."
        )
    text = (
        f"An estimate: of the most confident rows so many should be right by their confidence, "
        f"{origin} A promise needs a random sample of labels (fmcluster certify)."
    )
    return [_plain(text)]


def _held_against(result: ClusterResult, y: NDArray[Any]) -> list[dict[str, Any]]:
    count = usable(result.confidence)
    correct = matched_correct(y, result.labels)
    if not count:
        return []
    chosen = np.argsort(-result.confidence, kind="stable")[:count]
    share = 100 * float(correct[chosen].mean())
    return [_plain(f"Held against the true labels, {share:.1f} % of these rows are right.")]


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
        return [*pieces[1:], _plain(" may be one cluster: many rows could be in either.")]
    return [_plain("Of each of these pairs the two may be one cluster: "), *pieces[1:], _plain(".")]


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _plain(text: str) -> dict[str, Any]:
    return {"text": text}
