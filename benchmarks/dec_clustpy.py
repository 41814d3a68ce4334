"""DEC and IDEC on raw MNIST pixels: ours, and ClustPy's on the same rows in the same run.

    python benchmarks/dec_clustpy.py MNIST.parquet [--by fmcluster,clustpy] [--heads dec,idec]
        [--rows 60000] [--pretrain 20] [--epochs 8] [--batch 256] [--threads 1] [--out FILE]

Both get the same rows, network (784-500-500-2000-10), optimiser (Adam), epochs, batch size and
number of threads. The seconds of a stage are what it takes from start to end, over its epochs: for
the second stage that is k-means of the codes and, for ours, their neighbour graph too. ClustPy
gives two answers, the centres' own and k-means of the last codes: the more accurate one counts.
With --out, each line is added to a JSON list.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fmcluster._files import write_json
from fmcluster._validation import require
from fmcluster.functional.metrics import evaluate
from fmcluster.heads import make_head

HIDDEN = (500, 500, 2000)
N_CLUSTERS = 10


def load(path: Path, n_rows: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return pixels (n, 784) in [0, 1] and digits (n,)."""
    import pyarrow.parquet as pq
    from PIL import Image

    table = pq.read_table(path).slice(0, n_rows)
    images = [Image.open(io.BytesIO(one["bytes"])) for one in table["image"].to_pylist()]
    x = np.stack([np.asarray(image.convert("L")).ravel() for image in images])
    return x.astype(np.float32) / np.float32(255), np.asarray(table["label"]).astype(np.int64)


class Clock:
    """CPU and wall seconds of named stages."""

    def __init__(self) -> None:
        self.spent: dict[str, tuple[float, float]] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time the block as `stage`."""
        start = time.process_time(), time.perf_counter()
        yield
        self.spent[stage] = (time.process_time() - start[0], time.perf_counter() - start[1])


def ours(name: str, x: Any, asked: argparse.Namespace, clock: Clock) -> Any:
    """Fit our head; return its answers: one."""
    head = make_head(
        name,
        n_clusters=N_CLUSTERS,
        pretrain_epochs=asked.pretrain,
        epochs=asked.epochs,
        batch_size=asked.batch,
        min_steps=0,
        random_state=asked.seed,
    )
    stage = head._stage

    def timed(which: str, *args: Any, **kwargs: Any) -> Any:
        with clock(which):
            return stage(which, *args, **kwargs)

    head._stage = timed
    return [head.fit(x).labels_]


def peers(name: str, x: Any, asked: argparse.Namespace, clock: Clock) -> Any:
    """Fit ClustPy's algorithm of the same name; return its answers: the centres', k-means'."""
    deep = require("clustpy.deep", extra="baselines", package="clustpy")
    networks = require("clustpy.deep.neural_networks", extra="baselines", package="clustpy")
    x = x * np.float32(np.sqrt(x.size / np.square(x, dtype=np.float64).sum()))
    torch.manual_seed(asked.seed)
    network = networks.FeedforwardAutoencoder([x.shape[1], *HIDDEN, N_CLUSTERS])
    with clock("pretrain"):
        network.fit(n_epochs=asked.pretrain, batch_size=asked.batch, data=x)
    algorithm = getattr(deep, name.upper())(
        N_CLUSTERS,
        batch_size=asked.batch,
        clustering_epochs=asked.epochs,
        neural_network=network,
        embedding_size=N_CLUSTERS,
        device="cpu",
        random_state=np.random.RandomState(asked.seed),
    )
    with clock("cluster"):
        algorithm.fit(x)
    return [algorithm.dec_labels_, algorithm.labels_]


def measure(by: str, name: str, x: Any, y: Any, asked: argparse.Namespace) -> dict[str, Any]:
    """Fit once; return accuracy, and seconds of the whole and of an epoch of each stage."""
    clock = Clock()
    with clock("all"):
        answers = (ours if by == "fmcluster" else peers)(name, x, asked, clock)
    every = [evaluate(y, labels.astype(np.int64)) for labels in answers]
    measured = max(every, key=lambda one: float(one["acc"]))
    found: dict[str, Any] = {"head": name, "by": by}
    for key in ("rows", "pretrain", "epochs", "batch", "threads", "seed"):
        found[key] = getattr(asked, key)
    found |= {key: round(100 * float(measured[key]), 2) for key in ("acc", "nmi", "ari")}
    found["cpu_seconds"], found["seconds"] = (round(value, 1) for value in clock.spent["all"])
    for stage, n_epochs in (("pretrain", asked.pretrain), ("cluster", asked.epochs)):
        for kind, value in zip(("cpu", "wall"), clock.spent[stage], strict=True):
            found[f"{kind}_a_{stage}_epoch"] = round(value / n_epochs, 3)
    return found


def main() -> None:
    """Read the command line, run both, print a JSON line each and keep them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="Parquet with columns image and label")
    parser.add_argument("--out", type=Path, help="JSON list to add to")
    parser.add_argument("--heads", default="dec,idec")
    parser.add_argument("--by", default="fmcluster,clustpy")
    numbers = {"rows": 60_000, "pretrain": 20, "epochs": 8, "batch": 256, "seed": 0, "threads": 1}
    for flag, default in numbers.items():
        parser.add_argument(f"--{flag}", type=int, default=default)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    x, y = load(asked.data, asked.rows)
    short = argparse.Namespace(**{**vars(asked), "pretrain": 1, "epochs": 1})
    for by in asked.by.split(","):  # what is imported and compiled at first use is nobody's epoch
        measure(by, "dec", x[:600], y[:600], short)
    for name in asked.heads.split(","):
        for by in asked.by.split(","):
            found = measure(by, name, x, y, asked)
            print(json.dumps(found), flush=True)
            if asked.out:
                kept = json.loads(asked.out.read_text("utf-8")) if asked.out.is_file() else []
                write_json(asked.out, [*kept, found])


if __name__ == "__main__":
    main()
