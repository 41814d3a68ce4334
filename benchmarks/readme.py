"""Write the README's result tables from committed JSON, between its markers.

python benchmarks/readme.py            # rewrite README.md
python benchmarks/readme.py --check    # exit 3 where README.md is not what the JSON says
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _noise_tables import CLEAN, NOISY, ORACLE, OURS, VOTE, mean, newest, runs_of
from _sets import read_cells

from fmcluster.bench.cells import load_records
from fmcluster.bench.tables import collect

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SHOWN = ("auto", "kmeans", "p2ot", "peer/ward", "peer/evoc", "peer/umap-hdbscan")
CHOSEN = ("random", "skactiveml ProbCover", "skactiveml TypiClust", "auto")
PARTS = ("find", "full", "fit")
DETECTORS = (OURS, VOTE, "cleanlab prune_by_noise_rate", "cleanlab both")
FITS = (OURS, NOISY, ORACLE, CLEAN)
COMPARED = ("stackoverflow", "agnews")
Values = dict[str, dict[str, dict[str, list[float]]]]


def percent(values: list[float]) -> str:
    """Return the mean in per cent."""
    return f"{100 * float(np.mean(values)):.1f}" if values else "-"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def calibration() -> str:
    """Return mean ACC and ECE of each head over the sets that it has all of."""
    found: Values = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for path in sorted((RESULTS / "confidence").glob("*.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        for kind in ("raw", "label_free"):
            for metric in ("acc", "ece", "auroc"):
                found[cell["method"]][cell["set"]][f"{kind} {metric}"].append(cell[kind][metric])
    n_sets = max(len(sets) for sets in found.values())
    rows = []
    for method, sets in found.items():
        if len(sets) < n_sets:
            continue
        means = {
            key: [float(np.mean(values[key])) for values in sets.values()]
            for key in next(iter(sets.values()))
        }
        seeds = min(len(values["raw acc"]) for values in sets.values())
        shown = [
            percent(means[key])
            for key in ("raw acc", "raw ece", "raw auroc", "label_free ece", "label_free auroc")
        ]
        rows.append((np.mean(means["raw ece"]), [method, str(seeds), *shown]))
    header = ["head", "seeds", "ACC", "ECE", "AUROC", "ECE calibrated", "AUROC calibrated"]
    return table(header, [row for _, row in sorted(rows, key=lambda pair: pair[0])])


def long_tail() -> str:
    """Return ACC / macro ACC a set of the prior-aware heads and their rivals."""
    found = collect(load_records(RESULTS, "long-tail"))
    methods = sorted({m for _, m in found} & set(SHOWN))
    datasets = list(dict.fromkeys(d for d, _ in sorted(found)))
    complete = [m for m in methods if all((d, m) in found for d in datasets)]
    rows = []
    for dataset in datasets:
        cells = [found[dataset, m] for m in complete]
        rows.append([dataset, *(f"{percent(c['acc'])} / {percent(c['macro_acc'])}" for c in cells)])
    means = [
        " / ".join(
            percent([float(np.mean(found[d, m][key])) for d in datasets])
            for key in ("acc", "macro_acc")
        )
        for m in complete
    ]
    return table(["set", *complete], [*rows, ["**mean**", *means]])


def survey() -> str:
    """Return each head's ACC on two sets, its means over all sets, and its cost on the largest.

    A set counts that more than half of the heads have; a head without all of those has no means.
    """
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted((RESULTS / "survey").glob("*.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        if "metrics" in cell:
            values = {**cell["metrics"], "cpu_seconds": cell["cpu_seconds"]}
            for key in ("acc", "nmi", "ari", "ece", "cpu_seconds"):
                found[cell["head"], cell["set"]][key].append(values[key])
    heads = {head for head, _ in found}
    all_sets = {name for _, name in found}
    sets = [s for s in sorted(all_sets) if 2 * sum((h, s) in found for h in heads) > len(heads)]
    rows = []
    for head in heads:
        first = [percent(found[head, s]["acc"]) if (head, s) in found else "-" for s in COMPARED]
        whole = bool(sets) and all((head, s) in found for s in sets)
        mean = {
            key: [float(np.mean(found[head, s][key])) for s in sets] if whole else []
            for key in ("acc", "nmi", "ari", "ece")
        }
        cost = found[head, COMPARED[0]]["cpu_seconds"] if (head, COMPARED[0]) in found else []
        row = [head, *first, *(percent(values) for values in mean.values())]
        rows.append((-float(np.mean(mean["acc"] or [0])), [*row, f"{np.mean(cost or [0]):.1f}"]))
    means = [f"mean {metric}" for metric in ("ACC", "NMI", "ARI", "ECE")]
    lines = table(["head", *COMPARED, *means, "CPU s"], [row for _, row in sorted(rows)])
    return f"{lines}\n\nMeans are over {', '.join(sets)}. {pixels()}"


def pixels() -> str:
    """Return what DEC and IDEC reach on raw pixels, and what ClustPy's do in the same run."""
    whole: dict[str, list[float]] = defaultdict(list)
    for run in json.loads((RESULTS / "dec_mnist.json").read_text(encoding="utf-8")):
        whole[run["head"]].append(run["acc"])
    told = ", ".join(f"{head} {' and '.join(f'{a:.1f}' for a in whole[head])}" for head in whole)
    runs = json.loads((RESULTS / "dec_epochs.json").read_text(encoding="utf-8"))

    def average(head: str, by: str, what: str) -> float:
        return float(np.mean([r[what] for r in runs if (r["head"], r["by"]) == (head, by)]))

    beside, ratios = [], []
    for head in whole:
        acc = [average(head, by, "acc") for by in ("fmcluster", "clustpy")]
        beside.append(f"{head} {acc[0]:.1f} against {acc[1]:.1f}")
        for stage in ("pretrain", "cluster"):
            what = f"wall_a_{stage}_epoch"
            ratios.append(average(head, "fmcluster", what) / average(head, "clustpy", what))
    return (
        f"ACC on the 60,000 rows of MNIST as raw pixels, a figure a seed: {told}. Beside ClustPy "
        f"on {runs[0]['rows']:,} of them, taking turns: {', '.join(beside)}, an epoch in "
        f"{min(ratios):.2f} to {max(ratios):.2f} of its time."
    )


