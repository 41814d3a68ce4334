"""The labelled sets that worlds are cut from, and their embeddings on disk.

Five sets of short texts and one of pictures lie beside the checkout with their embeddings; the
others come in packages and are embedded once (`python benchmarks/worlds.py embed`). What is made is
kept under the folder that FMCLUSTER_WORLDS names, or benchmarks/.cache.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared"
TEXTS = ("stackoverflow", "agnews", "banking77", "tweet", "googlenews_t", "brown", "mail", "bbc")
IMAGES = ("cifar10_test", "fashion", "mnist", "digits")
# What lies beside the checkout ready embedded, and with what.
READY = {
    "stackoverflow": "minilm",
    "agnews": "minilm",
    "banking77": "minilm",
    "tweet": "minilm",
    "googlenews_t": "minilm",
    "cifar10_test": "lite0-96",
}


def cache_folder() -> Path:
    """Return where embeddings are kept."""
    return Path(os.environ.get("FMCLUSTER_WORLDS") or HERE / ".cache")


@lru_cache
def labels_of(name: str) -> NDArray[Any]:
    """Return the classes of all rows of a set."""
    if name in READY:
        with np.load(SHARED / "embeddings" / f"{name}.npz") as stored:
            return np.asarray(stored["y"])
    return np.asarray(np.load(_made(name, f"{name}.y.npy")))


@lru_cache
def texts_of(name: str) -> list[str]:
    """Return the texts of all rows of a set."""
    from pyarrow.parquet import read_table

    folder = SHARED / "data" if name in READY else None
    path = folder / f"{name}.parquet" if folder else _made(name, f"{name}.parquet")
    return list(read_table(path)["text"].to_pylist())


@lru_cache(maxsize=4)
def rows_of(name: str, encoder: str) -> NDArray[np.floating]:
    """Return a set through an encoder, all rows."""
    if READY.get(name) == encoder:
        with np.load(SHARED / "embeddings" / f"{name}.npz") as stored:
            return np.asarray(stored["x"])
    return np.asarray(np.load(_made(name, f"{name}.{encoder}.npy")))


def _made(name: str, file: str) -> Path:
    """Return the path of a file that `worlds.py embed` makes.

    Raises
    ------
    FileNotFoundError
        It is not there yet.
    """
    path = cache_folder() / file
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: run python benchmarks/worlds.py embed --sets {name}")
    return path
