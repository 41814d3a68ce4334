"""A million rows on one machine: seconds, memory, recall and accuracy of every stage.

Rows of 128 dimensions are drawn from 100 Gaussians around random unit directions of a plane of 32
(embeddings too fill few of their dimensions), so wide that the nearest of them overlap, with sizes
that fall like rank to the -0.7 (the largest has 25 times the rows of the smallest), and set to
length one. They lie in a file and are read as a memory map. Each cell is a process of its own;
its memory is the peak resident set (pages of the map included) above that after the imports.

    python benchmarks/million.py pipeline --rows 1000000 --threads 2
    python benchmarks/million.py growth --rows 100000 1000000 --heads kmeans gmm scan
    python benchmarks/million.py many --rows 1000000 --clusters 2000 --threads 2

``pipeline`` is the neighbor graph, the head ``auto`` and ``predict``. ``growth`` is one head a
cell, trained heads for one epoch a stage on a graph of random rows (what an epoch takes does not
depend on which rows are neighbors, what it finds does, so it is not reported); ``graph:ivf``
builds the graph by that index, ``cluster`` is the facade. ``many`` is what one does with a result
of thousands of clusters, apart on all dimensions, whose probabilities are more than is held: beside
the peak, which counts the pages of their file, it notes what was held. Finished cells are in
``--out``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "million.json"
DIMS, INNER, CLUSTERS = 128, 32, 100
NOISE, OFF_PLANE = 0.2, 0.02
BLOCK = 50_000
GIVEN = 20  # neighbors a row
EPOCHS = ("epochs", "self_label_epochs", "pretrain_epochs", "semi_epochs")


def mixture() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return unit directions (k, 32), the axes of their plane (32, d) and the shares (k,)."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLUSTERS, INNER))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    axes = np.linalg.qr(rng.normal(size=(DIMS, INNER)))[0].T
    share = rng.permutation(np.arange(1, CLUSTERS + 1) ** -0.7)
    return centres, axes, share / share.sum()


def write_rows(folder: Path, n_rows: int) -> tuple[Path, Path]:
    """Write the rows and their classes once, block by block."""
    x_path, y_path = folder / f"x{n_rows}.npy", folder / f"y{n_rows}.npy"
    if not y_path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        centres, axes, share = mixture()
        x = np.lib.format.open_memmap(x_path, "w+", np.float32, (n_rows, DIMS))
        y = np.empty(n_rows, np.int64)
        for start in range(0, n_rows, BLOCK):
            rng = np.random.default_rng([1, start])
            size = min(BLOCK, n_rows - start)
            own = rng.choice(CLUSTERS, size, p=share)
            rows = (centres[own] + NOISE * rng.normal(size=(size, INNER))) @ axes
            rows += OFF_PLANE * rng.normal(size=(size, DIMS))
            x[start : start + size] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            y[start : start + size] = own
        x.flush()
        np.save(y_path, y)
    return x_path, y_path


# -- one cell, in a process of its own ----------------------------------------------------------


def memory(key: str) -> float:
    """Return a line of this process's status in MiB: VmRSS, VmHWM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


class Stages:
    """Seconds, CPU seconds and peak memory of the stages of this process."""

    def __init__(self) -> None:
        self.baseline = memory("VmRSS")
        self.found: dict[str, dict[str, float]] = {}

    def run(self, name: str, work: Any) -> Any:
        """Run `work` and note what it took."""
        # Forget the peak so far (5 in clear_refs); the peak of the whole is the largest.
        Path("/proc/self/clear_refs").write_text("5")
        wall, cpu = time.perf_counter(), cpu_seconds()
        result = work()
        self.found[name] = {
            "seconds": round(time.perf_counter() - wall, 2),
            "cpu_seconds": round(cpu_seconds() - cpu, 2),
            "peak_mib": round(memory("VmHWM") - self.baseline),
        }
        print(f"  {name}: {self.found[name]}", file=sys.stderr, flush=True)
        return result

    def totals(self) -> dict[str, Any]:
        """Return the stages and their sums."""
        stages = self.found.values()
        return {
            "stages": self.found,
            "seconds": round(sum(s["seconds"] for s in stages), 1),
            "cpu_seconds": round(sum(s["cpu_seconds"] for s in stages), 1),
            "peak_mib": max(s["peak_mib"] for s in stages),
            "baseline_mib": round(self.baseline),
            # Above the cores, seconds are those of a shared machine: CPU seconds then tell more.
            "load_average": round(os.getloadavg()[2], 1),
        }


