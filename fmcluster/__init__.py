"""Clustering on foundation-model embeddings that people can trust and use.

Names resolve on first use, so importing the package loads neither torch, faiss, transformers nor
datasets.
"""

from __future__ import annotations

import importlib
from typing import Any

from fmcluster._version import __version__

_HOMES = {
    "embed": "fmcluster.pipeline",
    "cluster": "fmcluster.pipeline",
    "map_embed": "fmcluster.mapping",
    "EmbedFunction": "fmcluster.mapping",
    "EmbeddingStore": "fmcluster.store",
    "KNNGraph": "fmcluster.index",
    "KNNIndex": "fmcluster.index",
    "Preprocessor": "fmcluster.preprocess",
    "modularity_silhouette_scorer": "fmcluster.scoring",
    "Calibrator": "fmcluster.calibrate",
    "ClusterResult": "fmcluster.result",
    "ClusterPipeline": "fmcluster.hub",
    "from_pretrained": "fmcluster.hub",
    "push_to_hub": "fmcluster.hub",
    "save_pretrained": "fmcluster.hub",
    "name_by_terms": "fmcluster.naming",
    "name_by_vocabulary": "fmcluster.naming",
    "list_heads": "fmcluster.heads",
    "load_head": "fmcluster.heads",
    "make_head": "fmcluster.heads",
    "estimate_n_clusters": "fmcluster.estimate",
    "estimate_prior": "fmcluster.estimate",
    "make_long_tail": "fmcluster.estimate",
    "query": "fmcluster.query",
    "propagate": "fmcluster.query",
    "find_label_issues": "fmcluster.clean",
    "fit_robust": "fmcluster.clean",
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
