"""Write the tables of the README and of docs/ from committed JSON, between their markers.

python benchmarks/readme.py             # rewrite the pages of `PAGES`
python benchmarks/readme.py --check     # exit 3 where a page is not what the JSON says
python benchmarks/readme.py --example   # run the README's Python and write what it prints, too
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
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
PAGES = ("README.md", "docs/benchmarks.md", "docs/comparison.md")
RESULTS = ROOT / "benchmarks" / "results"
SHOWN = ("auto", "kmeans", "p2ot", "peer/ward", "peer/evoc", "peer/umap-hdbscan")
CHOSEN = ("random", "skactiveml ProbCover", "skactiveml TypiClust", "auto")
PARTS = ("find", "full", "fit")
DETECTORS = (OURS, VOTE, "cleanlab prune_by_noise_rate", "cleanlab both")
FITS = (OURS, NOISY, ORACLE, CLEAN)
COMPARED = ("stackoverflow", "agnews")
# Of `peers.py`, as people call them.
PEERS = {
    "kmeans": "k-means, best of 10",
    "average": "average linkage",
    "ward": "Ward",
    "umap+kmeans": "UMAP + k-means",
    "umap+hdbscan": "UMAP + HDBSCAN",
    "evoc": "EVoC",
}
KMEANS = "head:kmeans"
KINDS = ("with long tails", "as they come")
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
    fits = newest([r for r in runs if r["part"] == PARTS[2]])
    fitted = [
        [method, percent([mean(fits, "accuracy", method=method, kind="symmetric", rate=0.4)])]
        for method in FITS
    ]
    return f"{detectors()}\n\n{table(['classifier', 'accuracy'], fitted)}"


def detectors() -> str:
    """Return what detectors of wrong labels find and take, mean over sets."""
    runs = runs_of(read_cells(RESULTS / "noise"))
    found, full = (newest([r for r in runs if r["part"] == p]) for p in PARTS[:2])
    body = []
    for method in DETECTORS:
        shown = [percent([mean(found, key, method=method)]) for key in ("f1", "auroc")]
        seconds = [f"{mean(part, 'seconds', method=method):.2f}" for part in (found, full)]
        body.append([method, *shown, *seconds])
    return table(["detector", "F1", "AUROC", "CPU s, 2,500 rows", "CPU s, whole sets"], body)


def by_kind(cells: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the worlds that were cut to long tails, and those as they come."""
    return {
        kind: [c for c in cells if ("-lt1-" in c["world"]) == (kind == KINDS[1])] for kind in KINDS
    }


def worlds() -> dict[str, list[dict[str, Any]]]:
    """Return the cells of `answers.py` and `peers.py` joined, of the worlds that both have."""
    theirs = {(c["world"], c["seed"]): c for c in read_cells(RESULTS / "peers")}
    both = [
        {**theirs[key], **cell}
        for cell in read_cells(RESULTS / "answers")
        if (key := (cell["world"], cell["seed"])) in theirs
    ]
    return by_kind(both)


def headline() -> str:
    """Return ACC and ECE of the default head, k-means, the best peer, and with 50 answers."""
    kinds = worlds()
    rows = [["k-means, calibrated without labels"], [f"the best of {len(PEERS)} peers"]]
    rows += [["**the default head**"], ["**the same with 50 answers**"]]
    for part in kinds.values():
        best = max(PEERS, key=lambda peer: np.mean([c[f"{peer}.acc"] for c in part]))
        rows[0] += [percent([c[f"{KMEANS}.{m}"] for c in part]) for m in ("acc", "ece")]
        rows[1] += [f"{percent([c[f'{best}.acc'] for c in part])} ({PEERS[best]})", "says none"]
        rows[2] += [percent([c[f"before.{m}"] for c in part]) for m in ("acc", "ece")]
        rows[3] += [percent([c[f"50.{m}"] for c in part]) for m in ("acc", "ece")]
    header = [""]
    for kind, part in kinds.items():
        header += [f"{len(part)} cuts {kind}: ACC", "ECE"]
    return f"{table(header, rows)}\n\n{compared(kinds)}"


