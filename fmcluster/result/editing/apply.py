"""Put one step on a result, or take the last one off: what every edit does alike."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.result.editing.chain import Clustering, Edit, Unedited
from fmcluster.result.editing.steps import Recalibrate

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

ROWS = ("labels", "proba", "confidence", "score", "cluster_prior")


def edited(
    result: ClusterResult, edit: Edit, parts: NDArray[np.float32] | None = None
) -> ClusterResult:
    """Return the result after one more step.

    Parameters
    ----------
    result : ClusterResult
        What the step's numbers are of.
    edit : Edit
        Checked before.
    parts : (n, p) float32, optional
        Of a split: ``edit.parts`` of the rows of the result.
    """
    before = clustering_of(result)
    kept = result.unedited
    if kept is None or len(kept.rows.labels) != result.n_rows:  # rows came since: from here on
        kept = Unedited(before)
    after = edit.on_rows(before, parts, result.rows_of)
    steps = (*result.pipeline.edits, edit)
    return _with(result, after, steps, Unedited(kept.rows, (*kept.parts, parts)))


def undo(result: ClusterResult) -> ClusterResult:
    """Return the result before its last edit, equal in every bit.

    Raises
    ------
    ValueError
        There is no edit, or rows were added since.
    """
    steps, kept = result.pipeline.edits, result.unedited
    if not steps:
        raise ValueError("nothing to undo: this result has no edits")
    if kept is None or not kept.parts or len(kept.rows.labels) != result.n_rows:
        raise ValueError(
            f"the last edit ({steps[-1].op}) cannot be undone: what was before it is not kept, as "
            "rows were added since or the result was put together anew"
        )
    state = kept.rows
    for edit, parts in zip(steps[-len(kept.parts) : -1], kept.parts[:-1], strict=True):
        state = edit.on_rows(state, parts, result.rows_of)
    left = Unedited(kept.rows, kept.parts[:-1]) if len(kept.parts) > 1 else None
    return _with(result, state, steps[:-1], left, undone=steps[-1])


def clustering_of(result: ClusterResult) -> Clustering:
    """Return what an edit changes of a result."""
    return Clustering(**{name: getattr(result, name) for name in ROWS}, names=result.names)


def _with(
    result: ClusterResult,
    state: Clustering,
    steps: tuple[Edit, ...],
    kept: Unedited | None,
    *,
    undone: Edit | None = None,
) -> ClusterResult:
    provenance = {key: value for key, value in result.provenance.items() if key != "edits"}
    if steps:
        provenance["edits"] = dict(Counter(edit.op for edit in steps))
    if isinstance(undone, Recalibrate):
        provenance["calibration"] = undone.before
    elif undone is None and isinstance(steps[-1], Recalibrate) and steps[-1].calibrator is not None:
        about = steps[-1].calibrator.about()
        provenance["calibration"] = still_labeled(about, result.provenance)
    changed = result.with_pipeline(edits=steps, names=state.names, provenance=provenance)
    rows: dict[str, Any] = {name: getattr(state, name) for name in ROWS}
    return dataclasses.replace(changed, **rows, unedited=kept)


def still_labeled(about: dict[str, Any] | None, before: dict[str, Any]) -> dict[str, Any] | None:
    """Return what is known of a calibration, with the rows that an earlier one was made on.

    Clusters are named after those rows' classes still, and `certify` must not count them.
    """
    ids = ((before.get("calibration") or {}).get("labeled_ids")) or []
    return about if about is None or not ids else {**about, "labeled_ids": list(ids)}


def are_among(result: ClusterResult, ids: Sequence[Any]) -> NDArray[np.bool_]:
    """Return which rows (n,) have one of these ids; ids of no row are of none."""
    among = np.zeros(result.n_rows, bool)
    found = result.index.find(ids)
    among[found[found >= 0]] = True
    return among


def are_in_edits(result: ClusterResult, *ops: str) -> NDArray[np.bool_]:
    """Return which rows (n,) edits of these kinds were about, those before answers too."""
    before = result.provenance.get("edits_before_answers") or ()
    entries = [entry for entry in (*before, *result.edits) if entry["op"] in ops]
    return are_among(result, [one for entry in entries for one in entry.get("ids") or ()])


def are_certain(result: ClusterResult) -> NDArray[np.bool_]:
    """Return which rows (n,) are where a person put them, by an answer or a move."""
    told = are_in_edits(result, "move") | are_among(result, list(result.answers.labels))
    return told & (result.confidence == 1) & (result.labels >= 0)


def check_cluster(result: ClusterResult, cluster: Any) -> int:
    """Return a cluster's number.

    Raises
    ------
    TypeError
        It is no whole number.
    ValueError
        There is no such cluster.
    """
    if isinstance(cluster, bool) or not isinstance(cluster, (int, np.integer)):
        raise TypeError(f"a cluster is given by its number, got {cluster!r}")
    if not 0 <= cluster < result.n_clusters:
        raise ValueError(f"cluster {cluster} is outside 0..{result.n_clusters - 1}")
    return int(cluster)


def check_name(name: Any) -> str:
    """Return a name of a cluster: a text that is not empty."""
    if not isinstance(name, str):
        raise TypeError(f"a name is a text, got {name!r} of type {type(name).__name__}")
    if not name.strip():
        raise ValueError(f"name {name!r} is empty: give a text")
    return name


def check_unique(names: tuple[str, ...] | None, given: Iterable[str | None]) -> None:
    """Refuse a given name that two clusters would have."""
    counts = Counter(names or ())
    for name in given:
        if name is not None and counts[name] > 1:
            raise ValueError(
                f"name {name!r} would stand for {counts[name]} clusters: give another one"
            )
