"""DEC and IDEC on raw MNIST pixels: ours, and ClustPy's on the same rows in the same run.

    python benchmarks/dec_clustpy.py MNIST.parquet [--rows 60000] [--pretrain 40] [--epochs 15]
        [--batch 512] [--peer-pretrain 1] [--peer-epochs 1] [--heads dec,idec] [--no-peer]

Both get the same rows, network (784-500-500-2000-10), batch size, optimiser and one thread. Seconds
an epoch are CPU seconds of a stage over its epochs, k-means between the stages included. ACC is
compared at equal epochs; give the peer as many as the head to see that, or one to see the speed.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

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


def ours(name: str, x: Any, y: Any, asked: argparse.Namespace) -> dict[str, Any]:
    """Fit our head; return ACC and CPU seconds."""
    start, wall = time.process_time(), time.perf_counter()
    head = make_head(
        name,
        n_clusters=N_CLUSTERS,
        hidden=HIDDEN,
        pretrain_epochs=asked.pretrain,
        epochs=asked.epochs,
        batch_size=asked.batch,
        random_state=asked.seed,
    ).fit(x)
    spent = time.process_time() - start
    measured = evaluate(y, head.labels_)
    return {
        "head": name,
        "by": "fmcluster",
        "pretrain_epochs": asked.pretrain,
        "epochs": asked.epochs,
        "cpu_seconds": round(spent, 1),
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds_an_epoch": round(spent / (asked.pretrain + asked.epochs), 2),
        **{key: round(100 * float(measured[key]), 2) for key in ("acc", "nmi", "ari")},
    }


def peers(name: str, x: Any, y: Any, asked: argparse.Namespace) -> dict[str, Any]:
    """Fit ClustPy's algorithm of the same name; return ACC and CPU seconds."""
    deep = require("clustpy.deep", extra="baselines", package="clustpy")
    networks = require("clustpy.deep.neural_networks", extra="baselines", package="clustpy")
    x = x * np.float32(np.sqrt(x.size / np.square(x, dtype=np.float64).sum()))
    torch.manual_seed(asked.seed)
    network = networks.FeedforwardAutoencoder([x.shape[1], *HIDDEN, N_CLUSTERS])
    start, wall = time.process_time(), time.perf_counter()
    algorithm = getattr(deep, name.upper())(
        N_CLUSTERS,
        batch_size=asked.batch,
        pretrain_epochs=asked.peer_pretrain,
        clustering_epochs=asked.peer_epochs,
        neural_network=network,
        embedding_size=N_CLUSTERS,
        device="cpu",
        random_state=np.random.RandomState(asked.seed),
    ).fit(x)
    spent = time.process_time() - start
    measured = evaluate(y, getattr(algorithm, "dec_labels_", algorithm.labels_).astype(np.int64))
    return {
        "head": name,
        "by": "clustpy",
        "pretrain_epochs": asked.peer_pretrain,
        "epochs": asked.peer_epochs,
        "cpu_seconds": round(spent, 1),
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds_an_epoch": round(spent / (asked.peer_pretrain + asked.peer_epochs), 2),
        **{key: round(100 * float(measured[key]), 2) for key in ("acc", "nmi", "ari")},
    }


def main() -> None:
    """Read the command line, run both, print and append one JSON line each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="Parquet with columns image and label")
    parser.add_argument("--out", type=Path, help="JSON lines to append to")
    parser.add_argument("--heads", default="dec,idec")
    parser.add_argument("--no-peer", action="store_true")
    for flag, default in (("rows", 60_000), ("pretrain", 40), ("epochs", 15), ("batch", 512)):
        parser.add_argument(f"--{flag}", type=int, default=default)
    for flag, default in (("peer-pretrain", 1), ("peer-epochs", 1), ("seed", 0)):
        parser.add_argument(f"--{flag}", type=int, default=default)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    x, y = load(asked.data, asked.rows)
    for name in asked.heads.split(","):
        runs = [ours] if asked.no_peer else [ours, peers]
        for one in runs:
            line = json.dumps({"rows": len(x), "batch": asked.batch, **one(name, x, y, asked)})
            print(line, flush=True)
            if asked.out:
                with open(asked.out, "a", encoding="utf-8") as handle:
                    handle.write(line + "\n")


if __name__ == "__main__":
    main()
