r"""New rows come to a result: the old ones stay as they are, what fits nothing is told apart.

A new row gets the cluster that `predict` gives it, unless it fits nothing: by itself, or as one of
a group that no old row is near, it is a discovery at false discovery rate alpha (`batch`). A plain
threshold would call a share alpha of *any* batch novel; this calls a row novel in a batch without
novelty with a chance of about alpha.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.result.editing.columns import settle
from fmcluster.result.loop.batch import novel_rows
from fmcluster.result.loop.grow import Grow, find_clusters, fit_new_clusters, grown_columns
from fmcluster.result.loop.incoming import Batch, batch_of, source_of
from fmcluster.result.loop.joined import JoinedSource, is_readable, joined_source
from fmcluster.result.loop.outliers import check_alpha
from fmcluster.result.loop.reference import Reference, extended, joint_rows, reference_of
from fmcluster.result.naming import source_names
from fmcluster.result.naming.unique import unique_names
from fmcluster.result.predictor import predict_rows
from fmcluster.utils.blocks import by_rows, joined, row_max
from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import check_in
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import (
    JointRows,
    as_spaces,
    one_or_list,
    zero_rows,
)

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# Of what is called novel one row in twenty may be chance.
ALPHA = 0.05
logger = logging.getLogger(__name__)


def update(
    result: ClusterResult,
    new_data: Any,
    *,
    new_clusters: str | None = None,
    alpha: float = ALPHA,
    column: str | Mapping[str, str] | None = None,
    id_column: str | None = None,
    encoder: Any = None,
    on_error: str = "raise",
    on_known: str = "raise",
    batch_size: int | None = None,
    device: str | None = None,
) -> ClusterResult:
    """Return the result with new rows after the old ones, which keep label, proba and id.

    A new row gets the cluster that `predict` gives it, edits included. One that is unlike all rows
    that have a cluster gets label -1 and even probabilities, and its id is in ``grown.novel``. So
    does one of which nothing is known (a row of zeros, or one that cannot be read).

    Parameters
    ----------
    result : ClusterResult
        Of its embeddings, or the sample that is saved with it, novelty is told; without either
        none is, and a warning says so.
    new_data : raw rows, array, list of arrays or store
        Whatever `predict` takes.
    new_clusters : "auto", optional
        Cluster the rows that fit nothing, rows of the result without a cluster among them: new
        clusters k, k + 1, ..., which `predict` knows from then on. Rows that are alike to too few
        others stay -1. Rows that have a cluster keep it.
    alpha : float
        False discovery rate: of the rows called novel a share of at most about `alpha` is chance,
        and a batch without novelty has any with about that chance.
    column, id_column : str, optional
        Columns of the raw rows (of pairs a mapping) and of their ids; the latter by default as the
        result's.
    encoder : object or path, optional
        Where the encoder is an object of yours or a folder that was moved; its fingerprint is held
        against the result's.
    on_error : {"raise", "skip", "mark"}
        Rows that cannot be read: an error, left out, or kept without a cluster.
    on_known : {"raise", "skip"}
        Rows whose id the result has: an error, or left out, whatever they hold now.
    batch_size, device
        How to run the encoder.

    Returns
    -------
    ClusterResult
        Old rows first. Where neither names its rows, new ones are numbered on after the old data's
        last row. The graph is of all rows where the embeddings are at hand, else None.

    Raises
    ------
    StoreMismatchError
        New data of another encoder.
    DataError
        Ids that the result has, ids of another kind than its own, or no new rows.
    ValueError
        Other dimensions, `alpha` outside (0, 1), unknown options.

    References
    ----------
    Bates et al., "Testing for outliers with conformal p-values", Annals of Statistics 2023.
    """
    check_in(on_error, ("raise", "skip", "mark"), "on_error")
    check_in(on_known, ("raise", "skip"), "on_known")
    check_alpha(alpha)
    if new_clusters is not None:
        check_in(new_clusters, ("auto",), "new_clusters")
    source = source_of(new_data, result, column=column, id_column=id_column)
    found = predict_rows(
        result.pipeline,
        new_data if source is None else source,
        encoder=encoder,
        batch_size=batch_size,
        device=device,
        on_error="raise" if on_error == "raise" else "mark",
        keep_rows=True,
    )
    batch = batch_of(result, found, new_data, source, on_error=on_error, on_known=on_known)
    reference = reference_of(result)
    if reference is None:
        logger.warning(
            "no row can be told to fit nothing: the result has neither embeddings nor a sample of "
            "them; result.attach(embeddings) gives them back"
        )
    return _grown(result, batch, reference, alpha=alpha, with_clusters=new_clusters is not None)


def novel(result: ClusterResult) -> NDArray[Any]:
    """Ids (m,) of the rows that fit no cluster, label -1; see `update`."""
    return result.ids[result.labels < 0]


def _grown(
    result: ClusterResult,
    batch: Batch,
    reference: Reference | None,
    *,
    alpha: float,
    with_clusters: bool,
) -> ClusterResult:
    n, k = result.n_rows, result.n_clusters
    x = joint_rows(batch.xs)
    waiting = _waiting(result)
    novel = np.zeros(len(x), bool)
    if reference is not None:
        # Rows that still wait for a cluster are of the batch: new ones may be like them.
        both = np.concatenate([_unit_rows(result, waiting, x), x])
        novel = novel_rows(reference, both, alpha=alpha, seed=_seed(result))[len(waiting) :]
    nowhere = novel | ~x.any(axis=1)
    new_labels = np.where(nowhere, -1, batch.proba.argmax(axis=1)).astype(np.int64)
    labels = np.concatenate([result.labels, new_labels])
    proba = joined([result.proba, batch.proba])
    step = None
    if with_clusters and reference is not None:
        rows = np.concatenate([waiting, n + np.flatnonzero(novel)])
        step, labels, proba = _with_clusters(result, batch, reference, rows, x, labels, proba)
    if step is not None and reference is not None:
        # Without the rows of new clusters the others are another batch, and held to its own rate.
        rest = np.flatnonzero(labels[n:] < k)
        again = novel_rows(reference, x[rest], alpha=alpha, seed=_seed(result))
        back = n + rest[novel[rest] & ~again]
        labels[back] = proba[back].argmax(axis=1)
    none = labels < 0
    proba[none] = 1 / proba.shape[1]
    confidence = np.where(
        none, 1 / proba.shape[1], np.concatenate([result.confidence, proba[n:].max(axis=1)])
    )
    raw = result.head.predict_proba(one_or_list(batch.xs)).max(axis=1)
    score = np.where(none, 1 / proba.shape[1], np.concatenate([result.score, raw]))
    changed = labels[:n] != result.labels
    confidence[:n][changed] = score[:n][changed] = row_max(proba[:n])[changed]
    provenance = _provenance(result, batch, novel, proba.shape[1] - k, alpha)
    pipeline: dict[str, Any] = {"provenance": provenance}
    if step is not None:
        pipeline["edits"] = (*result.pipeline.edits, step)
        pipeline["names"] = step.named(result.names, k)
    embeddings, graph = _joined_rows(result, batch)
    came = np.flatnonzero(labels[n:] >= 0)
    grown = dataclasses.replace(
        result.with_pipeline(**pipeline),
        labels=labels,
        proba=proba,
        confidence=confidence.astype(np.float32),
        score=score.astype(np.float32),
        cluster_prior=_shares(result, labels, proba),
        ids=np.concatenate([result.ids, batch.ids]),
        graph=graph,
        embeddings=embeddings,
        source=joined_source(result.source, batch.source, batch.offset),
        reference=None if embeddings is not None else extended(result.reference, n + came, x[came]),
        unedited=None,
    )
    return grown if step is None else _named(grown, step, k, batch)


def _waiting(result: ClusterResult) -> NDArray[np.int64]:
    """Return the rows of a result that have no cluster yet, and something is known of them."""
    if result.embeddings is None:
        return np.empty(0, np.int64)
    return np.flatnonzero((result.labels < 0) & ~zero_rows(as_spaces(result.embeddings)))


def _unit_rows(
    result: ClusterResult, rows: NDArray[np.int64], like: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return unit rows of a result; none where none are asked for, whatever is at hand."""
    return JointRows(as_spaces(result.embeddings))[rows] if len(rows) else like[:0]


