"""CPU seconds of the default head beside UMAP + k-means and EVoC, on whole labelled sets.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/default_speed.py

Each method goes from embeddings to labels (ours with confidence), k given but to EVoC, which has
none, and to "auto, no k", which estimates it; code is compiled beforehand, methods take turns on
each set. Written to benchmarks/results/default_speed.json and the page beside it.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from _sets import ROOT, load, markdown
from _world_methods import UMAP

from fmcluster.functional.metrics import accuracy
from fmcluster.heads import make_head
from fmcluster.utils.threads import n_threads

SETS = ("tweet", "googlenews_t", "banking77", "stackoverflow", "agnews", "cifar10_test")
RESULTS = ROOT / "benchmarks" / "results" / "default_speed.json"


def ours(x: np.ndarray, k: int | str) -> Any:
    """Return the default head's labels; its confidence is made, too."""
    head = make_head("auto", n_clusters=k, random_state=0)
    head.fit_predict_proba(x)
    return head.labels_


def ours_alone(x: np.ndarray, k: int) -> Any:
    """Return the default head's labels, the number of clusters its own."""
    return ours(x, "auto")


def umap_kmeans(x: np.ndarray, k: int) -> Any:
    """Return labels of k-means on UMAP's five dimensions."""
    from sklearn.cluster import KMeans
    from umap import UMAP as Reducer

    low = Reducer(**UMAP, random_state=0, n_jobs=1).fit_transform(x)
    return KMeans(k, n_init=10, random_state=0).fit_predict(low)


def evoc(x: np.ndarray, k: int) -> Any:
    """Return EVoC's labels, of its own number of clusters."""
    from evoc import EVoC

    return EVoC(random_state=0).fit_predict(x)


METHODS: dict[str, Callable[[np.ndarray, int], Any]] = {
    "auto": ours,
    "auto, no k": ours_alone,
    "umap+kmeans": umap_kmeans,
    "evoc": evoc,
}


def measure(names: list[str]) -> dict[str, Any]:
    """Return what every method takes and finds on each set."""
    some = np.random.default_rng(0).normal(size=(600, 32)).astype(np.float32)
    for method in METHODS.values():
        method(some, 5)
    cells: dict[str, Any] = {}
    for name in names:
        x, y = load(name, 10**9, 0)
        k = len(np.unique(y))
        for title, method in METHODS.items():
            wall, cpu = time.perf_counter(), time.process_time()
            labels = np.asarray(method(x, k))
            cells[f"{name}/{title}"] = {
                "rows": len(x),
                "k": k,
                "cpu": round(time.process_time() - cpu, 2),
                "wall": round(time.perf_counter() - wall, 2),
                "acc": round(accuracy(y, labels), 4),
            }
            print(name, title, cells[f"{name}/{title}"], flush=True)
    return {"threads": n_threads(), "cells": cells}


def page(found: dict[str, Any]) -> str:
    """Return the Markdown of all cells."""
    cells = found["cells"]
    body = []
    names = list(dict.fromkeys(key.split("/")[0] for key in cells))
    for name in names:
        row = [cells[f"{name}/{title}"] for title in METHODS]
        shown = [f"{c['cpu']:.1f} / {100 * c['acc']:.1f}" for c in row]
        body.append([name, f"{row[0]['rows']:,}", str(row[0]["k"]), *shown])
    total = {t: sum(cells[f"{name}/{t}"]["cpu"] for name in names) for t in METHODS}
    body.append(["**sum**", "", "", *(f"**{value:.1f}**" for value in total.values())])
    said = f"CPU seconds / ACC; {found['threads']} thread(s), one run, methods in turn."
    table = markdown(["set", "rows", "k", *METHODS], body)
    return f"# The default head's time\n\n{said}\n\n{table}\n"


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS))
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    found = measure(asked.sets.split(","))
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text(page(found))


if __name__ == "__main__":
    main()
