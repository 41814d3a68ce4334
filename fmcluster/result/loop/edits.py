"""Edits by a person: merge, rename, move, dissolve (`split` has a file of its own).

Nothing is changed in place: each returns a new result. Its pipeline keeps the steps in order
(`editing.chain`), so that ``predict`` repeats them on new rows; the result keeps what it was before
the first, so that `undo` gives back exactly what was there. Labels, probabilities, shares and names
follow by the rules of `editing.columns`: rows that were together stay so, and of the clusters that
are not named in an edit at most the last ones change their number, to fill a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fmcluster.calibration import Calibrator
from fmcluster.result.editing.apply import (
    are_certain,
    check_cluster,
    check_name,
    check_unique,
    clustering_of,
    edited,
)
from fmcluster.result.editing.split import split
from fmcluster.result.editing.steps import Dissolve, Merge, Move, Recalibrate, Rename
from fmcluster.result.loop.levels import recalibrated_by_neighbors
from fmcluster.utils.validation import listed

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult


def edits(result: ClusterResult) -> tuple[dict[str, Any], ...]:
    """Return the log, a plain dict an edit: ``op`` and its arguments; `apply_edits` repeats it."""
    return tuple(step.log() for step in result.pipeline.edits)


def merge(
    result: ClusterResult,
    clusters: Sequence[int] | Sequence[Sequence[int]],
    *,
    name: str | Sequence[str | None] | None = None,
) -> ClusterResult:
    """Return the result with clusters joined: probabilities and shares add up.

    A merged cluster takes the smallest number of its members; a number that becomes free is taken
    by the last cluster. It is never less sure than its parts were.

    Parameters
    ----------
    clusters : sequence of int, or of sequences of int
        One group of at least two clusters, or several groups, all by their numbers before.
    name : str, or one for each group, optional
        By default that of the largest cluster in the group.

    Raises
    ------
    ValueError
        No such cluster, one that is named twice, a group of one, a name that another cluster has.
    """
    groups = _groups(result, clusters)
    several_names = isinstance(name, Iterable) and not isinstance(name, str)
    asked: list[Any] = list(name or ()) if several_names else [name]
    if len(asked) == 1 and asked[0] is None:
        asked = [None] * len(groups)
    if len(asked) != len(groups):
        raise ValueError(f"{len(asked)} name(s) for {len(groups)} group(s): give one for each")
    found = []
    for group, given in zip(groups, asked, strict=True):
        largest = max(group, key=lambda c: (result.sizes[c], -c))
        own = None if result.names is None else result.names[largest]
        own = None if own == f"cluster {largest}" else own  # no name: a number, which may change
        found.append(own if given is None else check_name(given))
    after = edited(result, Merge(tuple(groups), tuple(found)))
    check_unique(after.names, asked)
    return after


def _groups(result: ClusterResult, clusters: Any) -> list[tuple[int, ...]]:
    """Return the groups of clusters to merge, each of at least two, none named twice."""
    if isinstance(clusters, str) or not isinstance(clusters, Iterable):
        raise TypeError(f"clusters to merge are a list such as [3, 7], got {clusters!r}")
    given = list(clusters)
    if not given:
        raise ValueError("no clusters to merge were given: name at least two, such as [3, 7]")
    several = all(isinstance(each, Iterable) and not isinstance(each, str) for each in given)
    groups = [
        tuple(check_cluster(result, c) for c in group) for group in (given if several else [given])
    ]
    flat = [c for group in groups for c in group]
    twice = sorted({c for c in flat if flat.count(c) > 1})
    if twice:
        raise ValueError(
            f"cluster {twice[0]} is named more than once among {given}: once is enough"
        )
    for group in groups:
        if len(group) < 2:
            raise ValueError(f"{list(group)} is one cluster: name at least two to merge")
    return groups


def rename(result: ClusterResult, names: Mapping[int, str]) -> ClusterResult:
    """Return the result with names for some clusters, ``{3: "billing"}``.

    Raises
    ------
    ValueError
        No such cluster, an empty name, or one that two clusters would have.
    """
    if hasattr(names, "items") and not hasattr(names, "columns"):  # a Series too
        names = dict(names.items())
    if not isinstance(names, Mapping):
        raise TypeError(
            f'names are given as {{3: "billing"}}, got {str(names)[:60]!r} of type '
            f"{type(names).__name__}"
        )
    if not names:
        raise ValueError('no names were given: {3: "billing"} renames cluster 3')
    checked = tuple((check_cluster(result, c), check_name(name)) for c, name in names.items())
    after = edited(result, Rename(checked))
    check_unique(after.names, [name for _, name in checked])
    return after


def move(result: ClusterResult, ids: ArrayLike, cluster: int) -> ClusterResult:
    """Return the result with some rows put into a cluster; they are certain.

    What `predict` says of new rows stays as it was.

    Parameters
    ----------
    ids : (m,)
        Which rows, values of `result.ids`; one alone may stand without a list.
    cluster : int
        Where they belong.

    Raises
    ------
    ValueError
        No such cluster, unknown or repeated ids, no ids, or a cluster that would lose all rows.
    """
    c = check_cluster(result, cluster)
    asked = np.asarray(listed(ids)).reshape(-1)
    if not len(asked):
        raise ValueError("no ids were given: nothing would move")
    rows = result.rows_of(asked)
    labels = result.labels.copy()
    labels[rows] = c
    left = np.bincount(labels[labels >= 0], minlength=result.n_clusters)
    emptied = np.flatnonzero((left == 0) & (result.sizes > 0))
    if len(emptied):
        raise ValueError(
            f"cluster {emptied[0]} would be left without rows: use merge([{emptied[0]}, {c}]) or "
            f"dissolve({emptied[0]})"
        )
    return edited(result, Move(tuple(result.ids[rows].tolist()), c))


def dissolve(result: ClusterResult, cluster: int) -> ClusterResult:
    """Return the result without a cluster; its rows go to the next best, as `predict`'s will.

    The number that becomes free is taken by the last cluster.

    Raises
    ------
    ValueError
        No such cluster, or the only one.
    """
    c = check_cluster(result, cluster)
    if result.n_clusters == 1:
        raise ValueError("cluster 0 is the only one: its rows would belong nowhere")
    return edited(result, Dissolve.of(c, clustering_of(result)))


def recalibrated(
    result: ClusterResult,
    calibrator: Calibrator,
    names: tuple[str, ...],
    given: tuple[ArrayLike, ArrayLike, ArrayLike | None],
) -> ClusterResult:
    """Return an edited result with confidence calibrated on labels: one more step.

    Parameters
    ----------
    calibrator : Calibrator
        Fitted on the result's own confidence, without a base.
    names : tuple of str
        Names of the clusters after it.
    given : (ids, labels, weights)
        The answers it was fitted on, for the log.
    """
    before = result.provenance.get("calibration")
    ids, labels, weights = (each if each is None else np.asarray(each).tolist() for each in given)
    answers = {"ids": ids, "labels": labels, "weights": weights}
    certain = tuple(result.ids[are_certain(result)].tolist())
    return edited(result, Recalibrate(calibrator, names, answers, before, certain))


def apply_edits(result: ClusterResult, log: Iterable[Mapping[str, Any]]) -> ClusterResult:
    """Return the result after the edits of a log, such as `ClusterResult.edits` of another one.

    Raises
    ------
    ValueError
        An operation that is not known, or an edit that cannot be made; nothing is changed then.
    """
    for entry in log:
        given = {key: value for key, value in entry.items() if key != "op"}
        result = _apply(result, str(entry.get("op")), given)
    return result


def _apply(result: ClusterResult, op: str, given: dict[str, Any]) -> ClusterResult:
    try:
        match op:
            case "merge":
                return merge(result, given["clusters"], name=given.get("name"))
            case "split":
                return split(result, given["cluster"], into=given.get("into", 2))
            case "rename":
                return rename(result, {int(c): name for c, name in given["names"].items()})
            case "move":
                return move(result, given["ids"], given["cluster"])
            case "dissolve":
                return dissolve(result, given["cluster"])
            case "calibrate" if given["ids"] is None:
                return recalibrated_by_neighbors(result)
            case "calibrate":
                return result.calibrate(given["ids"], given["labels"], weights=given.get("weights"))
    except KeyError as missing:
        raise ValueError(f"edit {op!r} lacks its argument {missing}: it has {given}") from None
    raise ValueError(
        f"edit {op!r} is not known: choose one of merge, split, rename, move, dissolve, calibrate"
    )
