"""The ``config.json`` of a saved head."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmcluster.utils.errors import CorruptShardError
from fmcluster.utils.files import read_json

if TYPE_CHECKING:
    from fmcluster.heads.base import ClusterHead

FORMAT = "fmcluster.head/1"
SAVED = ("config.json", "model.safetensors")


def plain_params(head: ClusterHead) -> dict[str, Any]:
    """Return the constructor arguments that JSON can hold; run-time options are left out."""
    params = {}
    for key, value in head.get_params(deep=False).items():
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if isinstance(value, tuple):
            value = list(value)
        if value is None or isinstance(value, (bool, int, float, str, list)):
            params[key] = value
    return params


def head_record(head: ClusterHead) -> dict[str, Any]:
    """Return what provenance says of a head: its name and the arguments that are plain values."""
    plain = (str, int, float, bool, list, type(None))
    params = {k: v for k, v in head.get_params(deep=False).items() if isinstance(v, plain)}
    return {"name": head.name, "params": params}


def read_head_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read and check the ``config.json`` of a saved head."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no saved head: there is no config.json in it")
    config = read_json(path)
    needed = {"format", "head", "params", "n_features_in", "space_dims", "n_clusters"}
    if not isinstance(config, dict) or not needed <= set(config):
        raise CorruptShardError(f"{path} is not a head's config: it lacks {sorted(needed)}")
    if config["format"] != FORMAT:
        raise CorruptShardError(f"{path} has format {config['format']!r}, expected {FORMAT!r}")
    return config
