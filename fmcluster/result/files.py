"""The files of a result: arrays, one table, tensors and JSON, written whole and read with care."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.calibration.calibrator import Calibrator
from fmcluster.embedding.encoders.fitted import load_state, save_state
from fmcluster.embedding.encoders.places import shared_record
from fmcluster.heads import load_head
from fmcluster.result.editing.chain import count_after
from fmcluster.result.editing.files import (
    EDITS,
    UNEDITED,
    read_edits,
    read_unedited,
    write_edits,
    write_unedited,
)
from fmcluster.result.loop.answers import Answers
from fmcluster.result.loop.reference import FILES as SAMPLE_FILES
from fmcluster.result.loop.reference import read_sample, write_sample
from fmcluster.result.naming.audit import NAMES_AUDIT, read_audit, write_audit
from fmcluster.result.predictor import ClusterPipeline
from fmcluster.utils.blocks import IN_MEMORY
from fmcluster.utils.errors import CorruptShardError
from fmcluster.utils.files import (
    as_corrupt,
    atomic_path,
    digest_file,
    read_array,
    read_json,
    safe_child,
    stable_hash,
    to_json,
    write_array,
    write_json,
)
from fmcluster.utils.folders import check_digests, digests, read_whole, replaced_folder
from fmcluster.utils.version import __version__
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.preprocess import Preprocessor

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

FORMAT = "fmcluster.result/1"
MARKER = "result.json"
ANSWERS = "answers.json"
NEEDED = {"labels.npy", "proba.npy", "score.npy", "prior.npy", "clusters.parquet", "pipeline.json"}
PIPELINE = {"head", "encoders", "pipeline.json", "pipeline.safetensors", EDITS}
# What a save replaces or removes; a report of the result that was there tells of another one.
OWNED = (
    {MARKER, "graph", "report.html", ANSWERS, NAMES_AUDIT, UNEDITED, *SAMPLE_FILES}
    | NEEDED
    | PIPELINE
)
# The embeddings and the data may stand there first, as the demo's do.
BESIDE = {"store", "data.parquet"}


def write_result(
    result: ClusterResult,
    folder: str | os.PathLike[str],
    *,
    metrics: dict[str, float] | None = None,
) -> None:
    """Write a result: whole, in place of the one that is there, or not at all."""
    with replaced_folder(folder, marker=MARKER, owned=OWNED, beside=BESIDE) as target:
        _write_result(result, target, metrics)


def _write_result(result: ClusterResult, folder: Path, metrics: dict[str, float] | None) -> None:
    write_array(folder / "labels.npy", result.labels)
    write_array(folder / "proba.npy", result.proba)
    write_array(folder / "score.npy", result.score)
    write_array(folder / "prior.npy", result.cluster_prior)
    _write_table(result, folder / "clusters.parquet")
    if result.graph is not None:
        result.graph.write(folder / "graph")
    if len(result.answers):
        write_json(folder / ANSWERS, result.answers.state())
    write_audit(result.name_audit, folder)
    write_unedited(result.unedited, folder)
    write_sample(result, folder)
    write_pipeline(result.pipeline, folder)
    about: dict[str, Any] = {
        "format": FORMAT,
        "fmcluster_version": __version__,
        "n_rows": result.n_rows,
        "n_clusters": result.n_clusters,
        "head": result.head.name,
        "mean_confidence": float(result.confidence.mean()),
        "calibrated": result.is_calibrated,
        "sizes": result.sizes,
        "names": result.names,
        "has_graph": result.graph is not None,
        "provenance": result.provenance,
    }
    if metrics is not None:
        about["metrics"] = {
            key: value if np.isfinite(value) else None for key, value in metrics.items()
        }
    about["files"] = digests(folder)
    plain = json.loads(to_json(about))
    write_json(folder / MARKER, {**plain, "digest": stable_hash(plain)})


def _check(folder: Path, about: dict[str, Any]) -> None:
    """Hold ``result.json`` against its own digest and the files against those in it."""
    body = {key: value for key, value in about.items() if key != "digest"}
    if about.get("digest") != stable_hash(body):
        raise CorruptShardError(
            f"{folder}/result.json does not match its own digest: save the result again"
        )
    lacking = NEEDED - set(about["files"])
    if lacking:
        raise CorruptShardError(f"{folder}/result.json vouches for no {min(lacking)}: save again")
    check_digests(folder, about["files"], marker=MARKER, what="result")


def _write_table(result: ClusterResult, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns: dict[str, Any] = {
        "id": result.ids,
        "cluster": result.labels,
        "confidence": result.confidence,
    }
    if result.names:
        # The last name stands for label -1: none.
        columns["name"] = np.array([*result.names, None], dtype=object)[result.labels]
    with atomic_path(path) as temporary:
        parquet.write_table(pa.table(columns), temporary)


def write_pipeline(pipeline: ClusterPipeline, folder: Path) -> None:
    """Write what prediction needs: head, preprocessing, calibrator, states of encoders."""
    from safetensors.numpy import save_file

    pipeline.head.write(folder / "head")
    arrays: dict[str, NDArray[Any]] = {}
    steps = [None if step is None else step.steps for step in pipeline.preprocessors]
    for number, step in enumerate(pipeline.preprocessors):
        if step is not None:
            arrays |= {f"preprocess.{number}.{k}": v for k, v in step.state().items()}
    config: dict[str, Any] = {"preprocess": steps, "calibrator": None}
    if pipeline.calibrator is not None:
        tensors, config["calibrator"] = pipeline.calibrator.state()
        arrays |= {f"calibrator.{k}": v for k, v in tensors.items()}
    arrays = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
    with atomic_path(folder / "pipeline.safetensors") as temporary:
        save_file(arrays, temporary)
    config["tensors"] = digest_file(folder / "pipeline.safetensors")
    config["encoder_states"] = sorted(pipeline.encoder_states)
    for number, state in pipeline.encoder_states.items():
        arrays = {k: v for k, v in state.items() if isinstance(v, np.ndarray)}
        rest = {k: v for k, v in state.items() if k not in arrays}
        save_state(folder / "encoders", number, arrays, rest)
    write_json(folder / "pipeline.json", config)
    write_edits(pipeline.edits, folder)


def read_result(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the fields of a result that `write_result` wrote.

    Raises
    ------
    FileNotFoundError
        The folder holds no result.
    CorruptShardError
        A file is damaged, or files do not belong together.
    """
    folder = Path(folder)

    def read() -> dict[str, Any]:
        about = _read_about(folder)
        with as_corrupt(folder):
            return _result_of(folder, about)

    return read_whole(folder, MARKER, read)