def _seed(result: ClusterResult) -> int:
    return seed_of(int(result.provenance.get("random_state") or 0), "update")


def _with_clusters(
    result: ClusterResult,
    batch: Batch,
    reference: Reference,
    rows: NDArray[np.int64],
    x: NDArray[np.float32],
    labels: NDArray[np.int64],
    proba: NDArray[np.float32],
) -> tuple[Grow | None, NDArray[np.int64], NDArray[np.float32]]:
    """Cluster the rows that fit nothing; return the step, and labels and probabilities with it."""
    n, k = result.n_rows, result.n_clusters
    old = rows[rows < n]
    old_x = _unit_rows(result, old, x)
    outside = np.concatenate([old_x, x[rows[rows >= n] - n]])
    groups = find_clusters(outside, reference, seed=_seed(result))
    inside = groups >= 0
    if not inside.any():
        return None, labels, proba
    model = fit_new_clusters(outside[inside], groups[inside], reference, k)
    shares = np.bincount(groups[inside]) / len(labels)
    step = Grow(None, tuple(shares.tolist()), model)
    parts = np.zeros((len(labels), len(shares)))
    parts[n:] = step.parts(batch.xs)
    parts[old[inside[: len(old)]]] = model.proba(old_x[inside[: len(old)]])
    out = by_rows(lambda p: np.pad(p, ((0, 0), (0, len(shares)))), proba)
    touched = np.flatnonzero(parts.any(axis=1))
    out[touched] = grown_columns(proba[touched], parts[touched])
    new = np.arange(len(labels)) >= n
    labels = np.where(new & (labels >= 0), out.argmax(axis=1), labels)
    labels[rows[inside]] = k + groups[inside]
    touched = np.union1d(touched, rows[inside])
    out[touched], _ = settle(out[touched], labels[touched])
    return step, labels, out


