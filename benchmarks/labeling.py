"""How far few labels go: `query` and `propagate` beside scikit-activeml, in one process.

Each cell is one set and one seed: 2,500 random rows, budgets of K, 2K and 5K labels (K classes).
A strategy is judged by a logistic regression (C=10) on the rows it chose and by `propagate` from
them, both by their accuracy on the rows that stay without a label. `auto, rounds` spends K labels,
learns their classes, then spends the rest. Classes are read by the oracle and the judge only.

Every strategy starts from the rows alone: `uncertain` and `tail` cluster them by themselves, and
seconds, of the processor, include that. The judge's neighbor graph is built once a cell.

    python benchmarks/labeling.py [--sets agnews,tweet] [--seeds 0,1,2,3,4] [--table]

Finished cells are skipped; runs of a strategy that has changed since, and those that are missing,
are done again. The table is written to benchmarks/results/labeling/README.md.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from _sets import ROOT, SETS, load, markdown, read_cells, spread, write_cell
from sklearn.linear_model import LogisticRegression

from fmcluster.functional.calibration import ece
from fmcluster.labeling.inputs import LabelingInput
from fmcluster.labeling.propagate import propagate
from fmcluster.labeling.query import query
from fmcluster.vectors.graph import KNNGraph

RESULTS = ROOT / "benchmarks" / "results" / "labeling"
N_ROWS = 2_500
BUDGETS = (1, 2, 5)
OURS = (
    "random",
    "typical",
    "centroid",
    "coverage",
    "herding",
    "coreset",
    "uncertain",
    "tail",
    "auto",
)
ROUNDS = "auto, rounds"
PEERS = ("skactiveml TypiClust", "skactiveml ProbCover")
ORDER = (*OURS, *PEERS, ROUNDS)
# Raised for strategies that change, so that their runs are done again.
REVISION = dict.fromkeys(("coverage", "herding", "auto", ROUNDS), 2)
# Spreading the labels of every strategy would double the work for no bar.
SPREAD = ("random", "typical", "coverage", "auto", ROUNDS, PEERS[0])


def peers(seed: int) -> dict[str, Callable[[np.ndarray, int], np.ndarray]]:
    """Return scikit-activeml's cold-start strategies as functions of (rows, budget)."""
    from skactiveml.pool import ProbCover, TypiClust

    def asked(strategy: Any) -> Callable[[np.ndarray, int], np.ndarray]:
        def choose(x: np.ndarray, budget: int) -> np.ndarray:
            return strategy.query(x, np.full(len(x), np.nan), batch_size=budget)

        return choose

    return {
        PEERS[0]: asked(TypiClust(random_state=seed)),
        PEERS[1]: asked(ProbCover(random_state=seed)),
    }


def judge(
    subject: LabelingInput, y: np.ndarray, rows: np.ndarray, *, spread: bool
) -> dict[str, float]:
    """Return the accuracies that the labels of `rows` buy on all other rows."""
    x = subject.rows
    rest = np.setdiff1d(np.arange(len(x)), rows)
    if len(np.unique(y[rows])) < 2:
        constant = float((y[rest] == y[rows][0]).mean())
        return {"lr": constant} | ({"propagate": constant} if spread else {})
    model = LogisticRegression(C=10, max_iter=300).fit(x[rows], y[rows])
    answer = {
        "lr": float((model.predict(x[rest]) == y[rest]).mean()),
        "classes": len(np.unique(y[rows])) / len(np.unique(y)),
    }
    if spread:
        found = propagate(subject, rows, y[rows])
        right = (found.label == y)[rest]
        answer["propagate"] = float(right.mean())
        answer["ece"] = float(ece(found.confidence[rest], right))
    return answer


def missing(cell: dict[str, Any]) -> list[tuple[int, str]]:
    """Return the budgets and strategies that the cell does not hold, or not of this revision."""
    held = {
        (run["budget"], run["strategy"])
        for run in cell.get("runs", ())
        if run.get("revision", 1) == REVISION.get(run["strategy"], 1)
    }
    every = [(times, s) for times in BUDGETS for s in ORDER if times > 1 or s != ROUNDS]
    return [one for one in every if one not in held]


