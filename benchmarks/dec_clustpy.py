"""DEC and IDEC on raw MNIST pixels: ours, and ClustPy's on the same rows in the same run.

    python benchmarks/dec_clustpy.py MNIST.parquet [--rows 60000] [--pretrain 40] [--epochs 10]
        [--batch 512] [--heads dec,idec] [--no-peer] [--slopes] [--precision bf16]

Both get the same rows, network (784-500-500-2000-10), epochs, batch size and one thread.
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
from fmcluster.heads.trainer import TrainOptions

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


def ours(name: str, x: Any, pretrain: int, epochs: int, asked: argparse.Namespace) -> Any:
    """Fit our head; return its labels."""
    head = make_head(
        name,
        n_clusters=N_CLUSTERS,
        hidden=HIDDEN,
        pretrain_epochs=pretrain,
        epochs=epochs,
        batch_size=asked.batch,
        random_state=asked.seed,
        options=TrainOptions(mixed_precision=asked.precision),
    )
    return head.fit(x).labels_


def peers(name: str, x: Any, pretrain: int, epochs: int, asked: argparse.Namespace) -> Any:
    """Fit ClustPy's algorithm of the same name; return its labels."""
    deep = require("clustpy.deep", extra="baselines", package="clustpy")
    networks = require("clustpy.deep.neural_networks", extra="baselines", package="clustpy")
    x = x * np.float32(np.sqrt(x.size / np.square(x, dtype=np.float64).sum()))
    torch.manual_seed(asked.seed)
    algorithm = getattr(deep, name.upper())(
        N_CLUSTERS,
        batch_size=asked.batch,
        pretrain_epochs=pretrain,
        clustering_epochs=epochs,
        neural_network=networks.FeedforwardAutoencoder([x.shape[1], *HIDDEN, N_CLUSTERS]),
        embedding_size=N_CLUSTERS,
        device="cpu",
        random_state=np.random.RandomState(asked.seed),
    ).fit(x)
    return getattr(algorithm, "dec_labels_", algorithm.labels_).astype(np.int64)


def measure(by: str, name: str, x: Any, y: Any, asked: argparse.Namespace) -> dict[str, Any]:
    """Fit once as asked, and with --slopes with fewer epochs, whose difference is an epoch's time.

    What is done once (k-means between the stages, the last prediction) cancels out that way.
    """
    fit = ours if by == "fmcluster" else peers
    plans = [(asked.pretrain, asked.epochs)]
    if asked.slopes:
        plans += [(1, asked.epochs), (asked.pretrain, 1)]
    spent = []
    for number, (pretrain, epochs) in enumerate(plans):
        start, wall = time.process_time(), time.perf_counter()
        labels = fit(name, x, pretrain, epochs, asked)
        spent.append(time.process_time() - start)
        if number == 0:
            measured, seconds = evaluate(y, labels), time.perf_counter() - wall
    found = {"head": name, "by": by, "pretrain_epochs": asked.pretrain, "epochs": asked.epochs}
    found |= {"cpu_seconds": round(spent[0], 1), "seconds": round(seconds, 1)}
    if asked.slopes:
        found["cpu_a_pretrain_epoch"] = round((spent[0] - spent[1]) / (asked.pretrain - 1), 3)
        found["cpu_a_cluster_epoch"] = round((spent[0] - spent[2]) / (asked.epochs - 1), 3)
    return found | {key: round(100 * float(measured[key]), 2) for key in ("acc", "nmi", "ari")}


def main() -> None:
    """Read the command line, run both, print and append one JSON line each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="Parquet with columns image and label")
    parser.add_argument("--out", type=Path, help="JSON lines to append to")
    parser.add_argument("--heads", default="dec,idec")
    parser.add_argument("--no-peer", action="store_true")
    for flag, default in (("rows", 60_000), ("pretrain", 40), ("epochs", 10), ("batch", 512)):
        parser.add_argument(f"--{flag}", type=int, default=default)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="no", help="no or bf16, of ours")
    parser.add_argument("--slopes", action="store_true", help="time an epoch, by two more fits")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    x, y = load(asked.data, asked.rows)
    for name in asked.heads.split(","):
        for by in ["fmcluster"] if asked.no_peer else ["fmcluster", "clustpy"]:
            about = {"rows": len(x), "batch": asked.batch, "precision": asked.precision}
            line = json.dumps(about | measure(by, name, x, y, asked))
            print(line, flush=True)
            if asked.out:
                with open(asked.out, "a", encoding="utf-8") as handle:
                    handle.write(line + "\n")


if __name__ == "__main__":
    main()
