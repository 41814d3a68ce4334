"""`ClusterPipeline` predicts on new data: same encoders, same preprocessing, head, calibrator.

What a result needs to encode new raw rows travels with it: the spec and the fingerprint of each
encoder, and the state of encoders that were fitted on the data. Rows are read, encoded and
predicted a block at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.calibration import Calibrator, without_evidence
from fmcluster.embedding.data.blocks import FILE_ROWS, decoded_blocks
from fmcluster.embedding.data.media import MEDIA
from fmcluster.embedding.encoders import resolve
from fmcluster.embedding.encoders.base import Encoder
from fmcluster.embedding.encoders.fitted import load_state, restore
from fmcluster.embedding.encoders.places import found_spec, moved_spec, shared_record
from fmcluster.embedding.pairs import Part, open_rows, temporary_pairs
from fmcluster.embedding.store.store import EmbeddingStore
from fmcluster.heads.base import ClusterHead
from fmcluster.result.editing.chain import Edit, count_after, repeat
from fmcluster.utils.blocks import row_argmax, stacked
from fmcluster.utils.errors import DataError, StoreMismatchError
from fmcluster.utils.validation import check_finite_rows, check_in
from fmcluster.vectors.preprocess import Preprocessor
from fmcluster.vectors.rows import is_embeddings, is_store, one_or_list, space_list

# Texts that are encoded at a time: a bound on memory, many batches of any encoder.
BLOCK_ROWS = 4_096


@dataclass(frozen=True)
class ClusterPipeline:
    """What predicts: everything of a result but its rows.

    Attributes
    ----------
    head : ClusterHead
        The fitted head.
    preprocessors : tuple
        The fitted preprocessing of each space (None where there is none).
    calibrator : Calibrator or None
        What makes confidence of the head's scores.
    names : tuple of str or None
        Names of the clusters.
    encoder_states : dict
        States of the encoders that were fitted on the data, by space number.
    provenance : dict
        How it was made; ``provenance["encoders"]`` says what encodes raw rows.
    metrics : dict
        What an evaluation gave, maybe nothing.
    edits : tuple of Edit
        What a person changed, in order; repeated on new rows after head and calibrator.
    """

    head: ClusterHead
    provenance: dict[str, Any]
    preprocessors: tuple[Preprocessor | None, ...] = ()
    calibrator: Calibrator | None = None
    names: tuple[str, ...] | None = None
    encoder_states: dict[int, dict[str, Any]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()

    @property
    def n_clusters(self) -> int:
        """Number of clusters, after all edits."""
        return count_after(self.edits, self.head.n_clusters_)

    @property
    def is_calibrated(self) -> bool:
        """Whether what it predicts may be called confidence."""
        return self.calibrator is not None or bool(self.provenance.get("calibration"))

    def predict(self, data: Any, **options: Any) -> NDArray[np.int64]:
        """Return the cluster of new raw rows, arrays or a store."""
        return row_argmax(self.predict_proba(data, **options))

    def predict_proba(self, data: Any, **options: Any) -> NDArray[np.float32]:
        """Return calibrated probabilities (m, k) of new data; options as of `predict_rows`."""
        return self.predict_rows(data, **options).proba

    def predict_rows(self, data: Any, **options: Any) -> Prediction:
        """Return ids and calibrated probabilities of new data; see `predict_rows`."""
        return predict_rows(self, data, **options)


def encoder_records(store: EmbeddingStore) -> list[dict[str, Any]]:
    """Return name, spec and fingerprint of the encoder of each space; empty for given arrays.

    No path of this machine is in them: they are saved with the result and shown to others.
    """
    if store.manifest is None:
        return []
    specs = store.manifest.header.get("info", {}).get("specs", [])
    return [
        shared_record({"name": name, "fingerprint": fingerprint, "spec": spec})
        for (name, fingerprint), spec in zip(store.encoders.items(), specs, strict=False)
    ]


def encoder_states(store: EmbeddingStore) -> dict[int, dict[str, Any]]:
    """Return the states of encoders that were fitted on the store's data, by space number."""
    if store.folder is None:
        return {}
    found = {number: load_state(store.folder, number) for number in range(len(store.spaces))}
    return {number: state for number, state in found.items() if state is not None}


def load_encoders(
    pipeline: ClusterPipeline,
    *,
    encoder: Any = None,
    batch_size: int | None = None,
    device: str | None = None,
) -> list[Encoder]:
    """Build the encoders of a result again.

    Raises
    ------
    DataError
        The result was made from embeddings: it has no encoder.
    StoreMismatchError
        What was built is not what the result was made with: weights or settings differ.
    """
    records = pipeline.provenance.get("encoders") or []
    if not records:
        raise DataError("this result was made from embeddings: give embeddings, not raw rows")
    given = list(encoder) if isinstance(encoder, (list, tuple)) else [encoder] * len(records)
    found = []
    for number, (record, own) in enumerate(zip(records, given, strict=True)):
        made: Any = resolve(
            found_spec(record["spec"], record["fingerprint"])
            if own is None
            else moved_spec(record["spec"], own),
            batch_size=batch_size,
            device=device,
        )
        if number in pipeline.encoder_states:
            made = restore(made, pipeline.encoder_states[number])
        else:
            _check_same(
                {record["name"]: record["fingerprint"]}, {record["name"]: dict(made.fingerprint)}
            )
        found.append(made)
    return found