def _shares(
    result: ClusterResult, labels: NDArray[np.int64], proba: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the shares of the clusters: the old ones, and the mass of rows that came to them."""
    n, k = result.n_rows, result.n_clusters
    mass = np.zeros(proba.shape[1])
    mass[:k] = result.cluster_prior * max(int((result.labels >= 0).sum()), 1)
    came = np.flatnonzero(labels >= 0)
    came = came[(came >= n) | (labels[came] >= k)]
    mass += proba[came].sum(axis=0, dtype=np.float64)
    return mass / mass.sum()


def _joined_rows(result: ClusterResult, batch: Batch) -> tuple[Any, KNNGraph | None]:
    """Return the embeddings of all rows and their graph, where the old ones are at hand."""
    if result.embeddings is None:
        return None, None
    old = as_spaces(result.embeddings)
    if old[0].n_rows != result.n_rows:
        return None, None
    joined = [
        np.concatenate([np.asarray(space, np.float32), x])
        for space, x in zip(old, batch.xs, strict=True)
    ]
    # Without a graph before, as many as `KNNGraph.build` takes.
    k = 20 if result.graph is None else result.graph.k
    seed = int(result.provenance.get("random_state") or 0)
    graph = KNNGraph.build(JointRows(as_spaces(one_or_list(joined))), k=k, random_state=seed)
    return one_or_list(joined), graph


def _provenance(
    result: ClusterResult, batch: Batch, novel: NDArray[np.bool_], n_new: int, alpha: float
) -> dict[str, Any]:
    old = result.provenance
    about = {
        "rows": len(batch.ids),
        "fit_nothing": int(novel.sum()),
        "new_clusters": n_new,
        "left_out": len(batch.skipped) + batch.n_known,
        "alpha": alpha,
    }
    out = {**old, "updates": [*old.get("updates", ()), about]}
    out["skipped_ids"] = [*(old.get("skipped_ids") or ()), *batch.skipped]
    if batch.unreadable or old.get("unreadable_ids"):
        out["unreadable_ids"] = [*(old.get("unreadable_ids") or ()), *batch.unreadable]
    return out


def _named(grown: ClusterResult, step: Grow, k: int, batch: Batch) -> ClusterResult:
    """Return the result with its new clusters named after their texts, where those are at hand."""
    source = grown.source
    if source is None and is_readable(batch.source):  # against the other new rows, then
        source = JoinedSource(None, batch.source, batch.offset)
    found = source_names(dataclasses.replace(grown, source=source))
    if found is None:
        return grown
    names = list(grown.names or (f"cluster {c}" for c in range(k)))[:k]
    names += unique_names(found[k:], names)
    step = dataclasses.replace(step, names=tuple(names[k:]))
    edits = (*grown.pipeline.edits[:-1], step)
    return grown.with_pipeline(edits=edits, names=tuple(names))
