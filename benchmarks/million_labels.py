"""Labels at a million rows: seconds and memory of `query`, `propagate` and `find_label_issues`.

Rows of 64 dimensions lie in 20 classes of 100 mini-clusters each; 20 % of the labels are wrong. The
neighbor graph is made ready beside them, exact within mini-clusters, which lie far apart. Each
cell is a process of its own that reads rows and graph as memory maps: `seconds` are of the
processor, one thread; `peak_mb` is the peak resident set, the read pages of the maps and the
imports included. Budgets are 200 labels; `auto, 2nd round` knows the classes of 200 others.

    python benchmarks/million_labels.py [--rows 100000,1000000] [--cells auto,propagate]

Finished cells are skipped; results are in benchmarks/results/million_labels.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _sets import ROOT

OUT = ROOT / "benchmarks" / "results" / "million_labels.json"
CLASSES, MINIS, DIMS, NEIGHBORS, BUDGET, NOISE = 20, 100, 64, 50, 200, 0.2
CELLS = ("auto", "typical", "herding", "auto, 2nd round", "propagate", "find_label_issues")


def write_data(folder: Path, n_rows: int) -> Path:
    """Write rows, classes, given labels and graph, one mini-cluster at a time."""
    done = folder / f"{n_rows}"
    if (done / "given.npy").exists():
        return done
    done.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    size = n_rows // (CLASSES * MINIS)

    def create(name: str, dtype: Any, *shape: int) -> np.ndarray:
        return np.lib.format.open_memmap(done / f"{name}.npy", "w+", dtype, (n_rows, *shape))

    x, y = create("x", np.float32, DIMS), create("y", np.int64)
    indices = create("indices", np.int32, NEIGHBORS)
    similarities = create("similarities", np.float32, NEIGHBORS)
    centres = rng.normal(size=(CLASSES, DIMS))
    k = min(NEIGHBORS, size - 1)
    for mini in range(CLASSES * MINIS):
        at = slice(mini * size, (mini + 1) * size)
        middle = centres[mini % CLASSES] + 0.8 * rng.normal(size=DIMS)
        block = middle + 0.3 * rng.normal(size=(size, DIMS))
        block = (block / np.linalg.norm(block, axis=1, keepdims=True)).astype(np.float32)
        cosine = block @ block.T
        np.fill_diagonal(cosine, -2)
        near = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(cosine, near, axis=1), axis=1)
        near = np.take_along_axis(near, order, axis=1)
        # A mini-cluster smaller than the graph is wide repeats its last neighbor.
        near = np.pad(near, ((0, 0), (0, NEIGHBORS - k)), mode="edge")
        x[at], y[at] = block, mini % CLASSES
        indices[at] = near + mini * size
        similarities[at] = np.take_along_axis(cosine, near, axis=1)
    wrong = rng.random(n_rows) < NOISE
    given = np.where(wrong, (y + rng.integers(1, CLASSES, n_rows)) % CLASSES, y)
    np.save(done / "given.npy", given)
    return done


def run_cell(folder: Path, cell: str) -> dict[str, Any]:
    """Run one cell in this process and return its figures."""
    from fmcluster.labeling.issues import find_label_issues
    from fmcluster.labeling.propagate import propagate
    from fmcluster.labeling.query import query
    from fmcluster.vectors.graph import KNNGraph

    parts = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("x", "y", "given")}
    graph = KNNGraph(
        *(np.load(folder / f"{n}.npy", mmap_mode="r") for n in ("indices", "similarities"))
    )
    x, y = parts["x"], np.asarray(parts["y"])
    subject = subject_of(x, graph)
    rows = np.random.default_rng(0).choice(len(y), BUDGET, replace=False)
    start = time.process_time()
    if cell == "propagate":
        spread = propagate(subject, rows, y[rows])
        quality = {"accuracy": float((spread.label == y).mean())}
    elif cell == "find_label_issues":
        issues = find_label_issues(subject, parts["given"])
        found, bad = issues["id"].to_numpy(), np.flatnonzero(np.asarray(parts["given"]) != y)
        hits = len(np.intersect1d(found, bad))
        quality = {"f1": 2 * hits / (len(found) + len(bad))}
    else:
        known = dict(zip(rows.tolist(), y[rows].tolist(), strict=True)) if "2nd" in cell else None
        picks = query(subject, BUDGET, strategy=cell.split(",")[0], labeled=known)
        size = len(y) // (CLASSES * MINIS)
        quality = {
            "classes": len(np.unique(y[picks])),
            "mini_clusters": len(np.unique(picks // size)),
        }
    seconds = time.process_time() - start
    return {"seconds": round(seconds, 1), "peak_mb": round(_peak_mb())} | quality


def subject_of(x: Any, graph: Any) -> Any:
    """Return rows with a ready graph, as `query` and the others see a result."""
    from fmcluster.labeling.inputs import LabelingInput, unit_source

    return LabelingInput(unit_source(x), np.arange(len(x)), graph=graph)


def _peak_mb() -> float:
    """Return this program's own peak: getrusage's would hold that of the parent before the fork."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Run what is missing, a process a cell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="100000,1000000")
    parser.add_argument("--cells", default=";".join(CELLS), help="separated by ;")
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "million_labels")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(run_cell(Path(asked.one[0]), asked.one[1])))
        return
    results = json.loads(OUT.read_text()) if OUT.exists() else {}
    for n_rows in map(int, asked.rows.split(",")):
        folder = write_data(asked.data, n_rows)
        for cell in asked.cells.split(";"):
            key = f"{n_rows} {cell}"
            if key in results:
                continue
            command = [sys.executable, __file__, "--one", str(folder), cell]
            env = os.environ | {"OMP_NUM_THREADS": "1"}
            answer = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
            results[key] = json.loads(answer.stdout.splitlines()[-1])
            OUT.write_text(json.dumps(results, indent=1) + "\n")
            print(key, results[key], flush=True)


if __name__ == "__main__":
    main()