def prepared(pipeline: ClusterPipeline, embeddings: Any) -> Any:
    """Return embeddings preprocessed as those of the pipeline were, ready for its head.

    Raises
    ------
    StoreMismatchError
        A store whose encoders differ from those of the result, or were fitted on other data.
    """
    if is_store(embeddings):
        made = {r["name"]: r["fingerprint"] for r in pipeline.provenance.get("encoders") or []}
        if made and embeddings.encoders:
            _check_same(made, embeddings.encoders)
            _check_fitted(pipeline, embeddings)
    sources = space_list(embeddings)
    steps = pipeline.preprocessors or (None,) * len(sources)
    if len(steps) != len(sources):
        raise ValueError(f"{len(sources)} spaces were given, the result was made from {len(steps)}")
    return one_or_list(
        [x if step is None else step.view(x) for x, step in zip(sources, steps, strict=True)]
    )


@dataclass(frozen=True)
class Prediction:
    """New rows and where they belong.

    Attributes
    ----------
    ids : (m,)
        Their ids; row numbers where nothing names them.
    proba : (m, k) float32
        Probabilities; even for rows of which nothing is known.
    unreadable : dict
        Why, by id, for the rows that could not be read.
    xs : list of (m, d) float32
        Their prepared embeddings, one array a space, where they were asked for.
    """

    ids: NDArray[Any]
    proba: NDArray[np.float32]
    unreadable: dict[Any, str] = field(default_factory=dict)
    xs: list[NDArray[np.float32]] = field(default_factory=list)


def predict_rows(
    pipeline: ClusterPipeline,
    data: Any,
    *,
    column: str | Mapping[str, str] | None = None,
    id_column: str | None = None,
    encoder: Any = None,
    batch_size: int | None = None,
    device: str | None = None,
    on_error: str = "raise",
    keep_rows: bool = False,
) -> Prediction:
    """Assign new rows, whatever `embed` and `cluster` take.

    Parameters
    ----------
    pipeline : ClusterPipeline
        What predicts.
    data : raw rows, array, list of arrays or store
        Raw rows are encoded by the result's own encoders.
    column : str or mapping, optional
        Column of the raw rows; of pairs both, as ``{"image": ..., "text": ...}``.
    id_column : str, optional
        Column of their ids.
    encoder : object or path, optional
        The encoder, where it is an object of yours that no name stands for, or where a local model
        folder lies now; its fingerprint is checked.
    batch_size, device
        How to run the encoder.
    on_error : {"raise", "mark"}
        What becomes of rows that cannot be read: an error that names the first, or even
        probabilities.
    keep_rows : bool
        Whether their embeddings are given back, too.
    """
    check_in(on_error, ("raise", "mark"), "on_error")
    kept: list[list[NDArray[np.float32]]] = []

    def seen(blocks: Iterator[list[NDArray[np.float32]]]) -> Iterator[list[NDArray[np.float32]]]:
        for block in blocks:
            if keep_rows:
                kept.append(block)
            yield block

    def found(ids: NDArray[Any], proba: NDArray[np.float32], lost: dict[Any, str]) -> Prediction:
        return Prediction(ids, proba, lost, [np.concatenate(x) for x in zip(*kept, strict=True)])

    if is_embeddings(data):
        blocks = _row_blocks(space_list(prepared(pipeline, data)))
        proba = _joined(pipeline, seen(blocks))
        ids = getattr(data, "ids", None)
        return found(np.arange(len(proba)) if ids is None else np.asarray(ids), proba, {})
    modality = media_of_records(pipeline.provenance.get("encoders") or [])
    source = open_rows(data, column=column, id_column=id_column, modality=modality)
    if isinstance(source, Part) and source.parts is not None:
        towers = load_encoders(pipeline, encoder=encoder, batch_size=batch_size, device=device)
        with temporary_pairs(source.parts, towers, on_error=on_error) as store:
            # Arrays, for these encoders were held against the result's when they were built.
            spaces = [np.asarray(store.space(name)) for name in store.spaces]
            rows = predict_rows(pipeline, spaces, keep_rows=keep_rows)
            unreadable = dict(store.unreadable("marked"))
            return replace(rows, ids=np.asarray(store.ids), unreadable=unreadable)
    if source.modality == "embedding":
        blocks = _row_blocks(space_list(prepared(pipeline, source.vectors())))
        proba = _joined(pipeline, seen(blocks))
        return found(source.ids(0, len(proba)), proba, {})
    _check_one_part(pipeline)
    encoders = load_encoders(pipeline, encoder=encoder, batch_size=batch_size, device=device)
    ids, unreadable = [], {}

    def encoded() -> Iterator[list[NDArray[np.float32]]]:
        size = FILE_ROWS if source.modality in MEDIA else BLOCK_ROWS
        for block in decoded_blocks(source, source, 0, most_rows=size, on_error=on_error):
            ids.append(block.ids)
            for place, reason in block.problems.items():
                unreadable[block.ids[place].item()] = reason
            yield _encoded(pipeline, block.rows, encoders)

    proba = _joined(pipeline, seen(encoded()))
    return found(np.concatenate(ids), proba, unreadable)


