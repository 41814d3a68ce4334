"""Cluster heads: scikit-learn estimators over embeddings, one file a published family."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from fmcluster.heads.base import ClusterHead
from fmcluster.heads.config import read_head_config
from fmcluster.utils.files import as_corrupt
from fmcluster.utils.folders import read_whole

# name -> (module, class); a head is imported when it is asked for.
_HEADS = {
    "auto": ("auto", "AutoHead"),
    "kmeans": ("kmeans", "KMeansHead"),
    "gmm": ("gmm", "GMMHead"),
    "spectral": ("spectral", "SpectralHead"),
    "agglomerative": ("agglomerative", "AgglomerativeHead"),
    "nmf": ("nmf", "NMFHead"),
    "hdbscan": ("hdbscan", "HDBSCANHead"),
    "scan": ("scan", "SCANHead"),
    "temi": ("temi", "TEMIHead"),
    "turtle": ("turtle", "TURTLEHead"),
    "cdc": ("cdc", "CDCHead"),
    "sela": ("sela", "SeLaHead"),
    "p2ot": ("p2ot", "P2OTHead"),
    "sp2ot": ("p2ot", "SP2OTHead"),
    "deepcluster": ("deepcluster", "DeepClusterHead"),
    "dec": ("dec", "DECHead"),
    "idec": ("dec", "IDECHead"),
    "simclr": ("simclr", "SimCLRHead"),
    "cc": ("cc", "CCHead"),
    "idfd": ("idfd", "IDFDHead"),
    "pcl": ("pcl", "PCLHead"),
    "spice": ("spice", "SPICEHead"),
    "secu": ("secu", "SeCuHead"),
}
_CLASSES = {cls: module for module, cls in _HEADS.values()}

__all__ = ["ClusterHead", "list_heads", "load_head", "make_head", *_CLASSES]


def list_heads() -> list[str]:
    """Return the names of all heads that `make_head` makes."""
    return list(_HEADS)


def head_class(name: str) -> type[ClusterHead]:
    """Return the class of a head by its name."""
    if name not in list_heads():
        raise ValueError(f"head={name!r} is not known: choose one of {', '.join(list_heads())}")
    module, cls = _HEADS[name]
    return getattr(importlib.import_module(f"fmcluster.heads.{module}"), cls)


def make_head(name: str, /, **params: Any) -> ClusterHead:
    """Make an unfitted head by name.

    Parameters
    ----------
    name : str
        One of `list_heads`.
    **params
        The head's constructor arguments, such as ``n_clusters`` and ``random_state``.

    Examples
    --------
    >>> make_head("kmeans", n_clusters=3).n_clusters
    3
    """
    cls = head_class(name)
    known = cls().get_params(deep=False)
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise TypeError(f"head {name!r} has no argument {unknown[0]!r}: it has {sorted(known)}")
    return cls(**params)


def load_head(folder: str | os.PathLike[str]) -> ClusterHead:
    """Load a head that `save_pretrained` wrote: safetensors and JSON, no pickle."""

    def read() -> ClusterHead:
        config = read_head_config(folder)
        with as_corrupt(folder):
            return head_class(str(config["head"]))._from_saved(Path(folder), config)

    return read_whole(Path(folder), "config.json", read)


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(importlib.import_module(f"fmcluster.heads.{_CLASSES[name]}"), name)
    raise AttributeError(f"module 'fmcluster.heads' has no attribute {name!r}")
