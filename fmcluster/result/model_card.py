"""The model card of a saved pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fmcluster.result.predictor import ClusterPipeline

from fmcluster.utils.version import __version__


def model_card(
    pipeline: ClusterPipeline, *, metrics: dict[str, float], repo_id: str | None = None
) -> str:
    """Return the Markdown model card with valid metadata and a snippet that runs."""
    from huggingface_hub import EvalResult, ModelCardData

    records = pipeline.provenance.get("encoders") or []
    hub_ids = [
        record["spec"]["encoder"]
        for record in records
        if "/" in record["spec"].get("encoder", "") and ":" not in record["spec"]["encoder"]
    ]
    modality = {record["spec"].get("modality") for record in records}
    name = repo_id or "pipeline"
    results = [
        EvalResult(
            task_type="clustering",
            dataset_type="unknown",
            dataset_name="the labeled rows given at saving",
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
    files = "recordings" if "audio" in modality else "images"
    example = "['some text']" if "text" in modality else files if records else "embeddings"
    encoders = ", ".join(f"`{r['name']}`" for r in records) or "none (it takes embeddings)"
    calibration = pipeline.provenance.get("calibration") or {}
    steps = pipeline.provenance.get("edits") or {}
    edits = ", ".join(f"{name} {count}" for name, count in steps.items())
    by_hand = f" Edited by a person ({edits})." if edits else ""
    clusters = ""
    if pipeline.names:
        listed = "\n".join(f"| {i} | {_cell(n)} |" for i, n in enumerate(pipeline.names))
        clusters = f"\n## Clusters\n\n| number | name |\n|---|---|\n{listed}\n"
    return f"""---
{data.to_yaml()}
---

# {name}

Cluster pipeline made by fmcluster {__version__}: head `{pipeline.head.name}`,
{pipeline.n_clusters} clusters, encoder {encoders}.{by_hand}

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
