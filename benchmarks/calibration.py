"""How accurate and how honest is each head: raw, and calibrated without labels.

    python benchmarks/calibration.py --data ../shared/embeddings            # cells, then the table
    python benchmarks/calibration.py --data ... --methods cdc scan --seeds 0

A cell is one JSON file (method, set, seed); finished cells are skipped, so a run that was stopped
goes on where it was. Classes are read by the evaluation only. The four SCAN variants share their
clustering stage through its checkpoint; the label-free references of a set and seed are made once
and serve all methods.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import _sets
import numpy as np

from fmcluster.calibration import base_partitions as _references
from fmcluster.calibration.label_free import label_free
from fmcluster.functional.metrics import evaluate
from fmcluster.heads import make_head
from fmcluster.heads.training.objective import TrainOptions
from fmcluster.vectors.graph import KNNGraph

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "kmeans": ("kmeans", {}),
    "gmm": ("gmm", {}),
    "cdc": ("cdc", {}),
    "scan": ("scan", {}),
    "scan+LS": ("scan", {"regularizer": "label_smoothing"}),
    "scan+FL": ("scan", {"regularizer": "focal"}),
    "scan+L1": ("scan", {"regularizer": "l1"}),
    "turtle": ("turtle", {}),
    "temi": ("temi", {}),
    "cdc, 1 start": ("cdc", {"n_starts": 1}),
    "cdc, prior estimated": ("cdc", {"cluster_prior": "estimate"}),
    "cdc, from partition": ("cdc", {"init": "partition", "n_starts": 1}),
}
COLUMNS = ("acc", "nmi", "ari", "ece", "auroc", "aurc", "fpr95")
N_NEIGHBORS = 50
RESULTS = Path(__file__).parent / "results" / "confidence"
logger = logging.getLogger("calibration")


class SharedReferences:
    """Keeps the last set's reference partitions: they do not depend on the head."""

    def __init__(self) -> None:
        self.make = _references.fit_base_partitions
        self.key: Any = None
        self.found: Any = None

    def __call__(self, X: Any, space: int, k: int, seed: int) -> Any:
        """Return the references, made when they are not those of the last call."""
        key = (X.shape, float(np.asarray(X[:8]).sum()), space, k, seed)
        if key != self.key:
            self.key, self.found = key, self.make(X, space, k, seed)
        return self.found


def run_cell(
    method: str, x: np.ndarray, y: np.ndarray, seed: int, graph: KNNGraph, checkpoints: Path
) -> dict[str, Any]:
    """Fit, evaluate and calibrate one method on one set."""
    head_name, params = METHODS[method]
    if head_name == "scan":
        params = {**params, "options": TrainOptions(checkpoint_dir=str(checkpoints))}
    start, cpu = time.perf_counter(), time.process_time()
    head = make_head(head_name, n_clusters=len(np.unique(y)), random_state=seed, **params)
    head.fit(x, graph=graph)
    cell: dict[str, Any] = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "n_clusters": head.n_clusters_,
    }
    proba = head.predict_proba(x)
    cell["raw"] = {k: float(v) for k, v in evaluate(y, head.labels_, proba).items()}
    start = time.process_time()
    calibrator = label_free(proba, spaces=x, graph=graph, random_state=seed)
    proba = calibrator.transform(proba, x)
    cell["label_free_cpu_seconds"] = time.process_time() - start
    cell["label_free"] = {k: float(v) for k, v in evaluate(y, head.labels_, proba).items()}
    return cell


def run(methods: list[str], sets: list[str], seeds: list[int]) -> None:
    """Compute the cells that are missing."""
    _references.fit_base_partitions = SharedReferences()
    for seed in seeds:
        for name in sets:
            todo = [m for m in methods if not cell_path(m, name, seed).exists()]
            if not todo:
                continue
            x, y = _sets.load(name, 10**9, 0)
            graph = KNNGraph.build(x, k=N_NEIGHBORS, random_state=0)
            with tempfile.TemporaryDirectory() as folder:
                for method in todo:
                    cell = run_cell(method, x, y, seed, graph, Path(folder))
                    about = {"method": method, "set": name, "seed": seed}
                    _sets.write_cell(cell_path(method, name, seed), {**about, **cell})
                    logger.info(
                        "%s %s %d: acc %.3f ece %.3f -> %.3f, %.0f s",
                        method,
                        name,
                        seed,
                        cell["raw"]["acc"],
                        cell["raw"]["ece"],
                        cell["label_free"]["ece"],
                        cell["cpu_seconds"],
                    )
            write_table()


def cell_path(method: str, name: str, seed: int) -> Path:
    """Return where a cell lies."""
    safe = method.replace("+", "_").replace(", ", "_").replace(" ", "_")
    return RESULTS / f"{safe}-{name}-{seed}.json"


def write_table() -> None:
    """Write the Markdown table of all finished cells, and their means as JSON."""
    cells = _sets.read_cells(RESULTS)
    rows, means = [], []
    for method in METHODS:
        mine = [cell for cell in cells if cell["method"] == method]
        for stage in ("raw", "label_free"):
            for name in _sets.SETS:
                found = [cell for cell in mine if cell["set"] == name]
                if found:
                    rows.append([method, stage, name, len(found), *_row(found, stage)])
            covered = {cell["set"] for cell in mine}
            if len(covered) == len(_sets.SETS):
                means.append([method, stage, len(mine), *_row(mine, stage, over_sets=True)])
    head = [*COLUMNS, "cpu s"]
    text = "# Accuracy and honesty of each head\n\n"
    text += "Percent, mean over seeds; cpu s: one thread, fitting only. The scan variants' seconds "
    text += "leave out the clustering stage that they share with scan.\n\n## Mean over sets\n\n"
    text += _sets.markdown(["method", "confidence", "cells", *head], means)
    text += "\n## By set\n\n"
    text += _sets.markdown(["method", "confidence", "set", "seeds", *head], rows)
    (RESULTS.parent / "confidence.md").write_text(text)


def _row(cells: list[dict[str, Any]], stage: str, *, over_sets: bool = False) -> list[str]:
    """Return the columns of the mean of cells; over sets, every set counts the same."""
    groups = [[c for c in cells if c["set"] == name] for name in {c["set"] for c in cells}]
    groups = groups if over_sets else [cells]
    values = []
    for column in COLUMNS:
        means = [np.mean([c[stage].get(column, np.nan) for c in group]) for group in groups]
        values.append(f"{100 * float(np.nanmean(means)):.1f}")
    seconds = np.mean([np.mean([c["cpu_seconds"] for c in group]) for group in groups])
    return [*values, f"{seconds:.1f}"]


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=_sets.DATA)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--sets", nargs="+", choices=_sets.SETS, default=list(_sets.SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="only write the table")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    _sets.DATA = arguments.data
    if not arguments.table:
        run(arguments.methods, arguments.sets, arguments.seeds)
    write_table()


if __name__ == "__main__":
    main()