def cpu_seconds() -> float:
    """Return the CPU seconds of all threads of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def pipeline_cell(x_path: str, y_path: str) -> dict[str, Any]:
    """Build the graph, fit ``auto``, predict: what the bar asks for."""
    from fmcluster.functional.metrics import evaluate
    from fmcluster.heads import make_head
    from fmcluster.vectors.faiss_index import faiss_module
    from fmcluster.vectors.graph import KNNGraph

    faiss_module()
    head = make_head("auto", n_clusters=CLUSTERS, random_state=0)
    stages = Stages()
    rows = np.load(x_path, mmap_mode="r")
    graph = stages.run("graph", lambda: KNNGraph.build(rows, k=20, random_state=0))
    stages.run("fit", lambda: head.fit(rows, graph=graph))
    labels = stages.run("predict", lambda: head.predict(rows))
    y = np.load(y_path)
    return {
        **stages.totals(),
        "method": graph.method,
        "recall": round(graph.recall, 4),
        "same_class_neighbors": round(float((y[graph.indices[:, 0]] == y).mean()), 4),
        **{key: round(value, 4) for key, value in evaluate(y, labels).items()},
        "acc_of_true_centres": round(float(np.mean(truest(rows) == y)), 4),
        "predict_equals_labels": bool((labels == head.labels_).all()),
    }


def truest(rows: np.ndarray) -> np.ndarray:
    """Return the likeliest class of rows (n, d) where directions and shares are known."""
    centres, axes, share = mixture()
    bias = NOISE**2 * np.log(share)
    parts = [
        (rows[start : start + BLOCK] @ (centres @ axes).T + bias).argmax(axis=1)
        for start in range(0, len(rows), BLOCK)
    ]
    return np.concatenate(parts)


def growth_cell(name: str, x_path: str, y_path: str) -> dict[str, Any]:
    """Fit a head (or build the graph, or do all that `cluster` does) and predict."""
    import fmcluster as fmc
    from fmcluster.functional.metrics import evaluate
    from fmcluster.heads import make_head
    from fmcluster.heads.training.head import TrainedHead
    from fmcluster.vectors.faiss_index import faiss_module
    from fmcluster.vectors.graph import KNNGraph

    faiss_module()
    rows = np.load(x_path, mmap_mode="r")
    near = np.random.default_rng(0).integers(0, len(rows), (len(rows), GIVEN), dtype=np.int32)
    graph = KNNGraph(near, np.full(near.shape, 0.5, np.float32))
    if name == "cluster":
        work, stages = fmc.cluster, Stages()
        stages.run("cluster", lambda: work(rows, n_clusters=CLUSTERS, graph=graph))
        return stages.totals()
    if name.startswith("graph"):
        method = name.partition(":")[2] or "auto"
        stages = Stages()
        build = partial(KNNGraph.build, rows, k=20, method=method, random_state=0)
        graph = stages.run("graph", build)
        return {**stages.totals(), "method": graph.method, "recall": round(graph.recall, 4)}
    head = make_head(name, n_clusters=CLUSTERS, random_state=0)
    known = head.get_params()
    short = {key: 1 for key in (*EPOCHS, "min_steps") if key in known}
    if known.get("n_neighbors", 0) > GIVEN:
        short["n_neighbors"] = GIVEN
    head.set_params(**short)
    stages = Stages()
    stages.run("fit", lambda: head.fit(rows, graph=graph))
    labels = stages.run("predict", lambda: head.predict(rows))
    totals = {**stages.totals(), "changed": short}
    # A head that has read the random neighbors, or trained for one epoch, has found nothing.
    sampled = len(rows) > min(known.get("max_rows", np.inf), known.get("max_nodes", np.inf))
    if not isinstance(head, TrainedHead) and (sampled or "n_neighbors" not in known):
        totals["acc"] = round(evaluate(np.load(y_path), labels)["acc"], 4)
    return totals


def write_many(folder: Path, n_rows: int, n_clusters: int) -> tuple[Path, Path]:
    """Write rows of Gaussians as far apart as random directions are; sizes are a Dirichlet draw."""
    x_path = folder / f"many{n_rows}x{n_clusters}.npy"
    y_path = folder / f"many{n_rows}x{n_clusters}_y.npy"
    if not y_path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        centres = rng.normal(size=(n_clusters, DIMS)).astype(np.float32)
        y = rng.choice(n_clusters, n_rows, p=rng.dirichlet(np.full(n_clusters, 2.0)))
        x = np.lib.format.open_memmap(x_path, "w+", np.float32, (n_rows, DIMS))
        for start in range(0, n_rows, BLOCK):
            own = centres[y[start : start + BLOCK]]
            x[start : start + BLOCK] = own + 0.8 * rng.normal(size=own.shape).astype(np.float32)
        x.flush()
        np.save(y_path, y)
    return x_path, y_path


def many_cell(n_clusters: int, x_path: str, y_path: str) -> dict[str, Any]:
    """Cluster, ask, save and load, with what is held beside the pages of files."""
    import fmcluster as fmc
    from fmcluster.functional.metrics import evaluate
    from fmcluster.vectors.faiss_index import faiss_module

    work = fmc.cluster
    faiss_module()
    rows, y = np.load(x_path, mmap_mode="r"), np.load(y_path)
    held, ended = [memory("RssAnon")], threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            held.append(memory("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    stages = Stages()
    result = stages.run("cluster", lambda: work(rows, n_clusters=n_clusters, random_state=0))
    most = max(held) - held[0]
    stages.run("top", lambda: result.top(3))
    figures = stages.run("evaluate", lambda: result.evaluate(y))
    folder = Path(x_path).parent / "saved"
    stages.run("save", lambda: result.save(folder))
    again = stages.run("load", lambda: fmc.ClusterResult.load(folder))
    ended.set()
    watcher.join()
    shutil.rmtree(folder)
    return {
        **stages.totals(),
        "clusters": result.n_clusters,
        "proba_mib": round(result.proba.nbytes / 2**20),
        "held_mib": round(most),
        "held_after_mib": round(max(held) - held[0]),
        "acc": round(evaluate(y, again.labels)["acc"], 4),
        "ece": round(figures["ece"], 4),
    }


# -- the run -------------------------------------------------------------------------------------


def run_cell(arguments: argparse.Namespace, *cell: str) -> dict[str, Any]:
    """Run this file again for one cell."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    command = [sys.executable, __file__, "cell", *cell]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return {**json.loads(done.stdout.splitlines()[-1]), "threads": arguments.threads}


