"""The default head's confidence with 100 labels, and what k = "auto" costs it.

    python benchmarks/auto_labels.py --data ../shared/embeddings

For each set: one fit with k given; the result is calibrated on 100 random labelled rows, 20 draws;
one fit with k estimated; ARI of both. Writes ``results/auto/labels_and_k.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np

from fmcluster import cluster
from fmcluster.bench.datasets import load
from fmcluster.utils.files import write_json, write_text

RESULTS = Path(__file__).parent / "results" / "auto"
SETS = ("stackoverflow", "agnews", "banking77", "tweet", "googlenews_t", "cifar10_test")
CUTS = {"stackoverflow_lt100": "stackoverflow", "banking77_lt50": "banking77"}
LABELS, DRAWS = 100, 20


def rows_of(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings and classes of a set or of a shared cut."""
    data = load(CUTS.get(name, name), folder)
    if name in CUTS:
        index = np.load(folder / f"{name}_idx.npy")
        return data.x[index], np.unique(data.y[index], return_inverse=True)[1]
    return data.x, data.y


def measure(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Return ECE before and after labels, and ARI with k given and estimated."""
    k = len(np.unique(y))
    given = cluster(x, n_clusters=k, random_state=0)
    errors = []
    for draw in range(DRAWS):
        rows = np.random.default_rng(draw).choice(len(y), LABELS, replace=False)
        errors.append(given.calibrate(rows, y[rows]).evaluate(y)["ece"])
    estimated = cluster(x, random_state=0)
    before, auto = given.evaluate(y), estimated.evaluate(y)
    return {
        "k": k,
        "ece": before["ece"],
        "ece_100_labels": float(np.mean(errors)),
        "ece_100_labels_sd": float(np.std(errors)),
        "ari": before["ari"],
        "k_auto": estimated.n_clusters,
        "ari_k_auto": auto["ari"],
        "acc": before["acc"],
        "acc_k_auto": auto["acc"],
    }


def main() -> None:
    """Measure every set and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    cells: dict[str, dict[str, Any]] = {}
    for name in (*SETS, *CUTS):
        cells[name] = measure(*rows_of(args.data, name))
        write_json(RESULTS / "labels_and_k.json", cells)
    lines = [
        "| set | ECE | ECE, 100 labels | k | k estimated | ARI, k given | ARI, k estimated |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, c in cells.items():
        lines.append(
            f"| {name} | {100 * c['ece']:.1f} | {100 * c['ece_100_labels']:.1f} "
            f"±{100 * c['ece_100_labels_sd']:.1f} | {c['k']} | {c['k_auto']} "
            f"| {100 * c['ari']:.1f} | {100 * c['ari_k_auto']:.1f} |"
        )
    means = {key: np.mean([c[key] for c in cells.values()]) for key in cells["tweet"]}
    lines.append(
        f"| **mean** | {100 * means['ece']:.1f} | {100 * means['ece_100_labels']:.1f} | | "
        f"| {100 * means['ari']:.1f} | {100 * means['ari_k_auto']:.1f} |"
    )
    write_text(RESULTS / "labels_and_k.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
