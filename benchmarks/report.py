"""What the report and the app say to trust, held against the classes.

Of each set 2,000 random rows are clustered by default (K given). Measured, without answers and with
a few (asked as `query` chooses):

- the expected accuracy and the share that can be used at 95 %, each with its range, against the
  accuracy and the largest share of most confident rows that is 95 % right; how many rows of the
  share are right; and the same share as it was said before, by one sum of confidence;
- the pairs that "may be one": how often two rows, one of each cluster, are of one class at least
  half as often as two of one of them; by the neighbors, and by doubtful rows as it was before.

    python benchmarks/report.py [--sets agnews,tweet] [--seeds 0]
    python benchmarks/report.py --pairs     # measures the pairs of the cells anew
    python benchmarks/report.py --tables

Cells go to benchmarks/results/report/, the tables to benchmarks/results/report.md.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from _sets import ROOT, SETS, load, markdown, read_cells, write_cell

import fmcluster as fmc
from fmcluster.functional.metrics import matched_correct
from fmcluster.result.expected import PROMISED, expected
from fmcluster.result.report.confusion import (
    MAY_BE_ONE,
    MOST_PAIRS,
    NEAREST,
    overlaps,
    shared_neighbors,
)
from fmcluster.result.report.words import NAMED

N_ROWS, ANSWERS = 2_000, (0, 1, 5, 20)
OUT = ROOT / "benchmarks" / "results" / "report"
# Two clusters are one where rows of both are so often of one class as rows of one are.
SAME, FIFTH = 0.5, 0.2


def clustered(name: str, seed: int) -> tuple[fmc.ClusterResult, np.ndarray]:
    """Return the default clustering of a set and its classes."""
    x, y = load(name, N_ROWS, seed)
    return fmc.cluster(x, n_clusters=int(y.max()) + 1, random_state=seed), y


def told(result: fmc.ClusterResult, y: np.ndarray) -> dict[str, Any]:
    """Return the estimates of a result and what is true."""
    right = matched_correct(y, result.labels)
    order = np.argsort(-result.confidence, kind="stable")
    ranked = np.cumsum(right[order]) / np.arange(1, len(y) + 1)
    sums = np.cumsum(result.confidence[order], dtype=np.float64) / np.arange(1, len(y) + 1)
    fits = np.flatnonzero(ranked >= PROMISED)
    found = expected(result)
    count = round(found.usable.value * len(y))
    return {
        **found.to_dict(),
        "true_accuracy": float(right.mean()),
        "true_usable": float((fits[-1] + 1) / len(y)) if len(fits) else 0.0,
        "right": float(ranked[count - 1]) if count else None,
        "one_sum": float((sums >= PROMISED).mean()),
        "mean_confidence": float(result.confidence.mean()),
        "ece": float(result.evaluate(y)["ece"]),
    }


def pairs(result: fmc.ClusterResult, y: np.ndarray) -> dict[str, Any]:
    """Return which pairs may be one, by both rules, and whether they are."""
    k = result.n_clusters
    shares = np.zeros((k, int(y.max()) + 1))
    np.add.at(shares, (result.labels, y), 1)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1)
    same = shares @ shares.T
    own = np.sqrt(np.outer(np.diag(same), np.diag(same)))
    one = same >= SAME * np.maximum(own, 1e-12)
    a, b = np.triu_indices(k, 1)
    assert result.graph is not None
    near = shared_neighbors(result.labels, result.graph.indices[:, :NEAREST], k)[a, b]
    doubt = overlaps(result.proba)[1][a, b]
    return {
        "all": [int(one[a, b].sum()), len(a)],
        **{
            rule: [
                [round(float(value[at]), 3), bool(one[a[at], b[at]])]
                for at in np.argsort(-value, kind="stable")[:MOST_PAIRS]
            ]
            for rule, value in (("neighbors", near), ("probabilities", doubt))
        },
    }


def cell(name: str, seed: int) -> dict[str, Any]:
    """Return all that is measured of one set."""
    result, y = clustered(name, seed)
    found: dict[str, Any] = {"set": name, "seed": seed, "k": int(y.max()) + 1}
    found["pairs"] = pairs(result, y)
    ids = fmc.query(result, max(ANSWERS), random_state=seed)
    for count in ANSWERS:
        labels = dict(zip(ids[:count].tolist(), y[ids[:count]].tolist(), strict=True))
        now = result.with_answers(labels=labels) if count else result
        found[f"answers_{count}"] = told(now, y)
    return found


def tables(cells: list[dict[str, Any]]) -> str:
    """Return the page."""
    text = "# What the report says to trust, held against the classes\n\n"
    text += f"{N_ROWS:,} rows a set, K given; per cent. `python benchmarks/report.py`\n\n"
    text += "## Usable at 95 %, without answers\n\n"
    rows = []
    for c in cells:
        t = c["answers_0"]
        right = "" if t["right"] is None else _(t["right"])
        rows.append([c["set"], c["seed"], _range(t["usable"]), _(t["true_usable"]), right])
        rows[-1] += [_range(t["accuracy"]), _(t["true_accuracy"]), _(t["ece"])]
    head = ["set", "seed", "said", "true", "right of the said", "accuracy said", "true", "ECE"]
    text += markdown(head, rows) + "\n"
    for key in ("usable", "accuracy"):
        held = {
            m: sum(_within(c[f"answers_{m}"][key], c[f"answers_{m}"][f"true_{key}"]) for c in cells)
            for m in ANSWERS
        }
        said = (f"{count} of {len(cells)} with {m} answers" for m, count in held.items())
        text += f"The range held the true share ({key}): {', '.join(said)}.\n\n"
    text += "## How far a few answers move it\n\n"
    text += "Mean distance from the estimate without answers, and the largest, in points.\n\n"
    rows = []
    for m in ANSWERS[1:]:
        row: list[Any] = [m]
        for get in (lambda t: t["usable"]["value"], lambda t: t["one_sum"]):
            moved = [abs(get(c[f"answers_{m}"]) - get(c["answers_0"])) for c in cells]
            row += [_(np.mean(moved)), _(max(moved))]
        for get in (lambda t: t["accuracy"]["value"], lambda t: t["mean_confidence"]):
            off = [abs(get(c[f"answers_{m}"]) - c[f"answers_{m}"]["true_accuracy"]) for c in cells]
            row.append(_(np.mean(off)))
        rows.append(row)
    head = ["answers", "usable", "largest", "by one sum of confidence", "largest"]
    head += ["accuracy said, off the true one", "mean confidence, off it"]
    text += markdown(head, rows) + "\n## Pairs that may be one\n\n"
    text += "How many were, of those named.\n\n"
    rules = (("neighbors", MAY_BE_ONE), ("neighbors", FIFTH), ("probabilities", FIFTH))
    rows = [
        [c["set"], c["seed"], *(_of(_named(c, *rule)) for rule in rules)]
        + [f"{c['pairs']['all'][0]} of {c['pairs']['all'][1]}"]
        for c in cells
    ]
    sums = [[each for c in cells for each in _named(c, *rule)] for rule in rules]
    rows.append(["**all**", "", *map(_of, sums), ""])
    first = [each for c in cells for each in _named(c, *rules[0])[:NAMED]]
    head = ["set", "seed", f"neighbors, {MAY_BE_ONE:.2f} (the rule)", f"neighbors, {FIFTH:.1f}"]
    text += markdown([*head, f"doubt, {FIFTH:.1f}", "of all pairs"], rows)
    return text + f"\nOf those that the sentence names, at most {NAMED} a set: {_of(first)}.\n"


def _named(cell: dict[str, Any], rule: str, least: float) -> list[bool]:
    """Return of the pairs that a rule names, most first, whether they are one."""
    return [one for value, one in cell["pairs"][rule] if value >= least]


def _(share: float) -> str:
    return f"{100 * share:.1f}"


def _range(told: dict[str, float]) -> str:
    return f"{_(told['value'])} ({_(told['low'])} to {_(told['high'])})"


def _within(told: dict[str, float], true: float) -> bool:
    return told["low"] - 5e-4 <= true <= told["high"] + 5e-4


def _of(found: list[bool]) -> str:
    return f"{sum(found)} of {len(found)}" if found else "none named"


def main() -> None:
    """Measure what is missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--pairs", action="store_true")
    parser.add_argument("--tables", action="store_true")
    asked = parser.parse_args()
    for name in () if asked.tables else asked.sets.split(","):
        for seed in map(int, asked.seeds.split(",")):
            path = OUT / f"{name}-{seed}.json"
            if not path.exists():
                write_cell(path, cell(name, seed))
            elif asked.pairs:
                result, y = clustered(name, seed)
                write_cell(path, {**json.loads(path.read_text()), "pairs": pairs(result, y)})
    (OUT.parent / "report.md").write_text(tables(read_cells(OUT)))


if __name__ == "__main__":
    main()