def read(path: Path) -> dict[str, Any]:
    """Return the cells that are finished."""
    return json.loads(path.read_text()) if path.exists() else {}


def main() -> None:
    """Run the cells that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("pipeline", "growth", "many"))
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--heads", nargs="+", default=["kmeans"])
    parser.add_argument("--clusters", type=int, default=5_000, help="of many")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/million"), help="for the rows")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    many, k = arguments.what == "many", arguments.clusters
    names = {"pipeline": ["pipeline"], "many": [f"many:{k}"]}.get(arguments.what, arguments.heads)
    for n_rows in arguments.rows:
        folder = arguments.folder
        written = write_many(folder, n_rows, k) if many else write_rows(folder, n_rows)
        files = [str(path) for path in written]
        for name in names:
            if str(n_rows) in read(arguments.out).get(name, {}):
                continue
            print(f"{name} of {n_rows} rows", file=sys.stderr, flush=True)
            found = run_cell(arguments, name, *files)
            results = read(arguments.out)  # again: another run may have added its cells
            results.setdefault(name, {})[str(n_rows)] = found
            arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["cell"]:
        kind, *rest = sys.argv[2:]
        if kind.startswith("many:"):
            cell = many_cell(int(kind.partition(":")[2]), *rest)
        else:
            cell = pipeline_cell(*rest) if kind == "pipeline" else growth_cell(kind, *rest)
        print(json.dumps(cell))
    else:
        main()
