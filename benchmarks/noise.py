"""Wrong labels found and lived with: ours beside cleanlab and a plain neighbour vote.

Each cell is one set, one seed and one kind of noise, at rates of 10, 20, 40 and 60 %:

- symmetric: any other class, alike;
- pair: class c becomes c + 1;
- instance: which class and how often depends on the row (Xia et al., "Part-dependent label noise",
  NeurIPS 2020).

Detection: F1 of the flagged rows and AUROC of the score. cleanlab judges by 5-fold cross-validated
logistic regression, as its documentation advises; the vote flags rows whose 50 neighbours' majority
disagrees. Seconds include graph or cross-validation. Robust fit: accuracy on held-out clean rows.
True classes make the noise and judge; nothing else reads them.

    python benchmarks/noise.py [--sets agnews] [--seeds 0,1,2,3,4] [--part find|fit] [--table]

Finished cells are skipped; the table is written to benchmarks/results/noise/README.md.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
from _sets import ROOT, SETS, load, markdown, read_cells, spread, write_cell
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from fmcluster.clean import find_label_issues, fit_robust
from fmcluster.index import KNNGraph

RESULTS = ROOT / "benchmarks" / "results" / "noise"
N_ROWS = {"find": 2_500, "fit": 6_000}
KINDS = ("symmetric", "pair", "instance")
RATES = (0.1, 0.2, 0.4, 0.6)
FILTERS = ("prune_by_noise_rate", "both", "confident_learning")
OURS, VOTE = "fmcluster", "50-neighbour vote"


def corrupt(x: np.ndarray, y: np.ndarray, kind: str, rate: float, seed: int) -> np.ndarray:
    """Return labels of which about `rate` are wrong."""
    rng = np.random.default_rng([seed, KINDS.index(kind), int(100 * rate)])
    k = int(y.max()) + 1
    if kind == "instance":
        return _instance_noise(x, y, rate, rng)
    wrong = rng.random(len(y)) < rate
    step = 1 if kind == "pair" else rng.integers(1, k, len(y))
    return np.where(wrong, (y + step) % k, y)


def _instance_noise(
    x: np.ndarray, y: np.ndarray, rate: float, rng: np.random.Generator
) -> np.ndarray:
    k, out = int(y.max()) + 1, y.copy()
    often = np.clip(rng.normal(rate, 0.1, len(y)), 0, 1)
    centred = x - x.mean(axis=0)
    centred *= np.sqrt(x.shape[1]) / 4 / np.sqrt((centred**2).sum(axis=1).mean())
    for c in range(k):
        rows = np.flatnonzero(y == c)
        pull = centred[rows] @ rng.normal(size=(x.shape[1], k))
        pull[:, c] = -np.inf
        share = np.exp(pull - pull.max(axis=1, keepdims=True))
        share *= (often[rows] / share.sum(axis=1))[:, None]
        share[:, c] = 1 - often[rows]
        drawn = (rng.random(len(rows))[:, None] > share.cumsum(axis=1)).sum(axis=1)
        out[rows] = np.minimum(drawn, k - 1)
    return out


def detect(x: np.ndarray, given: np.ndarray, bad: np.ndarray, k: int) -> list[dict[str, Any]]:
    """Return F1, AUROC and seconds of every detector."""
    runs = []

    def note(method: str, flagged: np.ndarray, score: np.ndarray, seconds: float) -> None:
        f1 = float(f1_score(bad, flagged, zero_division=0))
        auroc = float(roc_auc_score(bad, -score))
        runs.append({"method": method, "f1": f1, "auroc": auroc, "seconds": round(seconds, 3)})

    rows = np.arange(len(x))
    start = time.perf_counter()
    issues = find_label_issues(x, given)
    flagged = np.isin(rows, issues["id"])
    note(OURS, flagged, np.array(issues.attrs["scores"]), time.perf_counter() - start)
    runs[-1]["noise_rate"] = issues.attrs["noise_rate"]

    start = time.perf_counter()
    graph = KNNGraph.build(x, k=50)
    votes = np.zeros((len(x), k))
    for column in graph.indices.T:
        votes[rows, given[column]] += 1 / graph.k
    note(VOTE, votes.argmax(axis=1) != given, votes[rows, given], time.perf_counter() - start)

    from cleanlab.filter import find_label_issues as cleanlab_filter
    from cleanlab.rank import get_label_quality_scores

    start = time.perf_counter()
    _, target = np.unique(given, return_inverse=True)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    proba = cross_val_predict(
        LogisticRegression(max_iter=300), x, target, cv=folds, method="predict_proba"
    )
    score = get_label_quality_scores(target, proba)
    fit_seconds = time.perf_counter() - start
    for rule in FILTERS:
        start = time.perf_counter()
        flagged = cleanlab_filter(target, proba, filter_by=rule, n_jobs=1)
        note(f"cleanlab {rule}", flagged, score, fit_seconds + time.perf_counter() - start)
    return runs


def fit_and_judge(
    x: np.ndarray, y: np.ndarray, given: np.ndarray, n_train: int
) -> list[dict[str, Any]]:
    """Return clean test accuracy of the robust fit and of plain regressions."""
    train, test = x[:n_train], x[n_train:]

    def accuracy(model: Any) -> float:
        return float((model.predict(test) == y[n_train:]).mean())

    start = time.perf_counter()
    robust = fit_robust(train, given)
    seconds = time.perf_counter() - start
    plain = LogisticRegression(C=10, max_iter=300)
    return [
        {"method": OURS, "accuracy": accuracy(robust), "seconds": round(seconds, 2)},
        {"method": "logistic, noisy", "accuracy": accuracy(plain.fit(train, given))},
        {"method": "logistic, clean", "accuracy": accuracy(plain.fit(train, y[:n_train]))},
    ]


def run_cell(part: str, name: str, seed: int, kind: str) -> dict[str, Any]:
    """Measure one set, seed and kind of noise at all rates."""
    x, y = load(name, N_ROWS[part], seed)
    cell: dict[str, Any] = {"part": part, "set": name, "seed": seed, "kind": kind, "runs": []}
    for rate in RATES if part == "find" else (0.4,):
        if part == "find":
            given = corrupt(x, y, kind, rate, seed)
            runs = detect(x, given, given != y, int(y.max()) + 1)
        else:
            n_train = int(0.8 * len(x))
            given = corrupt(x[:n_train], y[:n_train], kind, rate, seed)
            runs = fit_and_judge(x, y, given, n_train)
        cell["runs"] += [run | {"rate": rate} for run in runs]
    return cell


def tables() -> str:
    """Return the Markdown of all finished cells."""
    cells = read_cells(RESULTS)
    runs = [
        run | {key: cell[key] for key in ("part", "set", "kind", "seed")}
        for cell in cells
        for run in cell["runs"]
    ]
    text = (
        "# Label noise\n\nWritten by `benchmarks/noise.py`. Means over the finished cells: "
        f"{len({(r['set'], r['seed']) for r in runs if r['part'] == 'find'})} of sets and seeds "
        "for detection.\n"
    )
    found = [run for run in runs if run["part"] == "find"]
    methods = list(dict.fromkeys(run["method"] for run in found))

    def mean(measure: str, **match: Any) -> float:
        """Average over sets of the average over a set's cells, so that every set counts alike."""
        kept = [r for r in found if all(r[key] == v for key, v in match.items())]
        sets = {r["set"] for r in kept}
        means = [np.mean([r[measure] for r in kept if r["set"] == name]) for name in sets]
        return float(np.mean(means)) if means else float("nan")

    for measure, title in (("f1", "F1 of the flagged rows"), ("auroc", "AUROC of the score")):
        text += f"\n## {title} (%)\n\n"
        columns = [(kind, rate) for kind in KINDS for rate in RATES]
        header = ["method", "mean", *(f"{kind} {rate:.0%}" for kind, rate in columns)]
        body = [
            [m, f"{100 * mean(measure, method=m):.1f}"]
            + [f"{100 * mean(measure, method=m, kind=k, rate=r):.1f}" for k, r in columns]
            for m in methods
        ]
        text += markdown(header, body)
        text += "\nBy set:\n\n"
        names = [name for name in SETS if any(run["set"] == name for run in found)]
        body = [
            [m, *(f"{100 * mean(measure, method=m, set=name):.1f}" for name in names)]
            for m in methods
        ]
        text += markdown(["method", *names], body)
    text += "\n## Seconds (one thread, graph or cross-validation included)\n\n"
    body = [
        [m, f"{mean('seconds', method=m):.2f}"]
        + [f"{mean('seconds', method=m, set=name):.2f}" for name in names]
        for m in methods
    ]
    text += markdown(["method", "mean", *names], body)
    text += "\n## Robust fit: accuracy on held-out clean rows, 40 % noise (%)\n\n"
    fitted = [run for run in runs if run["part"] == "fit"]
    body = []
    for kind in KINDS:
        for m in dict.fromkeys(run["method"] for run in fitted):
            kept = [r for r in fitted if r["kind"] == kind and r["method"] == m]
            if kept:
                per_set = [[r["accuracy"] for r in kept if r["set"] == n] for n in SETS]
                average = np.mean([np.mean(v) for v in per_set if v])
                shown = [spread(v) if v else "" for v in per_set]
                body.append([kind, m, f"{100 * average:.1f}", *shown])
    return text + markdown(["noise", "method", "mean", *SETS], body)


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--part", choices=tuple(N_ROWS), action="append")
    parser.add_argument("--table", action="store_true", help="only write the table")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    cells = [
        (part, seed, name, kind)
        for part in asked.part or N_ROWS
        for seed in map(int, asked.seeds.split(","))
        for name in asked.sets.split(",")
        for kind in asked.kinds.split(",")
    ]
    for part, seed, name, kind in [] if asked.table else cells:
        path = RESULTS / f"{part}_{name}_{kind}_{seed}.json"
        if not path.exists():
            start = time.perf_counter()
            write_cell(path, run_cell(part, name, seed, kind))
            print(f"{path.stem}: {time.perf_counter() - start:.0f} s", flush=True)
    (RESULTS / "README.md").write_text(tables())


if __name__ == "__main__":
    main()
