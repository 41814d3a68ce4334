"""The data of the suites: embeddings with labels, whole or cut to a long tail.

A name is ``set`` or ``set@RATIO``: the latter is cut along the exponential profile to that
imbalance ratio, with class order and rows of seed 0. Files are ``.npz`` with
arrays ``x`` (n, d) and ``y`` (n,) in one folder; other sets come from the Hub, see `HUB`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.partition.estimates.estimate import make_long_tail
from fmcluster.utils.files import digest_bytes
from fmcluster.vectors.graph import KNNGraph

SUITES: dict[str, list[str]] = {
    "long-tail": [
        "tweet",
        "googlenews_t",
        *(
            f"{name}@{r}"
            for name in ("stackoverflow", "banking77", "agnews")
            # Largest class over smallest: from a mild tail to one of a handful of rows.
            for r in (10, 50, 100)
        ),
    ],
    "balanced": ["stackoverflow", "banking77", "agnews"],
    "calibration": [
        "stackoverflow",
        "agnews",
        "banking77",
        "tweet",
        "googlenews_t",
        "stackoverflow@100",
        "banking77@50",
    ],
    "images": ["cifar100-lt@10", "cifar100-lt@50", "cifar100-lt@100", "imagenet-lt", "inaturalist"],
}
# Hub id, split, image column, label column, ratio of the published cut (None: as it is).
HUB: dict[str, tuple[str, str, str, str]] = {
    "cifar10-lt": ("uoft-cs/cifar10", "train", "img", "label"),
    "cifar100-lt": ("uoft-cs/cifar100", "train", "img", "fine_label"),
    "imagenet-lt": ("ILSVRC/imagenet-1k", "train", "image", "label"),
    "inaturalist": ("timm/inat-2018", "train", "image", "label"),
}
# Enough for every head's own number (`n_neighbors`), so that none builds a second graph.
GRAPH_NEIGHBORS = 50


@dataclass
class BenchData:
    """Embeddings and labels of one set.

    Attributes
    ----------
    name : str
        Its name.
    x : (n, d) float32
        Embeddings.
    y : (n,) int64
        True classes, 0..K-1; only the metrics read them.
    """

    name: str
    x: NDArray[np.float32]
    y: NDArray[np.int64]

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.y.max()) + 1

    @cached_property
    def digest(self) -> str:
        """Digest of rows and labels."""
        return digest_bytes(self.x.astype(np.float16).tobytes() + self.y.tobytes())

    @cached_property
    def graph(self) -> KNNGraph:
        """Neighbors, shared by all methods."""
        return KNNGraph.build(self.x, k=GRAPH_NEIGHBORS)


def load(name: str, folder: str | os.PathLike[str] | None, *, encoder: Any = None) -> BenchData:
    """Return a set by its name, from `folder` or from the Hub.

    Raises
    ------
    FileNotFoundError
        It is neither in the folder nor a Hub set; the names there are listed.
    """
    base, _, ratio = name.partition("@")
    path = Path(folder) / f"{base}.npz" if folder is not None else None
    if path is not None and path.is_file():
        with np.load(path, allow_pickle=False) as arrays:
            x, y = arrays["x"].astype(np.float32), arrays["y"]
    elif base in HUB:
        x, y = _from_hub(base, encoder)
    else:
        there = sorted(p.stem for p in Path(folder).glob("*.npz")) if folder is not None else []
        raise FileNotFoundError(
            f"no data set {base!r}: --data {folder} holds {', '.join(there) or 'no .npz files'}"
        )
    if ratio:
        rows = make_long_tail(y, imbalance_ratio=float(ratio), random_state=0)
        x, y = x[rows], y[rows]
    y = np.unique(y, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return BenchData(name, x, y)


def _from_hub(name: str, encoder: Any) -> tuple[NDArray[np.float32], NDArray[Any]]:
    from datasets import load_dataset

    from fmcluster.api import embed

    hub_id, split, column, label = HUB[name]
    try:
        data = load_dataset(hub_id, split=split)
    except Exception as error:  # datasets raises many kinds when the Hub is out of reach
        raise FileNotFoundError(
            f"data set {name!r} ({hub_id}) cannot be had from the Hub ({type(error).__name__})"
        ) from None
    store = embed(data, encoder=encoder, column=column)
    return np.asarray(store, dtype=np.float32), np.asarray(data[label])
