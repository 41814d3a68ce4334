"""Wrong labels found and lived with: ours beside cleanlab and a plain neighbor vote.

Each cell is one set, one seed and one kind of noise, at rates of 10, 20, 40 and 60 %:

- symmetric: any other class, alike;
- pair: class c becomes c + 1;
- instance: which class and how often depends on the row (Xia et al., "Part-dependent label noise",
  NeurIPS 2020).

Detection: F1 of the flagged rows and AUROC of the score. cleanlab judges by 5-fold cross-validated
logistic regression, as its documentation advises; the vote flags rows whose 50 neighbors' majority
disagrees. Seconds are of the processor and include graph or cross-validation. The vote's graph is
faiss's comparison of all pairs, as whoever writes such a vote would have it; the same vote over
the graph that ours builds is the least that ours can take, and stands beside it.
Part "find" takes 2,500 rows, part "full" whole sets. Robust fit: accuracy on held-out clean rows,
beside logistic regression (C=10) on the noisy labels, on the right ones among them (an oracle's:
what knowing every wrong label would buy) and on the clean labels.
True classes make the noise and judge; nothing else reads them.

    python benchmarks/noise.py [--sets agnews] [--seeds 0,1,2,3,4] [--part find|fit|full]
                               [--kinds symmetric] [--rates 0.2,0.4] [--table]

What is finished is skipped; the table is written to benchmarks/results/noise/README.md.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from typing import Any

import numpy as np
from _noise_tables import CLEAN, KINDS, NOISY, ORACLE, OURS, QUICK_VOTE, RATES, VOTE, tables
from _sets import ROOT, SETS, load, read_cells, write_cell
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from fmcluster.labeling.issues import find_label_issues
from fmcluster.labeling.robust import fit_robust
from fmcluster.vectors.graph import KNNGraph

RESULTS = ROOT / "benchmarks" / "results" / "noise"
N_ROWS = {"find": 2_500, "fit": 6_000, "full": 20_000}
# Raised when detector or fit change: seconds and fits are of the newest runs only.
REVISION = {"find": 3, "fit": 3, "full": 3}
FILTERS = ("prune_by_noise_rate", "both", "confident_learning")


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
    start = time.process_time()
    issues = find_label_issues(x, given)
    flagged = np.isin(rows, issues["id"])
    note(OURS, flagged, np.array(issues.attrs["scores"]), time.process_time() - start)
    runs[-1]["noise_rate"] = issues.attrs["noise_rate"]

    for method, neighbors in ((VOTE, faiss_neighbors), (QUICK_VOTE, our_neighbors)):
        start = time.process_time()
        votes = np.zeros((len(x), k))
        for column in neighbors(x, 50).T:
            votes[rows, given[column]] += 1 / 50
        seconds = time.process_time() - start
        note(method, votes.argmax(axis=1) != given, votes[rows, given], seconds)

    from cleanlab.filter import find_label_issues as cleanlab_filter
    from cleanlab.rank import get_label_quality_scores

    start = time.process_time()
    _, target = np.unique(given, return_inverse=True)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    proba = cross_val_predict(
        LogisticRegression(max_iter=300), x, target, cv=folds, method="predict_proba"
    )
    score = get_label_quality_scores(target, proba)
    fit_seconds = time.process_time() - start
    for rule in FILTERS:
        start = time.process_time()
        flagged = cleanlab_filter(target, proba, filter_by=rule, n_jobs=1)
        note(f"cleanlab {rule}", flagged, score, fit_seconds + time.process_time() - start)
    return runs


def faiss_neighbors(x: np.ndarray, k: int) -> np.ndarray:
    """Return each row's `k` nearest others (n, k) by faiss's comparison of all pairs."""
    import faiss

    index = faiss.IndexFlatIP(x.shape[1])
    index.add(x)
    return index.search(x, k + 1)[1][:, 1:]


def our_neighbors(x: np.ndarray, k: int) -> np.ndarray:
    """Return each row's `k` nearest others (n, k)."""
    return KNNGraph.build(x, k=k).indices


def fit_and_judge(
    x: np.ndarray, y: np.ndarray, given: np.ndarray, n_train: int
) -> list[dict[str, Any]]:
    """Return clean test accuracy of the robust fit and of plain regressions."""
    train, test = x[:n_train], x[n_train:]

    def accuracy(model: Any) -> float:
        return float((model.predict(test) == y[n_train:]).mean())

    start = time.process_time()
    robust = fit_robust(train, given)
    seconds = time.process_time() - start
    runs = [{"method": OURS, "accuracy": accuracy(robust), "seconds": round(seconds, 2)}]
    rows = np.arange(n_train)
    right = np.flatnonzero(given == y[:n_train])
    for method, kept, labels in ((NOISY, rows, given), (ORACLE, right, given), (CLEAN, rows, y)):
        start = time.process_time()
        plain = LogisticRegression(C=10, max_iter=300).fit(train[kept], labels[kept])
        seconds = round(time.process_time() - start, 2)
        runs.append({"method": method, "accuracy": accuracy(plain), "seconds": seconds})
    return runs


def run_cell(
    cell: dict[str, Any], part: str, name: str, seed: int, kind: str, rates: list[float]
) -> dict[str, Any]:
    """Measure one set, seed and kind of noise at rates that `cell` does not hold yet."""
    x, y = load(name, N_ROWS[part], seed)
    cell = cell or {"part": part, "set": name, "seed": seed, "kind": kind, "runs": []}
    for rate in rates:
        if part != "fit":
            given = corrupt(x, y, kind, rate, seed)
            runs = detect(x, given, given != y, int(y.max()) + 1)
        else:
            n_train = int(0.8 * len(x))
            given = corrupt(x[:n_train], y[:n_train], kind, rate, seed)
            runs = fit_and_judge(x, y, given, n_train)
        cell["runs"] = [run for run in cell["runs"] if run["rate"] != rate]
        cell["runs"] += [run | {"rate": rate, "revision": REVISION[part]} for run in runs]
    return cell


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--rates", default=",".join(map(str, RATES)))
    parser.add_argument("--part", choices=tuple(N_ROWS), action="append")
    parser.add_argument("--table", action="store_true", help="only write the table")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    cells = [
        (part, seed, name, kind)
        for part in asked.part or ("find", "fit")
        for seed in map(int, asked.seeds.split(","))
        for name in asked.sets.split(",")
        for kind in asked.kinds.split(",")
    ]
    for part, seed, name, kind in [] if asked.table else cells:
        path = RESULTS / f"{part}_{name}_{kind}_{seed}.json"
        cell = json.loads(path.read_text()) if path.exists() else {}
        runs = cell.get("runs", ())
        held = {run["rate"] for run in runs if run.get("revision", 1) == REVISION[part]}
        rates = [rate for rate in map(float, asked.rates.split(",")) if rate not in held]
        if rates:
            start = time.process_time()
            write_cell(path, run_cell(cell, part, name, seed, kind, rates))
            print(f"{path.stem} {rates}: {time.process_time() - start:.0f} s", flush=True)
    (RESULTS / "README.md").write_text(tables(read_cells(RESULTS)))


if __name__ == "__main__":
    main()