def saved_metrics(folder: str | os.PathLike[str]) -> dict[str, float] | None:
    """Return the metrics that a result was saved with, None without any."""
    found = _read_about(Path(folder)).get("metrics")
    known = {key: float("nan") if value is None else value for key, value in (found or {}).items()}
    return known or None


def _read_about(folder: Path) -> dict[str, Any]:
    if not (folder / MARKER).is_file():
        raise FileNotFoundError(f"{folder} holds no result: there is no {MARKER} in it")
    about = read_json(folder / MARKER)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise CorruptShardError(f"{folder}/{MARKER} is not of format {FORMAT!r}")
    return about


def _result_of(folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    import pyarrow.parquet as parquet

    _check(folder, about)
    labels = read_array(folder / "labels.npy")
    large = (folder / "proba.npy").stat().st_size > IN_MEMORY
    # What is edited is copied before; a file that is replaced stays for who has it open.
    proba = np.asarray(read_array(folder / "proba.npy", mmap=large))
    table = parquet.read_table(folder / "clusters.parquet")
    if not len(labels) == len(proba) == table.num_rows == about["n_rows"]:
        raise CorruptShardError(
            f"files in {folder} do not belong together: {len(labels)} labels, {len(proba)} "
            f"rows of proba, {table.num_rows} rows of clusters.parquet"
        )
    pipeline = read_pipeline(folder, names=about.get("names"), provenance=about["provenance"])
    answers = folder / ANSWERS
    return dict(
        labels=labels,
        proba=proba,
        confidence=table["confidence"].to_numpy(),
        score=read_array(folder / "score.npy"),
        cluster_prior=read_array(folder / "prior.npy"),
        ids=np.asarray(table["id"].to_pylist()),
        pipeline=pipeline,
        graph=KNNGraph.load(folder / "graph") if about.get("has_graph") else None,
        unedited=read_unedited(folder),
        answers=Answers.from_state(read_json(answers)) if answers.is_file() else Answers(),
        name_audit=read_audit(folder),
        reference=read_sample(folder, len(labels)),
    )


def read_pipeline(
    folder: Path, *, names: Any, provenance: dict[str, Any], metrics: dict[str, float] | None = None
) -> ClusterPipeline:
    """Return the pipeline that a folder holds; names, provenance and metrics stand elsewhere."""
    with as_corrupt(folder):
        config = read_json(folder / "pipeline.json")
        preprocessors, calibrator, states = _parts_of(folder, config)
        head = load_head(safe_child(folder, "head"))
        edits = read_edits(folder, head.n_clusters_)
        n_clusters = count_after(edits, head.n_clusters_)
    if names and len(names) != n_clusters:
        raise CorruptShardError(
            f"{folder} has {len(names)} names for {n_clusters} clusters: save it again"
        )
    # Those of older versions hold paths of the machine that made them.
    shared = [shared_record(each) for each in provenance.get("encoders") or []]
    return ClusterPipeline(
        head=head,
        provenance={**provenance, "encoders": shared},
        preprocessors=preprocessors,
        calibrator=calibrator,
        names=tuple(map(str, names)) if names else None,
        encoder_states=states,
        metrics=metrics or {},
        edits=edits,
    )


def _parts_of(
    folder: Path, config: dict[str, Any]
) -> tuple[tuple[Preprocessor | None, ...], Calibrator | None, dict[int, dict[str, Any]]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(folder / "pipeline.safetensors")
    except (SafetensorError, ValueError, OSError) as error:
        raise CorruptShardError(f"{folder}/pipeline.safetensors is damaged: {error}") from None
    if digest_file(folder / "pipeline.safetensors") != config["tensors"]:
        raise CorruptShardError(
            f"{folder}/pipeline.safetensors is not of this pipeline: fetch again"
        )

    def under(prefix: str) -> dict[str, NDArray[Any]]:
        return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}

    steps = tuple(
        None if spec is None else Preprocessor.from_state(spec, under(f"preprocess.{number}."))
        for number, spec in enumerate(config["preprocess"])
    )
    saved = config.get("calibrator")
    calibrator = None if saved is None else Calibrator.from_state(under("calibrator."), saved)
    states = {}
    for number in config.get("encoder_states", []):
        state = load_state(folder / "encoders", int(number))
        if state is None:
            raise CorruptShardError(f"{folder}/encoders lacks the state of encoder {number}")
        states[int(number)] = state
    return steps, calibrator, states
