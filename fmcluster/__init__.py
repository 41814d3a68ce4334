"""Clustering on foundation-model embeddings that people can trust and use.

Names resolve on first use, so importing the package loads neither torch, faiss, transformers nor
datasets.
"""

from __future__ import annotations

import importlib
from typing import Any

from fmcluster.utils.version import __version__

_HOMES = {
    "embed": "fmcluster.api",
    "cluster": "fmcluster.api",
    "map_embed": "fmcluster.embedding.hf_map",
    "EmbedFunction": "fmcluster.embedding.hf_map",
    "EmbeddingStore": "fmcluster.embedding.store.store",
    "KNNGraph": "fmcluster.vectors.graph",
    "KNNIndex": "fmcluster.vectors.index",
    "Preprocessor": "fmcluster.vectors.preprocess",
    "modularity_silhouette_scorer": "fmcluster.partition.scorers",
    "Calibrator": "fmcluster.calibration.calibrator",
    "ClusterResult": "fmcluster.result.result",
    "ClusterPipeline": "fmcluster.result.predictor",
    "from_pretrained": "fmcluster.result.hub",
    "push_to_hub": "fmcluster.result.hub",
    "save_pretrained": "fmcluster.result.hub",
    "name_clusters": "fmcluster.result.naming",
    "name_by_terms": "fmcluster.result.naming",
    "name_by_vocabulary": "fmcluster.result.naming",
    "ChatNamer": "fmcluster.result.naming",
    "list_heads": "fmcluster.heads",
    "load_head": "fmcluster.heads",
    "make_head": "fmcluster.heads",
    "estimate_n_clusters": "fmcluster.partition.estimates.estimate",
    "estimate_prior": "fmcluster.partition.estimates.estimate",
    "make_long_tail": "fmcluster.partition.estimates.estimate",
    "query": "fmcluster.labeling.query",
    "query_pairs": "fmcluster.labeling.query_pairs",
    "propagate": "fmcluster.labeling.propagate",
    "find_label_issues": "fmcluster.labeling.issues",
    "fit_robust": "fmcluster.labeling.robust",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fmcluster' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
