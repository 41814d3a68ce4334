"""The whole pipeline in a folder or on the Hub: encoder ids, preprocessing, head, calibrator.

A folder is tensors (safetensors, npy), JSON and a generated model card; nothing in it is pickled
and nothing in it is code. Rows of the training data are not part of it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmcluster.heads.base import ClusterHead
from fmcluster.result.files import PIPELINE, read_pipeline, write_pipeline
from fmcluster.result.model_card import model_card
from fmcluster.result.predictor import ClusterPipeline
from fmcluster.utils.errors import CorruptShardError, EncoderUnavailableError
from fmcluster.utils.files import as_corrupt, read_json, write_json, write_text
from fmcluster.utils.folders import check_digests, digests, read_whole, replaced_folder
from fmcluster.utils.version import __version__

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

FORMAT = "fmcluster.pipeline/1"
MARKER = "config.json"
OWNED = {MARKER, "README.md"} | PIPELINE
# What provenance knows of single rows.
OF_ROWS = {"skipped_ids", "unreadable_ids", "edits_before_answers"}
PATTERNS = ["*.json", "*.safetensors", "*.npy", "README.md"]


def save_pretrained(
    pipeline: ClusterPipeline | ClusterResult,
    folder: str | os.PathLike[str],
    *,
    metrics: dict[str, float] | None = None,
    repo_id: str | None = None,
) -> Path:
    """Write a pipeline (or that of a result) with its model card and return the folder."""
    if not isinstance(pipeline, ClusterPipeline):
        pipeline = pipeline.pipeline
    shared = (edit.without_rows() for edit in pipeline.edits)
    pipeline = dataclasses.replace(pipeline, edits=tuple(edit for edit in shared if edit))
    metrics = {k: float(v) for k, v in (metrics or pipeline.metrics).items() if np.isfinite(v)}
    config: dict[str, Any] = {
        "format": FORMAT,
        "fmcluster_version": __version__,
        "n_clusters": pipeline.n_clusters,
        "names": pipeline.names,
        "provenance": _without_rows(pipeline.provenance),
        "metrics": metrics,
    }
    card = model_card(pipeline, metrics=metrics, repo_id=repo_id or Path(folder).resolve().name)
    with replaced_folder(folder, marker=MARKER, owned=OWNED) as target:
        write_pipeline(pipeline, target)
        config["files"] = digests(target)
        # A model card is for people to edit: nothing vouches for it.
        write_text(target / "README.md", card)
        write_json(target / MARKER, config)
    return Path(folder)


def _without_rows(provenance: dict[str, Any]) -> dict[str, Any]:
    """Return provenance without what is known of single rows: it stays with the result."""
    kept = {key: value for key, value in provenance.items() if key not in OF_ROWS}
    if kept.get("calibration"):
        about = kept["calibration"].items()
        kept["calibration"] = {key: value for key, value in about if key != "labeled_ids"}
    return kept


def from_pretrained(
    id_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> ClusterPipeline:
    """Load a pipeline from a folder or from the Hub.

    Raises
    ------
    EncoderUnavailableError
        The Hub is out of reach and nothing is cached.
    CorruptShardError
        The folder is malformed.
    FileNotFoundError
        The folder holds no pipeline.
    """
    folder = Path(id_or_path)
    if not folder.is_dir():
        folder = _download(
            os.fspath(id_or_path),
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            force_download=force_download,
        )
    return read_whole(folder, MARKER, lambda: _read(folder))


def _read(folder: Path) -> ClusterPipeline:
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no pipeline: there is no config.json in it")
    config = read_json(folder / "config.json")
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CorruptShardError(f"{folder}/config.json is not of format {FORMAT!r}")
    provenance, names = config.get("provenance"), config.get("names")
    if not isinstance(provenance, dict) or not (names is None or isinstance(names, list)):
        raise CorruptShardError(f"{folder}/config.json lacks a provenance or has odd names")
    _refuse_code(folder, config)
    pipeline = read_pipeline(
        folder, names=names, provenance=provenance, metrics=config.get("metrics")
    )
    with as_corrupt(folder):  # parts of two saves, each whole by itself
        check_digests(folder, config.get("files") or {}, marker=MARKER, what="pipeline")
    return pipeline


def _refuse_code(folder: Path, config: dict[str, Any]) -> None:
    """Refuse a folder that asks for code of its own to be run; it would not be, but say so."""
    # That an encoder ran code of its model is a record, and no leave: who predicts gives that anew.
    besides = {**config, "provenance": {**config["provenance"], "encoders": None}}
    for flag, where in (("auto_map", config), ("trust_remote_code", besides)):
        if f'"{flag}":' in json.dumps(where):
            raise CorruptShardError(
                f"{folder}/config.json sets {flag!r}: a pipeline is tensors and JSON, code in it "
                "is never run; do not use this folder unless you know who made it"
            )


def push_to_hub(
    pipeline: ClusterPipeline | ClusterResult | ClusterHead,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str = "Upload with fmcluster",
    metrics: dict[str, float] | None = None,
) -> str:
    """Upload a pipeline, the pipeline of a result, or a head alone; return the commit's address."""
    import tempfile

    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(pipeline, ClusterHead):
            pipeline.save_pretrained(folder)
        else:
            save_pretrained(pipeline, folder, metrics=metrics, repo_id=repo_id)
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=commit_message,
            allow_patterns=PATTERNS,
        )
    return str(commit.commit_url)


def _download(repo_id: str, **options: Any) -> Path:
    """Fetch the files we know how to read, and no others."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo_id, allow_patterns=PATTERNS, **options))
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} is neither a folder nor a Hub id: {error}") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise EncoderUnavailableError(
            f"{repo_id!r} cannot be had from the Hub ({type(error).__name__}): go online once to "
            "cache it, or give a local folder"
        ) from None
