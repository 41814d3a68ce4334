"""Calibration error before and after a person's edits.

A person who sees the report merges two clusters that are one class and splits one that is two.
Here the edits are chosen once without labels ("unseen": the pair that the probabilities confuse
most, the largest cluster) and once as a person would ("person": the two clusters that share the
most rows of one main class, where there are such; the cluster with the most rows outside its main
class). Rows are counted right under the best one-to-one match of clusters with classes (as
`evaluate` does), and under each cluster's main class. A merge of clusters of different classes is
no right answer, and makes rows wrong that were right: such cases are summed up apart.

    python benchmarks/edits.py
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _sets import ROOT, load, write_cell

import fmcluster as fmc
from fmcluster.functional import calibration
from fmcluster.functional.metrics import matched_correct

N_ROWS = 2_000
SETS_HERE = ["stackoverflow", "agnews", "banking77", "tweet", "cifar10_test"]
# Of the number of classes: too few clusters ask for splits, too many for merges.
FACTORS = (0.7, 1.0, 1.5)
EDITS = ("merge", "split", "both")
MEASURED = ("before", *EDITS)


def confused_pair(result: fmc.ClusterResult) -> tuple[int, int]:
    """Return the two clusters whose probabilities go together most, for their sizes."""
    p = result.proba.astype(np.float64)
    together = p.T @ p / np.sqrt(np.outer(p.sum(axis=0), p.sum(axis=0)))
    np.fill_diagonal(together, -1)
    a, b = np.unravel_index(together.argmax(), together.shape)
    return int(a), int(b)


def by_a_person(result: fmc.ClusterResult, y: np.ndarray) -> tuple[tuple[int, int], int]:
    """Return the pair with the most rows of a shared main class, and the most mixed cluster."""
    table = np.zeros((result.n_clusters, int(y.max()) + 1), int)
    np.add.at(table, (result.labels, y), 1)
    main, most = table.argmax(axis=1), table.max(axis=1)
    pairs = [
        (min(most[a], most[b]), a, b)
        for a in range(len(main))
        for b in range(a)
        if main[a] == main[b]
    ]
    pair = max(pairs)[1:] if pairs else confused_pair(result)
    return (int(pair[0]), int(pair[1])), int((table.sum(axis=1) - most).argmax())


def errors(result: fmc.ClusterResult, y: np.ndarray) -> dict[str, float]:
    """Return calibration errors and accuracy in percent under both ways to count."""
    table = np.zeros((result.n_clusters, int(y.max()) + 1), int)
    np.add.at(table, (result.labels, y), 1)
    majority = table.argmax(axis=1)[result.labels] == y
    matched = matched_correct(y, result.labels)
    return {
        "ece": 100 * calibration.ece(result.confidence, matched),
        "acc": 100 * float(matched.mean()),
        "ece_many_to_one": 100 * calibration.ece(result.confidence, majority),
        "purity": 100 * float(majority.mean()),
        "confidence": 100 * float(result.confidence.mean()),
    }


def cases(sets: list[str], seeds: range) -> Iterator[dict[str, Any]]:
    """Yield a record a set, seed, number of clusters and way to choose."""
    for seed, name, factor in itertools.product(seeds, sets, FACTORS):
        x, y = load(name, N_ROWS, seed)
        k = max(3, round(factor * (y.max() + 1)))
        result = fmc.cluster(x, n_clusters=k, random_state=seed)
        before = errors(result, y)
        for way, (pair, whole) in {
            "unseen": (confused_pair(result), int(result.sizes.argmax())),
            "person": by_a_person(result, y),
        }.items():
            split, merged = result.split(whole), result.merge(pair)
            both = merged.split(min(pair)) if whole in pair else split.merge(pair)
            after = {"merge": merged, "split": split, "both": both}
            yield {
                "set": name,
                "seed": seed,
                "factor": factor,
                "chosen": way,
                "before": before,
                **{edit: errors(found, y) for edit, found in after.items()},
            }


def summary(found: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return by how many points errors grew, a way to choose, an edit and a way to count."""
    out = {}
    for way, one_class, edit, measure in itertools.product(
        ("unseen", "person"), (True, False), EDITS, ("ece", "ece_many_to_one")
    ):
        cases = [c for c in found if c["chosen"] == way and is_right(c, edit) == one_class]
        worse = np.array([c[edit][measure] - c["before"][measure] for c in cases])
        if len(worse):
            apart = "" if one_class else ", of different classes"
            out[f"{way}: {edit}{apart}: {measure}"] = {
                "cases": len(worse),
                "mean_change": round(float(worse.mean()), 2),
                "worst_change": round(float(worse.max()), 2),
                "above_1_point": int((worse > 1).sum()),
            }
    return out


def is_right(case: dict[str, Any], edit: str) -> bool:
    """Return whether the merge joined clusters of one main class: then purity stays."""
    return edit == "split" or abs(case["merge"]["purity"] - case["before"]["purity"]) < 0.02


def main() -> None:
    """Run and write, case by case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="*", default=SETS_HERE)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/edits.json")
    args = parser.parse_args()
    found = []
    for case in cases(args.sets, range(args.seeds)):
        figures = {edit: {m: round(v, 2) for m, v in case[edit].items()} for edit in MEASURED}
        found.append(case | figures)
        write_cell(args.out, {"summary": summary(found), "cases": found})


if __name__ == "__main__":
    main()
