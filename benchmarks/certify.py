"""Whether the promise of `certify` is kept, and how many rows it covers.

For each set, 2,000 random rows are clustered by default (K given), 100 queried answers name the
clusters and calibrate; then, 500 times, `query(strategy="certify")` or `"random"` draws rows, their
true classes are the answers, and `certify` promises. All classes are known here, so that every
promise can be checked. Beside the coverage stand two oracles that know who is right:

- *ideal*: the largest share of most confident rows that are right often enough; no labels needed.
- *oracle*: knows the true accuracy at every threshold and spends the same labels on the one with
  the largest expected coverage, by the same exact test.

    python benchmarks/certify.py [--sets agnews,tweet] [--draws 500] [--cache FOLDER]

Written to benchmarks/results/certify.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from _sets import ROOT, load
from scipy.stats import hypergeom

import fmcluster as fmc
from fmcluster.functional.labels.certify import exact_p_value, grid_ends

SETS = ("agnews", "stackoverflow", "banking77", "tweet", "googlenews_t", "cifar10_test")
N_ROWS, N_ANSWERS, DELTA = 2_000, 100, 0.05
CASES = ((0.9, 200), (0.95, 200))


def clustered(name: str, cache: Path | None) -> tuple[fmc.ClusterResult, np.ndarray, np.ndarray]:
    """Return the default clustering of a set, named by a few answers, classes and answered ids."""
    x, y = load(name, N_ROWS, 0)
    folder = None if cache is None else cache / name
    if folder is not None and folder.exists():
        result = fmc.ClusterResult.load(folder).attach(x)
    else:
        result = fmc.cluster(x, n_clusters=int(y.max()) + 1, random_state=0)
        if folder is not None:
            result.save(folder)
    ids = fmc.query(result, N_ANSWERS, random_state=0)
    return result.calibrate(ids, y[ids]), y, ids


def oracle(confidence: np.ndarray, right: np.ndarray, accuracy: float, budget: int) -> float:
    """Return the best expected coverage of one threshold tested with all labels."""
    order = np.argsort(-confidence, kind="stable")
    ranked, truth = confidence[order].astype(float), np.cumsum(right[order])
    best = 0.0
    for end in grid_ends(ranked):
        labels = min(budget, int(end))
        hits = np.arange(labels + 1)
        tests = exact_p_value(np.full(len(hits), end), np.full(len(hits), labels), hits, accuracy)
        if (tests <= DELTA).any():
            least = int(hits[tests <= DELTA].min())
            power = hypergeom.sf(least - 1, int(end), int(truth[end - 1]), labels)
            best = max(best, float(power) * end / len(ranked))
    return best


def measure(name: str, draws: int, cache: Path | None) -> list[dict[str, Any]]:
    """Return a row per strategy, accuracy and budget."""
    result, y, answered = clustered(name, cache)
    names = np.asarray(result.names)
    right = names[result.labels] == y.astype(str)
    confidence = np.asarray(result.confidence)
    order = np.argsort(-confidence, kind="stable")
    ends = grid_ends(confidence[order].astype(float))
    share = np.cumsum(right[order])[ends - 1] / ends
    rows = []
    for accuracy, budget in CASES:
        reached = ends[share >= accuracy]
        ideal = float(reached.max()) / len(y) if len(reached) else 0.0
        best = oracle(confidence, right, accuracy, budget)
        for strategy in ("certify", "random"):
            coverage, broken, below = [], 0, 0
            for seed in range(draws):
                ids = fmc.query(
                    result,
                    budget,
                    strategy=strategy,
                    labeled=answered,
                    accuracy=accuracy,
                    random_state=seed,
                )
                found = result.certify(ids, y[ids], accuracy=accuracy, delta=DELTA)
                coverage.append(found.coverage)
                if found.is_certified:
                    true = right[confidence >= found.threshold].mean()
                    broken += bool(true < accuracy)
                    below += bool(true < found.accuracy_lower)
            rows.append(
                {
                    "set": name,
                    "strategy": strategy,
                    "accuracy": accuracy,
                    "budget": budget,
                    "acc": round(float(right.mean()), 4),
                    "broken": broken / draws,
                    "below_lower": below / draws,
                    "certified": float(np.mean(np.array(coverage) > 0)),
                    "coverage": round(float(np.mean(coverage)), 4),
                    "oracle": round(best, 4),
                    "ideal": round(ideal, 4),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--cache", type=Path)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results" / "certify.json"
    )
    asked = parser.parse_args()
    rows = [r for name in asked.sets.split(",") for r in measure(name, asked.draws, asked.cache)]
    asked.out.write_text(json.dumps({"draws": asked.draws, "delta": DELTA, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