def compared(kinds: dict[str, list[dict[str, Any]]]) -> str:
    """Return what the worlds are cut of, and how many of `answers.py` have no peers beside them."""
    names = sorted({c["world"].split("-")[0] for part in kinds.values() for c in part})
    n_left = len(read_cells(RESULTS / "answers")) - sum(map(len, kinds.values()))
    left = f" {n_left} more are not yet measured beside peers." if n_left else ""
    return f"Cut of {', '.join(names)}.{left}"


def peers() -> str:
    """Return ACC, macro ACC and ECE of everyone on the worlds of `headline`, and their seconds."""
    kinds = worlds()
    ours = {"before": "`auto`, the default", "50": "`auto` and 50 answers", KMEANS: "`kmeans`"}
    rows = []
    for key, title in {**ours, **PEERS}.items():
        row = [title]
        for part in kinds.values():
            macro = "macro_acc" if f"{key}.macro_acc" in part[0] else "macro"
            acc, mean_recall = (percent([c[f"{key}.{m}"] for c in part]) for m in ("acc", macro))
            known = [c[f"{key}.ece"] for c in part if f"{key}.ece" in c]
            row += [f"{acc} / {mean_recall}", percent(known)]
        cost = [c[f"{key}.cpu_seconds"] for c in sum(kinds.values(), []) if key in PEERS]
        row.append(f"{np.mean(cost):.1f}" if cost else "")
        rows.append(row)
    header = [""]
    for kind, part in kinds.items():
        header += [f"{len(part)} cuts {kind}: ACC / macro", "ECE"]
    return f"{table([*header, 'CPU s'], rows)}\n\n{compared(kinds)}"


def answers() -> str:
    """Return what answers bring on worlds cut to long tails and on those as they come."""
    kinds = by_kind(read_cells(RESULTS / "answers"))
    keys = ["before.acc", "pairs.acc", "50.acc", "100.acc", "before.ece", "50.ece", "100.ece"]
    body = [
        [kind, str(len(part)), *(percent([c[key] for c in part]) for key in keys)]
        for kind, part in kinds.items()
        if part
    ]
    header = ["sets", "worlds", "ACC without", "50 pairs", "50 labels", "100 labels"]
    return table([*header, "ECE without", "50 labels", "100 labels"], body)


BLOCKS: dict[str, Callable[[], str]] = {
    "headline": headline,
    "peers": peers,
    "calibration": calibration,
    "long-tail": long_tail,
    "survey": survey,
    "answers": answers,
    "labels": labels,
    "noise": noise,
    "detectors": detectors,
}


def rewritten(text: str) -> str:
    """Return a page with every block made anew."""
    for name, make in BLOCKS.items():
        if f"<!-- {name} -->\n" in text:
            text = replaced(text, name, make())
    return text


def replaced(text: str, name: str, content: str) -> str:
    """Return a page with another content of a block."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, rest = text.split(start, 1)
    return before + start + content + "\n" + end + rest.split(end, 1)[1]


def example(text: str) -> str:
    """Return what the first Python of a page prints, as a block of text."""
    code = re.search(r"```python\n(.*?)```", text, re.S)
    if code is None:
        raise ValueError("the page has no Python block")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code[1], "README.md", "exec"), {"__name__": "readme"})
    return f"```text\n{said.getvalue().strip()}\n```"


def main(argv: Any = None) -> int:
    """Rewrite or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--example", action="store_true")
    args = parser.parse_args(argv)
    code = 0
    for page in PAGES:
        path = ROOT / page
        old = path.read_text(encoding="utf-8")
        new = rewritten(old)
        if args.example and "<!-- example -->" in new:
            new = replaced(new, "example", example(new))
        if not args.check:
            path.write_text(new, encoding="utf-8")
        elif new != old:
            print(f"{page} is not what the JSON says: run python benchmarks/readme.py")
            code = 3
    return code


if __name__ == "__main__":
    sys.exit(main())
