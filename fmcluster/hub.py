"""The whole pipeline in a folder or on the Hub: encoder ids, preprocessing, head, calibrator.

A folder is tensors (safetensors, npy), JSON and a generated model card; nothing in it is pickled
and nothing in it is code. Rows of the training data are not part of it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster import prediction
from fmcluster._files import read_json, safe_child, write_json, write_text
from fmcluster._result_files import read_pipeline, write_pipeline
from fmcluster._version import __version__
from fmcluster.calibrate import Calibrator
from fmcluster.errors import CorruptShardError, EncoderUnavailableError
from fmcluster.heads import ClusterHead, load_head
from fmcluster.preprocess import Preprocessor
from fmcluster.result import ClusterResult

FORMAT = "fmcluster.pipeline/1"
PATTERNS = ["*.json", "*.safetensors", "*.npy", "README.md"]


@dataclass(frozen=True)
class ClusterPipeline:
    """What predicts: everything of a result but its rows.

    Attributes
    ----------
    head : ClusterHead
        The fitted head.
    preprocessors, calibrator, names, encoder_states
        As in `ClusterResult`.
    provenance : dict
        How it was made; ``provenance["encoders"]`` says what encodes raw rows.
    metrics : dict
        What an evaluation gave, maybe nothing.
    """

    head: ClusterHead
    provenance: dict[str, Any]
    preprocessors: tuple[Preprocessor | None, ...] = ()
    calibrator: Calibrator | None = None
    names: tuple[str, ...] | None = None
    encoder_states: dict[int, dict[str, Any]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, result: ClusterResult, *, metrics: dict[str, float] | None = None
    ) -> ClusterPipeline:
        """Take the pipeline of a result."""
        return cls(
            head=result.head,
            provenance=result.provenance,
            preprocessors=result.preprocessors,
            calibrator=result.calibrator,
            names=result.names,
            encoder_states=result.encoder_states,
            metrics=metrics or {},
        )

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return self.head.n_clusters_

    def predict(self, data: Any, **options: Any) -> NDArray[np.int64]:
        """Return the cluster of new raw rows, arrays or a store."""
        return self.predict_proba(data, **options).argmax(axis=1).astype(np.int64)

    def predict_proba(self, data: Any, **options: Any) -> NDArray[np.float32]:
        """Return calibrated probabilities (m, k) of new data."""
        return prediction.predict_proba(self, data, **options)  # type: ignore[arg-type]


def save_pretrained(
    pipeline: ClusterPipeline | ClusterResult,
    folder: str | os.PathLike[str],
    *,
    metrics: dict[str, float] | None = None,
    repo_id: str | None = None,
) -> Path:
    """Write a pipeline (or that of a result) with its model card and return the folder."""
    if isinstance(pipeline, ClusterResult):
        pipeline = ClusterPipeline.of(pipeline, metrics=metrics)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    pipeline.head.save_pretrained(target / "head")
    write_pipeline(pipeline, target)
    metrics = {k: float(v) for k, v in (metrics or pipeline.metrics).items() if np.isfinite(v)}
    config = {
        "format": FORMAT,
        "fmcluster_version": __version__,
        "n_clusters": pipeline.n_clusters,
        "names": pipeline.names,
        "provenance": pipeline.provenance,
        "metrics": metrics,
    }
    card = model_card(pipeline, metrics=metrics, repo_id=repo_id or target.name)
    write_text(target / "README.md", card)
    write_json(target / "config.json", config)
    return target


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
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no pipeline: there is no config.json in it")
    config = read_json(folder / "config.json")
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CorruptShardError(f"{folder}/config.json is not of format {FORMAT!r}")
    provenance, names = config.get("provenance"), config.get("names")
    if not isinstance(provenance, dict) or not (names is None or isinstance(names, list)):
        raise CorruptShardError(f"{folder}/config.json lacks a provenance or has odd names")
    _refuse_code(folder, config)
    preprocessors, calibrator, states = read_pipeline(folder)
    head = load_head(safe_child(folder, "head"))
    if names and len(names) != head.n_clusters_:
        raise CorruptShardError(
            f"{folder}/config.json has {len(names)} names for {head.n_clusters_} clusters"
        )
    return ClusterPipeline(
        head=head,
        provenance=provenance,
        preprocessors=preprocessors,
        calibrator=calibrator,
        names=tuple(map(str, names)) if names else None,
        encoder_states=states,
        metrics=config.get("metrics") or {},
    )


def _refuse_code(folder: Path, config: dict[str, Any]) -> None:
    """Refuse a folder that asks for code of its own to be run; it would not be, but say so."""
    text = json.dumps(config)
    for flag in ("auto_map", "trust_remote_code"):
        if f'"{flag}":' in text:
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


def model_card(
    pipeline: ClusterPipeline, *, metrics: dict[str, float], repo_id: str | None = None
) -> str:
    """Return the Markdown model card with valid metadata and a snippet that runs."""
    from huggingface_hub import EvalResult, ModelCardData

    records = pipeline.provenance.get("encoders") or []
    hub_ids = [r["name"] for r in records if "/" in r["name"] and ":" not in r["name"]]
    modality = {record["spec"].get("modality") for record in records}
    name = repo_id or "pipeline"
    results = [
        EvalResult(
            task_type="clustering",
            dataset_type="unknown",
            dataset_name="the labelled rows given at saving",
            metric_type=key,
            metric_value=round(value, 4),
        )
        for key, value in metrics.items()
        if key in ("acc", "nmi", "ari", "macro_acc", "ece")
    ]
    data = ModelCardData(
        library_name="fmcluster",
        license="apache-2.0",
        tags=["clustering", "calibration", "fmcluster", pipeline.head.name],
        base_model=hub_ids or None,
        pipeline_tag="image-feature-extraction" if "image" in modality else "feature-extraction",
        model_name=name if results else None,
        eval_results=results or None,
    )
    example = "['some text']" if "text" in modality else "images" if records else "embeddings"
    encoders = ", ".join(f"`{r['name']}`" for r in records) or "none (it takes embeddings)"
    calibration = pipeline.provenance.get("calibration") or {}
    clusters = ""
    if pipeline.names:
        listed = "\n".join(f"| {i} | {_cell(n)} |" for i, n in enumerate(pipeline.names))
        clusters = f"\n## Clusters\n\n| number | name |\n|---|---|\n{listed}\n"
    return f"""---
{data.to_yaml()}
---

# {name}

Cluster pipeline made by fmcluster {__version__}: head `{pipeline.head.name}`,
{pipeline.n_clusters} clusters, encoder {encoders}.

## Use

```python
from fmcluster.hub import from_pretrained

pipeline = from_pretrained("{name}")
pipeline.predict({example})          # cluster numbers
pipeline.predict_proba({example})    # calibrated probabilities
```

## Confidence

Calibrated by: {calibration.get("method") or "nothing; probabilities are scores"}
({calibration.get("n_labels", 0)} labels). Without labels a calibration cannot see clusters that are
systematically wrong; a few labels can (`result.calibrate`).
{clusters}
## Limits

Clusters describe the data they were found in. New data of another kind is assigned all the same,
with a confidence that was calibrated on the old data.
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
