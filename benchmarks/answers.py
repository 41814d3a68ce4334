"""What answers bring: the default head, then 50 and 100 of a person's answers, against `propagate`.

Worlds are those of `propagate.py` (sets, long-tailed cuts, weaker encoders; 1,800 rows), the
number of clusters given. Answers are true classes of rows that `query` chose, or whether pairs are
of one class: 50 random ones ("pairs") or 50 that `query_pairs` chose ("asked"). Half of the worlds,
by a hash, were there to think; the rest confirm.

    python benchmarks/answers.py [--encoders raw,dims] [--seeds 0,1,2,3,4] [--again labels]
        [--table]

Cells go to benchmarks/results/answers/; what is finished is skipped, but for what is measured
`--again` (`propagate` is not). The table goes to its README.md, below the notes that stand there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Collection
from typing import Any

import numpy as np
from _sets import ROOT, markdown, write_cell
from propagate import BASES, WORLDS, half_of, load

import fmcluster as fmc

RESULTS = ROOT / "benchmarks" / "results" / "answers"
BUDGETS = (50, 100)
# What is measured together, and the entry that says that it was.
PARTS = {"labels": "100.acc", "pairs": "asked.acc"}
BEGIN = "<!-- table -->"


def size_distance(y: np.ndarray, shares: np.ndarray) -> float:
    """Return the total variation between the sorted shares of classes and clusters."""
    true = np.sort(np.bincount(y) / len(y))[::-1]
    width = max(len(true), len(shares))
    true, found = (np.pad(s, (0, width - len(s))) for s in (true, np.sort(shares)[::-1]))
    return float(np.abs(true - found).sum() / 2)


def measure(world: str, seed: int, known: dict[str, Any], parts: Collection[str]) -> dict[str, Any]:
    """Return one cell: what is `known` of it, and its `parts`."""
    x, y = load(world, seed)
    result = fmc.cluster(x, n_clusters=int(y.max()) + 1, random_state=seed)
    cell: dict[str, Any] = {"world": world, "seed": seed, "rows": len(x), **known}

    def note(name: str, found: Any) -> None:
        scores = found.evaluate(y)
        cell[f"{name}.acc"] = round(scores["acc"], 4)
        cell[f"{name}.macro"] = round(scores["macro_acc"], 4)
        cell[f"{name}.ece"] = round(scores["ece"], 4)
        cell[f"{name}.auroc"] = round(scores["auroc"], 4)
        cell[f"{name}.tv"] = round(size_distance(y, found.cluster_prior), 4)

    note("before", result)
    for budget in BUDGETS if "labels" in parts else ():
        ids = fmc.query(result, budget, random_state=seed)
        start = time.process_time()
        better = result.with_answers(labels=dict(zip(ids.tolist(), y[ids].tolist(), strict=True)))
        cell[f"{budget}.seconds"] = round(time.process_time() - start, 2)
        note(str(budget), better)
        if f"{budget}.propagate" not in known:
            spread = fmc.propagate(result, ids, y[ids])
            cell[f"{budget}.propagate"] = round(float((spread.label == y).mean()), 4)
    if "pairs" not in parts:
        return cell
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, len(x), (200, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]][:50]
    asked = fmc.query_pairs(result, len(pairs), random_state=seed)
    for name, both in (("pairs", pairs), ("asked", np.asarray(asked)[:, :2].astype(int))):
        same = y[both[:, 0]] == y[both[:, 1]]
        note(name, result.with_answers(must_link=both[same], cannot_link=both[~same]))
    return cell


def table() -> str:
    """Return the Markdown of all cells."""
    cells = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    text = f"{BEGIN}\n\n"
    keys = ["before.acc", "50.acc", "50.propagate", "100.acc", "100.propagate"]
    keys += ["pairs.acc", "asked.acc", "before.ece", "pairs.ece", "asked.ece", "50.ece", "100.ece"]
    keys += ["before.tv", "50.tv", "100.tv", "100.seconds"]
    header = ["", "cells", *keys, "worst 100.acc - before"]
    for half in ("think", "confirm"):
        body = []
        for name in ("long tails", "as they come", *BASES):
            part = [
                c
                for c in cells
                if half_of(c["world"]) == half
                and name
                in (c["world"].split("-")[0], ("long tails", "as they come")["lt1-" in c["world"]])
            ]
            if part:
                body.append(_line(name, part, keys))
        if body:
            text += f"**Worlds to {half}** (percent; CPU seconds)\n\n{markdown(header, body)}\n"
    return text


def _line(name: str, part: list[dict[str, Any]], keys: list[str]) -> list[str]:
    shown = [
        f"{np.mean([c[key] for c in part]) * (1 if key.endswith('seconds') else 100):.1f}"
        for key in keys
    ]
    worlds = sorted({c["world"] for c in part})
    gains = [
        np.mean([c["100.acc"] - c["before.acc"] for c in part if c["world"] == w]) for w in worlds
    ]
    return [name, str(len(part)), *shown, f"{100 * min(gains):+.1f}"]


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", default="raw,dims")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--again", choices=PARTS, action="append", default=[])
    parser.add_argument("--table", action="store_true", help="only write the table")
    asked = parser.parse_args()
    for seed in [] if asked.table else map(int, asked.seeds.split(",")):
        for world in WORLDS:
            path = RESULTS / f"{world}_{seed}.json"
            known = json.loads(path.read_text()) if path.exists() else {}
            parts = [
                part for part, entry in PARTS.items() if entry not in known or part in asked.again
            ]
            if not parts or world.split("-")[2] not in asked.encoders.split(","):
                continue
            write_cell(path, measure(world, seed, known, parts))
            print(world, seed, flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    readme = RESULTS / "README.md"
    notes = readme.read_text().split(BEGIN)[0] if readme.exists() else "# Answers\n\n"
    readme.write_text(notes + table())


if __name__ == "__main__":
    main()