def proba_of_prepared(pipeline: ClusterPipeline, xs: Any) -> NDArray[np.float32]:
    """Return probabilities (m, k) of rows that are prepared as the head takes them."""
    return _joined(pipeline, _row_blocks(space_list(xs)))


def _encoded(
    pipeline: ClusterPipeline, rows: list[Any], encoders: list[Encoder]
) -> list[NDArray[np.float32]]:
    """Return the prepared embeddings of raw rows, one array per space; None rows are zeros."""
    there = [place for place, row in enumerate(rows) if row is not None]
    encoded = []
    for each in encoders:
        found = np.asarray(each.encode([rows[place] for place in there]), np.float32)
        whole = np.zeros((len(rows), found.shape[1]), np.float32)
        whole[there] = found
        encoded.append(whole)
    xs = [np.asarray(x, np.float32) for x in space_list(prepared(pipeline, one_or_list(encoded)))]
    lost = np.setdiff1d(np.arange(len(rows)), there)
    for x in xs:
        x[lost] = 0  # whatever the preprocessing made of it
    return xs


def _row_blocks(sources: list[Any]) -> Iterator[list[NDArray[np.float32]]]:
    for x in sources:
        if len(x.shape) != 2:
            raise ValueError(
                f"data must be 2-D (rows, dimensions), got shape {tuple(x.shape)}: one row is "
                "x.reshape(1, -1)"
            )
    for start in range(0, sources[0].shape[0], BLOCK_ROWS):
        yield [np.asarray(x[start : start + BLOCK_ROWS], np.float32) for x in sources]


def _check_one_part(pipeline: ClusterPipeline) -> None:
    """Refuse raw rows where a result was made from pairs: one column cannot be both parts."""
    records = pipeline.provenance.get("encoders") or []
    taken = {str(record["spec"].get("modality")) for record in records}
    if len(taken) > 1:
        raise DataError(
            f"this result was made from rows of {' and '.join(sorted(taken))}: name the columns of "
            f"the new rows, column={{{', '.join(f'{part!r}: ...' for part in sorted(taken))}}}"
        )


def media_of_records(records: list[dict[str, Any]]) -> str | None:
    """Return "image" or "audio" where strings are paths of these; texts are seen from the rows."""
    taken = {record["spec"].get("modality") for record in records}
    return next((media for media in MEDIA if media in taken), None)


def _joined(
    pipeline: ClusterPipeline, blocks: Iterator[list[NDArray[np.float32]]]
) -> NDArray[np.float32]:
    proba = stacked(_block_proba(pipeline, xs) for xs in blocks)
    if not len(proba):
        raise DataError("the data is empty: no rows")
    return proba


def _block_proba(pipeline: ClusterPipeline, xs: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    for x in xs:
        check_finite_rows(x, name="data")
    raw = pipeline.head.predict_proba(one_or_list(xs))
    proba = raw if pipeline.calibrator is None else pipeline.calibrator.transform(raw, xs)
    return repeat(pipeline.edits, without_evidence(np.asarray(proba, dtype=np.float32), xs), xs)


def _check_fitted(pipeline: ClusterPipeline, store: Any) -> None:
    """Raise StoreMismatchError where an encoder of a store was fitted on other rows.

    A space of its own, then, of the same name and width.
    """
    for number, state in pipeline.encoder_states.items():
        other = None if store.folder is None else load_state(store.folder, number)
        if other is not None and not _equal_states(state, other):
            raise StoreMismatchError(
                f"space {store.spaces[number]!r} of the store was fitted on other data than the "
                "result's: give the raw rows, which the result encodes as its own"
            )


def _equal_states(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return set(one) == set(other) and all(np.array_equal(one[k], other[k]) for k in one)


def _check_same(made: dict[str, Any], given: dict[str, Any]) -> None:
    """Raise StoreMismatchError that shows the fields in which two sets of encoders differ.

    What a space is called is no part of it: a folder of the same weights may have been renamed.
    """
    if list(made.values()) == list(given.values()):
        return
    differing = []
    for name in sorted(set(made) | set(given)):
        there, here = made.get(name, {}), given.get(name, {})
        differing += [
            f"{name}.{key} is {there.get(key)!r} there and {here.get(key)!r} here"
            for key in sorted(set(there) | set(here))
            if there.get(key) != here.get(key)
        ]
    if differing:
        raise StoreMismatchError(
            f"the encoder differs from the one of the result: {'; '.join(differing[:4])}; "
            "embed the new data as the result's data was"
        )
