"""The short facade: `embed` raw data into a store, `cluster` a store into a result."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fmcluster.calibration import CalibratedFit, fit_calibrated
from fmcluster.embedding import encoders
from fmcluster.embedding.data.source import Source
from fmcluster.embedding.embed import embed_to_store
from fmcluster.embedding.english import say_mismatch
from fmcluster.embedding.pairs import embed_pairs, encoders_of_parts, open_parts
from fmcluster.embedding.store.store import EmbeddingStore
from fmcluster.heads import make_head
from fmcluster.heads.base import ClusterHead
from fmcluster.heads.config import head_record
from fmcluster.result.loop.answers import Answers
from fmcluster.result.loop.with_answers import answered
from fmcluster.result.naming import name_by_source
from fmcluster.result.predictor import ClusterPipeline, encoder_records, encoder_states
from fmcluster.result.result import ClusterResult
from fmcluster.utils.blocks import row_argmax, row_max
from fmcluster.utils.ids import IdIndex
from fmcluster.utils.version import __version__
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.preprocess import Preprocessor
from fmcluster.vectors.rows import (
    as_spaces,
    is_embeddings,
    is_space_list,
    is_store,
    one_or_list,
    space_list,
)

logger = logging.getLogger(__name__)


def default_encoders(modality: str) -> list[str]:
    """Return what `embed` uses when no encoder is named: texts also get a lexical space."""
    return ["auto", "tfidf"] if modality == "text" else ["auto"]


def embed(
    data: Any,
    *,
    encoder: Any = None,
    column: str | Mapping[str, str] | None = None,
    split: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    n_views: int = 0,
    augment: str = "weak",
    batch_size: int | None = None,
    device: str | None = None,
    precision: str = "auto",
    dtype: str = "float16",
    on_error: str = "raise",
    n_rows: int | None = None,
    id_column: str | None = None,
    modality: str | None = None,
    random_state: int = 0,
    repair: bool = False,
    reuse: Any = True,
    engine: str = "local",
    workers: int | None = None,
) -> EmbeddingStore:
    """Embed data once; the same call again finds the store, or goes on where it stopped.

    Parameters
    ----------
    data : Dataset, path, list, DataFrame, array or EmbeddingStore
        A ``datasets.Dataset`` / ``IterableDataset``, a frame of pandas, polars, DuckDB or any
        library with the Arrow C interface, a folder, zip or tar of images or recordings, a
        Parquet, CSV, JSON, JSONL, txt (text files plain or as .gz, .zst, .bz2) or Excel file, a
        Lance table, a pattern (``"part-*.parquet"``) or folder of such files, a URL of any of
        these (``hf://``, ``s3://``), a list of texts, PIL images or recordings
        (``{"array": samples, "sampling_rate": rate}``). An (n, d) array is taken as embeddings,
        and a store is given back.
    encoder : str, object, or a list of those, optional
        A Hub id, a local folder, ``open_clip:ARCH/TAG``, ``timm:ARCH.TAG``, ``packaged:minilm``,
        ``packaged:wordllama``, ``packaged:efficientnet-lite2`` or ``-lite0``,
        ``packaged:resemblyzer``, ``tfidf``, ``auto``, an object with
        ``encode(list) -> (n, d)``, or a dict that adds options, as
        ``{"encoder": "intfloat/e5-base-v2", "prompt": "query: "}`` (`prompt`, `truncate_dim`,
        `max_length`, ``long="chunk-mean"``, `backend`, ``precision="int8"``, `pooling`,
        `revision`, ``trust_remote_code=True``). A list gives several spaces under the same row
        ids. Default: DINOv2 for images, CLAP for recordings, all-MiniLM-L6-v2 and TF-IDF for texts.
    column : str or mapping, optional
        Which column. Rows of a picture and a text are ``{"image": "photo", "text": "caption"}``
        (or "audio" and "text"): spaces of both under one id, either part of a row may be missing,
        and `encoder` is a mapping of the same keys, a list where a part has several (or one
        open_clip encoder, whose two towers then embed).
    split, id_column : str, optional
        Which split of a DatasetDict (or sheet of an Excel file), which column holds row ids.
    folder : path, optional
        Where the store is; default: a folder of its own in the cache.
    cache_dir : path, optional
        The cache; default: the variable FMCLUSTER_CACHE, or a folder in the Hugging Face cache.
    n_views : int
        Embeddings of augmented inputs to keep beside the clean one.
    augment : {"weak", "strong"}
        How far those inputs are changed.
    batch_size, device, precision
        How to run the encoder; only the precision changes the embeddings (and the fingerprint).
    dtype : {"float16", "float32"}
        Type on disk.
    on_error : {"raise", "skip", "mark"}
        What becomes of rows that cannot be read.
    n_rows : int, optional
        Read so many rows and no more.
    modality : {"image", "audio", "text"}, optional
        Only where it cannot be seen from the rows.
    random_state : int
        Seed of the augmentations.
    repair : bool
        Hold every shard of a store that is there against its checksum, and encode the damaged
        ones again.
    reuse : bool, path, store, or a list of paths and stores
        Rows whose content an earlier store of the same encoder holds are copied, not encoded
        (``store.n_reused``): those of the cache, and of stores named here. False encodes all.
    engine : {"local", "ray"}
        "ray" maps the encoders over the data by Ray Data (extra ``ray``), on the cluster that is
        connected or on one of this machine; the store is the same, byte for byte.
    workers : int, optional
        Ray actors at most; by default one per GPU, or one per core.

    Returns
    -------
    EmbeddingStore

    Raises
    ------
    DataError, EncoderUnavailableError, StoreMismatchError, MissingExtraError
        Each with one line that says what to do.
    """
    if is_store(data):
        _say_unused(encoder)
        return data
    run: dict[str, Any] = {"device": device, "batch_size": batch_size, "precision": precision}
    settings: dict[str, Any] = {
        "n_views": n_views,
        "augment": augment,
        "dtype": dtype,
        "random_state": random_state,
        "repair": repair,
        "reuse": reuse,
        "engine": engine,
        "workers": workers,
    }
    if isinstance(column, Mapping):
        return embed_pairs(
            open_parts(data, column, split=split, n_rows=n_rows, id_column=id_column),
            encoders_of_parts(encoder, run, parts=list(column)),
            folder=folder,
            cache_dir=cache_dir,
            on_error=on_error,
            settings=settings,
        )
    source = (
        data
        if isinstance(data, Source)
        else Source(
            data, column=column, split=split, n_rows=n_rows, id_column=id_column, modality=modality
        )
    )
    if source.modality == "embedding":
        _say_unused(encoder)
        return embed_to_store(source, None, folder=folder, dtype=dtype)
    names = default_encoders(source.modality) if encoder is None else encoder
    names = list(names) if isinstance(names, (list, tuple)) else [names]
    found = [encoders.resolve(name, modality=source.modality, **run) for name in names]
    say_mismatch(source, found)
    store = embed_to_store(
        source, found, folder=folder, cache_dir=cache_dir, on_error=on_error, **settings
    )
    store.source = source
    return store


def cluster(
    emb: Any,
    *,
    n_clusters: int | str = "auto",
    head: str | ClusterHead = "auto",
    cluster_prior: Any = "auto",
    random_state: int = 0,
    preprocess: str | None = None,
    calibrate: bool = True,
    graph: KNNGraph | None = None,
    labels: Any = None,
    must_link: ArrayLike | None = None,
    cannot_link: ArrayLike | None = None,
    encoder: Any = None,
    column: str | Mapping[str, str] | None = None,
    split: str | None = None,
    head_params: dict[str, Any] | None = None,
) -> ClusterResult:
    """Cluster embeddings (or raw data, which is embedded first) and calibrate the confidence.

    Clusters of texts are named after their most telling terms, where the raw texts are at hand.

    Parameters
    ----------
    emb : EmbeddingStore, (n, d) array, list of arrays, or raw data
        What to cluster; raw data goes through `embed` with `encoder`, `column` and `split`.
    n_clusters : int or "auto"
        Number of clusters; "auto" estimates it without labels.
    head : str or ClusterHead
        One of `list_heads`, or an unfitted head of yours.
    cluster_prior : "auto", "uniform", "estimate" or array (k,)
        What is known of the cluster sizes; "auto" is the head's own default.
    random_state : int
        The one seed.
    preprocess : str, optional
        Steps such as ``"pca=64,whiten,l2"``, fitted here and repeated by ``predict``.
    calibrate : bool
        Whether probabilities are calibrated (without labels).
    graph : KNNGraph, optional
        Ready neighbors.
    labels : dict of id to class, or (ids, classes), optional
        Classes of some rows, of any plain type: the clusters hold them and are named after them.
        Heads "auto", "kmeans", "scan", "cdc", "p2ot" and "sp2ot" take them.
    must_link, cannot_link : (m, 2) array-like of ids, optional
        Pairs of rows that belong together, and apart; head "auto".
    head_params : dict, optional
        More arguments of the head.

    Returns
    -------
    ClusterResult

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(60, 4)) + np.repeat(np.eye(4)[:3] * 9, 20, 0)
    >>> cluster(X, n_clusters=3, head="kmeans").sizes.tolist()
    [20, 20, 20]
    """
    started = time.perf_counter()
    if is_embeddings(emb):
        _say_unused(encoder)
    else:
        emb = embed(emb, encoder=encoder, column=column, split=split)
    if is_space_list(emb) and {getattr(x, "shape", None) for x in emb} == {(1, emb[0].shape[1])}:
        emb = np.concatenate([np.asarray(x) for x in emb])  # rows, not spaces of one row each
    store = emb if is_store(emb) else None
    spaces, steps = _preprocess(emb, preprocess)
    estimator = _head(head, n_clusters, cluster_prior, random_state, head_params or {})
    ids = np.arange(as_spaces(spaces)[0].n_rows) if store is None else np.asarray(store.ids)
    index = IdIndex(ids, () if store is None else tuple(store.skipped_ids))
    answers = Answers.of(index, labels, must_link, cannot_link)
    fit = fit_calibrated(
        estimator,
        spaces,
        graph,
        calibrate=calibrate,
        answers=answers.rows(index) if len(answers) else None,
        random_state=random_state,
    )
    pipeline = ClusterPipeline(
        head=estimator,
        provenance=_provenance(store, steps, fit, random_state, calibrate),
        preprocessors=tuple(steps),
        calibrator=fit.calibrator,
        encoder_states={} if store is None else encoder_states(store),
    )
    said = row_argmax(fit.proba) if len(answers) else estimator.labels_
    result = ClusterResult(
        labels=said,
        proba=fit.proba,
        confidence=row_max(fit.proba),
        score=row_max(fit.scores),
        cluster_prior=np.asarray(estimator.cluster_prior_),
        ids=ids,
        pipeline=pipeline,
        graph=fit.graph,
        embeddings=spaces,
        source=getattr(store, "source", None),
    )
    result = answered(result, fit, answers) if len(answers) else name_by_source(result)
    if store is not None and store.bad_ids:
        result.provenance["unreadable_ids"] = store.bad_ids
    result.provenance["seconds"] = round(time.perf_counter() - started, 3)
    return result


# -- pieces -----------------------------------------------------------------------------------


def _say_unused(encoder: Any) -> None:
    """Warn where an encoder was named that has nothing to encode."""
    if encoder is not None:
        logger.warning("encoder=%r is not used: the data is embeddings already", encoder)


def _preprocess(emb: Any, steps: str | None) -> tuple[Any, list[Preprocessor | None]]:
    """Fit the preprocessing on every space; without one the input is passed on as it is."""
    sources = space_list(emb)
    if not steps:
        return emb, [None] * len(sources)
    fitted = [Preprocessor(steps).fit(x) for x in sources]
    return one_or_list([step.view(x) for step, x in zip(fitted, sources, strict=True)]), [*fitted]


def _head(
    head: str | ClusterHead,
    n_clusters: int | str,
    cluster_prior: Any,
    random_state: int,
    params: dict[str, Any],
) -> ClusterHead:
    """Make the head with what was asked; a prior is refused where a head does not balance."""
    if not isinstance(head, str):
        return _own_head(head, n_clusters, cluster_prior, params)
    given = dict(params)
    known = make_head(head).get_params(deep=False)
    if "cluster_prior" in known:
        if not (isinstance(cluster_prior, str) and cluster_prior == "auto"):
            given["cluster_prior"] = cluster_prior
    elif not isinstance(cluster_prior, str) or cluster_prior != "auto":
        raise ValueError(
            f"head {head!r} does not balance cluster sizes and takes no cluster_prior, got "
            f"{cluster_prior!r}: leave it 'auto' or choose a head such as 'scan' or 'sela'"
        )
    return make_head(head, **{"n_clusters": n_clusters, "random_state": random_state, **given})


def _own_head(
    head: Any, n_clusters: int | str, cluster_prior: Any, params: dict[str, Any]
) -> ClusterHead:
    """Return a head as it is; what it would not hear of is refused."""
    if not hasattr(head, "fit_predict_proba"):
        raise TypeError(
            f"head={head!r} is no head: give a name of fmcluster.list_heads(), or what "
            "make_head(name, ...) returns"
        )
    own = head.get_params(deep=False)
    given = {"n_clusters": n_clusters, "cluster_prior": cluster_prior, **params}
    for name, value in given.items():
        is_default = name not in params and isinstance(value, str) and value == "auto"
        if not is_default and not np.array_equal(value, own.get(name)):
            raise ValueError(
                f"{name}={value!r} is given beside a head that has {name}={own.get(name)!r}: "
                f"say it where the head is made, make_head({head.name!r}, {name}=...)"
            )
    return head


def _provenance(
    store: EmbeddingStore | None,
    steps: Sequence[Preprocessor | None],
    fit: CalibratedFit,
    random_state: int,
    calibrate: bool,
) -> dict[str, Any]:
    head, graph = fit.head, fit.graph
    return {
        "fmcluster_version": __version__,
        "data": None if store is None else store.fingerprint,
        "id_column": getattr(getattr(store, "source", None), "id_column", None),
        "skipped_ids": [] if store is None else store.skipped_ids,
        "encoders": [] if store is None else encoder_records(store),
        "preprocess": [
            None if s is None else {"steps": s.steps, "fingerprint": s.fingerprint} for s in steps
        ],
        "head": head_record(head),
        "graph": {"k": graph.k, "method": graph.method, "recall": graph.recall},
        "random_state": random_state,
        "determinism": "equal seeds give equal labels on CPU, for any thread count",
        "calibration": fit.about() if calibrate else None,
    }
