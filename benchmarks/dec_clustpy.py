"""DEC and IDEC on raw MNIST pixels: ours, and ClustPy's on the same rows in the same run.

    python benchmarks/dec_clustpy.py MNIST.parquet [--by fmcluster,clustpy] [--heads dec,idec]
        [--rows 60000] [--pretrain 20] [--epochs 8] [--batch 256] [--threads 1] [--out FILE]

Both get the same rows, network (784-500-500-2000-10), optimiser (Adam), epochs, batch size and
number of threads, and they take turns, an epoch each: whatever slows the machine for a while slows
both. The seconds of a stage are what it takes from start to end in its own turns, over its epochs:
for the second stage that is k-means of the codes and, for ours, their neighbor graph too. ClustPy
gives two answers, the centres' own and k-means of the last codes: the more accurate one counts.
With --out, each line is added to a JSON list.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fmcluster.functional.metrics import evaluate
from fmcluster.heads import make_head
from fmcluster.utils.files import write_json
from fmcluster.utils.optional import require

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
    """CPU and wall seconds of named stages, but for what passes while it is paused."""

    def __init__(self) -> None:
        self.spent: dict[str, tuple[float, float]] = {}
        self.away = (0.0, 0.0)

    def now(self) -> tuple[float, float]:
        """Return CPU and wall seconds that this clock has seen."""
        return time.process_time() - self.away[0], time.perf_counter() - self.away[1]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """See nothing of the block."""
        cpu, wall = self.now()
        yield
        self.away = time.process_time() - cpu, time.perf_counter() - wall

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time the block as `stage`."""
        start = self.now()
        yield
        cpu, wall = (now - then for now, then in zip(self.now(), start, strict=True))
        self.spent[stage] = cpu, wall


class Turns:
    """Lets one of two processes run at a time."""

    def __init__(self, names: list[str], shared: SyncManager) -> None:
        self.gates = {name: shared.Semaphore(0) for name in names}
        self.ended = {name: shared.Event() for name in names}
        self.gates[names[0]].release()

    def begin(self, name: str) -> None:
        """Wait for the turn."""
        self.gates[name].acquire()

    def change(self, name: str, clock: Clock) -> None:
        """Let the other run until it comes here too."""
        for other, gate in self.gates.items():
            if other != name and not self.ended[other].is_set():
                with clock.paused():
                    gate.release()
                    self.begin(name)

    def end(self, name: str) -> None:
        """Leave the other alone."""
        self.ended[name].set()
        for gate in self.gates.values():
            gate.release()


def ours(
    name: str, x: Any, asked: argparse.Namespace, clock: Clock, change: Callable[[], None]
) -> Any:
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

    def timed(which: str, objective: Any, *args: Any) -> Any:
        before = objective.before_epoch

        def before_epoch(*of_epoch: Any) -> None:
            change()
            before(*of_epoch)

        objective.before_epoch = before_epoch
        with clock(which):
            return stage(which, objective, *args)

    head._stage = timed
    return [head.fit(x).labels_]


class Epochs:
    """In place of the progress bar that ClustPy counts epochs by."""

    def __init__(self, change: Callable[[], None], n_epochs: int) -> None:
        self.change, self.n_epochs = change, n_epochs

    def __iter__(self) -> Iterator[int]:
        for epoch in range(self.n_epochs):
            self.change()
            yield epoch

    def set_postfix(self, *_: Any) -> None:
        """Show nothing."""


def peers(
    name: str, x: Any, asked: argparse.Namespace, clock: Clock, change: Callable[[], None]
) -> Any:
    """Fit ClustPy's algorithm of the same name; return its answers: the centres', k-means'."""
    require("tqdm", extra="baselines").trange = lambda n, **_: Epochs(change, n)
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


def measure(by: str, name: str, asked: argparse.Namespace, turns: Turns) -> dict[str, Any]:
    """Fit once; return accuracy, and seconds of the whole and of an epoch of each stage."""
    fit = ours if by == "fmcluster" else peers
    turns.begin(by)
    try:
        torch.set_num_threads(asked.threads)
        x, y = load(asked.data, asked.rows)
        # What is imported and set up at first use is nobody's epoch.
        short = argparse.Namespace(**{**vars(asked), "pretrain": 1, "epochs": 1})
        fit("dec", x[:600], short, Clock(), lambda: None)
        clock = Clock()
        turns.change(by, clock)
        with clock("all"):
            answers = fit(name, x, asked, clock, lambda: turns.change(by, clock))
    finally:
        turns.end(by)
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


def side_by_side(name: str, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what `measure` gives for each library, in processes that take turns."""
    by = asked.by.split(",")
    context = multiprocessing.get_context("spawn")
    with context.Manager() as shared, ProcessPoolExecutor(len(by), mp_context=context) as pool:
        turns = Turns(by, shared)
        fits = [pool.submit(measure, one, name, asked, turns) for one in by]
        return [fit.result() for fit in fits]


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
    for name in asked.heads.split(","):
        for found in side_by_side(name, asked):
            print(json.dumps(found), flush=True)
            if asked.out:
                kept = json.loads(asked.out.read_text("utf-8")) if asked.out.is_file() else []
                write_json(asked.out, [*kept, found])


if __name__ == "__main__":
    main()
