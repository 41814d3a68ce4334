"""What the report and the app say to trust, held against the classes.

Of each set 2,000 random rows are clustered by default (K given). Measured, without answers and with
a few (asked as `query` chooses):

- the expected accuracy and the share that can be used at 95 %, each with its range, against the
  accuracy and the largest share of most confident rows that is 95 % right; how many rows of the
  share are right; and the same share as it was said before, by one sum of confidence;
- the pairs that "may be one": how often two rows, one of each cluster, are of one class at least
  half as often as two of one of them; by the neighbors, and by the probabilities as it was before.

    python benchmarks/report.py [--sets agnews,tweet] [--seeds 0]
    python benchmarks/report.py --tables

Cells go to benchmarks/results/report/, the tables to benchmarks/results/report.md.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from _sets import ROOT, load, markdown, read_cells, write_cell

import fmcluster as fmc
from fmcluster.functional.metrics import matched_correct
from fmcluster.result.expected import PROMISED, expected
from fmcluster.result.report.confusion import MAY_BE_ONE, find_confusions, overlaps
from fmcluster.result.report.words import NAMED

SETS = (
    "agnews",
    "stackoverflow",
    "banking77",
    "tweet",
    "googlenews_t",
    "cifar10_test",
    "stackoverflow_lt100",
    "banking77_lt50",
)
N_ROWS, ANSWERS = 2_000, (0, 1, 5, 20)
OUT = ROOT / "benchmarks" / "results" / "report"
# Two clusters are one where rows of both are so often of one class as rows of one are.
SAME = 0.5


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
    neighbors = [(p.a, p.b) for p in find_confusions(result).pairs if p.may_be_one]
    _, overlap = overlaps(result.proba)
    a, b = np.triu_indices(k, 1)
    order = np.argsort(-overlap[a, b], kind="stable")[:12]
    before = [(a[i], b[i]) for i in order if overlap[a[i], b[i]] >= MAY_BE_ONE]
    return {
        "all": [int(one[a, b].sum()), len(a)],
        "neighbors": [bool(one[pair]) for pair in neighbors],
        "probabilities": [bool(one[pair]) for pair in before],
    }


def cell(name: str, seed: int) -> dict[str, Any]:
    """Return all that is measured of one set."""
    x, y = load(name, N_ROWS, seed)
    result = fmc.cluster(x, n_clusters=int(y.max()) + 1, random_state=seed)
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
    rows = [
        [c["set"], c["seed"], *(_of(c["pairs"][rule]) for rule in ("neighbors", "probabilities"))]
        + [f"{c['pairs']['all'][0]} of {c['pairs']['all'][1]}"]
        for c in cells
    ]
    sums = [
        [each for c in cells for each in c["pairs"][rule]]
        for rule in ("neighbors", "probabilities")
    ]
    rows.append(["**all**", "", *map(_of, sums), ""])
    first = [each for c in cells for each in c["pairs"]["neighbors"][:NAMED]]
    text += markdown(["set", "seed", "by neighbors", "by probabilities", "of all pairs"], rows)
    return text + f"\nOf those that the sentence names, at most {NAMED} a set: {_of(first)}.\n"


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
    parser.add_argument("--tables", action="store_true")
    asked = parser.parse_args()
    for name in () if asked.tables else asked.sets.split(","):
        for seed in map(int, asked.seeds.split(",")):
            path = OUT / f"{name}-{seed}.json"
            if not path.exists():
                write_cell(path, cell(name, seed))
    (OUT.parent / "report.md").write_text(tables(read_cells(OUT)))


if __name__ == "__main__":
    main()
