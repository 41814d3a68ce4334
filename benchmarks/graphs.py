"""Which neighbor graph is soonest done, and what votes of its neighbors lose.

    python benchmarks/graphs.py [--rows 5000,20000,50000,150000] [--dims 128,384]

Rows are a mixture of 100 overlapping classes of 24 directions, with noise in all dimensions. For 50
neighbors a row: processor seconds, recall of the true neighbors, and how often the neighbors'
majority names the right class. All pairs by faiss are left out above 20,000 rows. Finished cells
are skipped; writes ``results/graphs.json`` and ``results/graphs.md``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from _sets import markdown

from fmcluster.vectors.exact import nearest_rows
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.index import KNNIndex

RESULTS = Path(__file__).parent / "results"
K, N_CLASSES, JUDGED = 50, 100, 1_000
PAIRS = "matrix products, all pairs"
CELLS = "matrix products, near cells"
# faiss' own indexes and the recall asked for.
INDEXES = {
    "faiss, all pairs": ("exact", 1.0),
    "faiss IVF": ("ivf", 0.95),
    "faiss IVF-PQ": ("ivfpq", 0.95),
}


def planted(n_rows: int, n_dims: int) -> tuple[np.ndarray, np.ndarray]:
    """Return unit rows and their classes."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, N_CLASSES, n_rows)
    inner = rng.normal(size=(N_CLASSES, 24))[y] + 0.9 * rng.normal(size=(n_rows, 24))
    x = (inner @ rng.normal(size=(24, n_dims)) / 5).astype(np.float32)
    x += 0.35 * rng.standard_normal(x.shape, dtype=np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True), y


def measure(n_rows: int, n_dims: int) -> list[dict[str, Any]]:
    """Return seconds, recall and right votes of each graph."""
    x, y = planted(n_rows, n_dims)
    judged = np.random.default_rng(1).choice(n_rows, JUDGED, replace=False)
    truth: np.ndarray | None = None
    runs = []
    for method in (PAIRS, CELLS, *INDEXES):
        kind, recall = INDEXES.get(method, ("", 0.95))
        if kind == "exact" and n_rows > 20_000:
            continue
        start = time.process_time()
        if method == PAIRS:
            found = nearest_rows(x, K)[0]
        elif method == CELLS:
            found = KNNGraph.build(x, k=K, method="ivf", target_recall=recall).indices
        else:
            index = KNNIndex.build(x, k=K, method=kind, target_recall=recall)
            found = index.search(x, K + 1)[1][:, 1:]
        seconds = time.process_time() - start
        found = found[judged]
        truth = found if truth is None else truth
        hits = [len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist(), strict=True)]
        votes = np.array([np.bincount(y[row[row >= 0]]).argmax() for row in found])
        cell = {"rows": n_rows, "dims": n_dims, "method": method, "seconds": round(seconds, 2)}
        right = float((votes == y[judged]).mean())
        runs.append(cell | {"recall": float(np.mean(hits)) / K, "right": right})
    return runs


def table(runs: list[dict[str, Any]]) -> str:
    """Return the Markdown."""
    body = [
        [f"{r['rows']:,}", r["dims"], r["method"], f"{r['seconds']:.2f}"]
        + [f"{100 * r[measure]:.1f}" for measure in ("recall", "right")]
        for r in sorted(runs, key=lambda r: (r["rows"], r["dims"]))
    ]
    header = ["rows", "dimensions", "graph", "processor s", "recall (%)", "right votes (%)"]
    text = "# Neighbor graphs\n\nWritten by `benchmarks/graphs.py`: 50 neighbors a row."
    return f"{text}\n\n{markdown(header, body)}"


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="5000,20000,50000,150000")
    parser.add_argument("--dims", default="128,384")
    asked = parser.parse_args()
    path = RESULTS / "graphs.json"
    runs = json.loads(path.read_text()) if path.exists() else []
    for n_rows in map(int, asked.rows.split(",")):
        for n_dims in map(int, asked.dims.split(",")):
            if not any((run["rows"], run["dims"]) == (n_rows, n_dims) for run in runs):
                runs += measure(n_rows, n_dims)
                path.write_text(json.dumps(runs, indent=1) + "\n")
                print(n_rows, n_dims, flush=True)
    (RESULTS / "graphs.md").write_text(table(runs))


if __name__ == "__main__":
    main()