def labels() -> str:
    """Return accuracy, mean over sets, of what was chosen and learned; K labels: one a class."""
    cells = read_cells(RESULTS / "labeling")
    found: dict[tuple[str, int, str], dict[str, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for cell in cells:
        for run in cell["runs"]:
            for how in ("lr", "propagate"):
                if how in run:
                    found[run["strategy"], run["budget"], how][cell["set"]].append(run[how])
    budgets = sorted({budget for _, budget, _ in found})
    n_sets = len({cell["set"] for cell in cells})
    body = []
    for how, title in (("lr", "logistic regression"), ("propagate", "`propagate`")):
        for strategy in CHOSEN:
            values = [found.get((strategy, budget, how), {}) for budget in budgets]
            if all(len(sets) == n_sets for sets in values):
                means = [percent([float(np.mean(v)) for v in sets.values()]) for sets in values]
                body.append([strategy, title, *means])
    return table(["rows chosen by", "learned by", *(f"{b} K labels" for b in budgets)], body)


def noise() -> str:
    """Return what detectors find and take, and what the robust fit reaches, mean over sets."""
    runs = runs_of(read_cells(RESULTS / "noise"))
    found, full, fits = (newest([r for r in runs if r["part"] == p]) for p in PARTS)
    body = []
    for method in DETECTORS:
        shown = [percent([mean(found, key, method=method)]) for key in ("f1", "auroc")]
        seconds = [f"{mean(part, 'seconds', method=method):.2f}" for part in (found, full)]
        body.append([method, *shown, *seconds])
    header = ["detector", "F1", "AUROC", "CPU s, 2,500 rows", "CPU s, whole sets"]
    fitted = [
        [method, percent([mean(fits, "accuracy", method=method, kind="symmetric", rate=0.4)])]
        for method in FITS
    ]
    return f"{table(header, body)}\n\n{table(['classifier', 'accuracy'], fitted)}"


def answers() -> str:
    """Return what answers bring on worlds cut to long tails and on those as they come."""
    cells = read_cells(RESULTS / "answers")
    kinds = {
        "cut to long tails": [c for c in cells if "-lt1-" not in c["world"]],
        "as they come": [c for c in cells if "-lt1-" in c["world"]],
    }
    keys = ["before.acc", "pairs.acc", "50.acc", "100.acc", "before.ece", "50.ece", "100.ece"]
    body = [
        [kind, str(len(part)), *(percent([c[key] for c in part]) for key in keys)]
        for kind, part in kinds.items()
        if part
    ]
    header = ["sets", "worlds", "ACC without", "50 pairs", "50 labels", "100 labels"]
    return table([*header, "ECE without", "50 labels", "100 labels"], body)


BLOCKS: dict[str, Callable[[], str]] = {
    "calibration": calibration,
    "long-tail": long_tail,
    "survey": survey,
    "answers": answers,
    "labels": labels,
    "noise": noise,
}


def rewritten(text: str) -> str:
    """Return the README with every block made anew."""
    for name, make in BLOCKS.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if start not in text or end not in text:
            continue
        before, rest = text.split(start, 1)
        text = before + start + make() + "\n" + end + rest.split(end, 1)[1]
    return text


def main(argv: Any = None) -> int:
    """Rewrite or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args(argv)
    path = ROOT / "README.md"
    old = path.read_text(encoding="utf-8")
    new = rewritten(old)
    if args.check:
        return 0 if new == old else 3
    path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