def run_cell(name: str, seed: int, cell: dict[str, Any]) -> dict[str, Any]:
    """Measure what `cell` does not hold yet."""
    x, y = load(name, N_ROWS, seed)
    k = int(y.max()) + 1
    todo = missing(cell)
    cell = {"set": name, "seed": seed, "rows": len(x), "classes": k, "runs": []} | cell
    cell["runs"] = [run for run in cell["runs"] if (run["budget"], run["strategy"]) not in todo]
    subject = LabelingInput(x, np.arange(len(x)), graph=KNNGraph.build(x, k=20))
    judged: dict[tuple[bytes, bool], dict[str, float]] = {}
    for times in BUDGETS:
        budget = min(times * k, len(x) // 2)
        choices: dict[str, Callable[[], np.ndarray]] = {
            s: lambda s=s, b=budget: query(x, b, strategy=s, random_state=seed) for s in OURS
        }
        wanted = {strategy for t, strategy in todo if t == times}
        for peer, choose in peers(seed).items() if wanted & set(PEERS) else ():
            choices[peer] = lambda choose=choose, b=budget: choose(x, b)
        if times > 1:
            choices[ROUNDS] = lambda b=budget: two_rounds(x, y, k, b, seed)
        for strategy in sorted(wanted, key=ORDER.index):
            choose_now = choices[strategy]
            start = time.process_time()
            rows = np.sort(np.asarray(choose_now()))
            seconds = time.process_time() - start
            run = {"strategy": strategy, "budget": times, "seconds": round(seconds, 3)}
            run["revision"] = REVISION.get(strategy, 1)
            key = (rows.tobytes(), strategy in SPREAD)
            if key not in judged:
                judged[key] = judge(subject, y, rows, spread=key[1])
            cell["runs"].append(run | judged[key])
    cell["runs"].sort(key=lambda run: (run["budget"], ORDER.index(run["strategy"])))
    return cell


def two_rounds(x: np.ndarray, y: np.ndarray, k: int, budget: int, seed: int) -> np.ndarray:
    """Spend K labels, learn them, spend the rest."""
    first = query(x, min(k, budget - 1), random_state=seed)
    known = dict(zip(first.tolist(), y[first].tolist(), strict=True))
    return np.concatenate([first, query(x, budget - len(first), labeled=known, random_state=seed)])


def tables() -> str:
    """Return the Markdown of all finished cells."""
    cells = read_cells(RESULTS)
    runs = [run | {"set": cell["set"]} for cell in cells for run in cell["runs"]]
    names = [name for name in SETS if any(run["set"] == name for run in runs)]
    strategies = list(dict.fromkeys(run["strategy"] for run in runs))

    def of(measure: str, strategy: str, times: int, name: str | None = None) -> list[float]:
        return [
            run[measure]
            for run in runs
            if run["strategy"] == strategy
            and run["budget"] == times
            and name in (None, run["set"])
            and np.isfinite(run.get(measure, np.nan))
        ]

    counts = ", ".join(f"{name} {sum(c['set'] == name for c in cells)}" for name in names)
    text = (
        "# Few labels\n\nWritten by `benchmarks/labeling.py`: accuracy (%) on the rows without a "
        f"label, mean ±sd over seeds, {N_ROWS:,} rows a set. Seeds finished: {counts}.\n"
    )
    for measure, title in (
        ("lr", "Logistic regression on the chosen rows"),
        ("propagate", "`propagate` from the chosen rows"),
        ("ece", "Calibration error (ECE) of `propagate`"),
        ("seconds", "Processor seconds to choose"),
    ):
        text += f"\n## {title}\n\n"
        body = []
        for times in BUDGETS:
            for s in strategies:
                skipped = measure in ("propagate", "ece") and s not in SPREAD
                if skipped or not of(measure, s, times):
                    continue
                means = [np.mean(of(measure, s, times, n)) for n in names]
                if measure == "seconds":
                    shown = [f"{value:.2f}" for value in [np.mean(means), *means]]
                else:
                    shown = [spread(of(measure, s, times, n)) for n in names]
                    shown.insert(0, f"{100 * np.mean(means):.1f}")
                body.append([f"{times}K", s, *shown])
        text += markdown(["budget", "strategy", "mean", *names], body)
    return text + _bars(names, of)


def _bars(names: list[str], of: Callable[..., list[float]]) -> str:
    """Return the bars: auto over random in every seed, and 2K labels spread against 5K."""
    text, body = "\n## The bars\n\n", []
    for name in names:
        gains = {
            t: np.subtract(of("lr", "auto", t, name), of("lr", "random", t, name)) for t in BUDGETS
        }
        shown = [f"{100 * g.mean():+.1f} ({100 * g.min():+.1f})" for g in gains.values()]
        far = float(np.mean(of("lr", "random", 5, name)))
        reach = {t: float(np.mean(of("propagate", "auto", t, name))) for t in (1, 2)}
        columns = [f"{100 * value:.1f}" for value in (far, reach[1], reach[2])]
        body.append([name, *shown, *columns])
    header = ["set", *(f"auto - random, {t}K, mean (worst seed)" for t in BUDGETS)]
    header += ["random at 5K", *(f"auto + propagate at {t}K" for t in (1, 2))]
    text += markdown(header, body) + "\nOn the mean over sets:\n\n"

    def mean(measure: str, strategy: str, times: int) -> float:
        return 100 * float(np.mean([np.mean(of(measure, strategy, times, n)) for n in names]))

    body = []
    rivals = ("typical", "coverage", *PEERS)
    for measure, others in (("lr", rivals), ("propagate", rivals[:3])):
        for times in BUDGETS:
            best = max(others, key=lambda other: mean(measure, other, times))
            ours, theirs = mean(measure, "auto", times), mean(measure, best, times)
            body.append([measure, f"{times}K", f"{ours:.1f}", f"{theirs:.1f}", best])
    return text + markdown(["measure", "budget", "auto", "best of the others", "which"], body)


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--table", action="store_true", help="only write the table")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    for seed in [] if asked.table else map(int, asked.seeds.split(",")):
        for name in asked.sets.split(","):
            path = RESULTS / f"{name}_{seed}.json"
            cell = json.loads(path.read_text()) if path.exists() else {}
            if not missing(cell):
                continue
            start = time.process_time()
            write_cell(path, run_cell(name, seed, cell))
            print(f"{name} seed {seed}: {time.process_time() - start:.0f} s", flush=True)
    (RESULTS / "README.md").write_text(tables())


if __name__ == "__main__":
    main()
