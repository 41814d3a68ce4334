"""The tables of noise.py.

A mean is over kinds and rates of the mean over sets of the mean over seeds: a set, kind or rate
counts alike however many seeds of it are finished.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from _sets import SETS, markdown, spread

KINDS = ("symmetric", "pair", "instance")
RATES = (0.1, 0.2, 0.4, 0.6)
OURS, VOTE = "fmcluster", "50-neighbor vote"
QUICK_VOTE = "50-neighbor vote, our graph"
NOISY, CLEAN = "logistic, noisy", "logistic, clean"
ORACLE = "logistic, right rows only"
Run = dict[str, Any]


def runs_of(cells: Iterable[Run]) -> list[Run]:
    """Return the runs of all cells, each with what its cell says of it."""
    keys = ("part", "set", "kind", "seed")
    first = {"revision": 1}
    return [
        first | run | {key: cell[key] for key in keys} for cell in cells for run in cell["runs"]
    ]


def tables(cells: Iterable[Run]) -> str:
    """Return the Markdown of all finished cells."""
    runs = runs_of(cells)
    found = [run for run in runs if run["part"] == "find"]
    full = [run for run in runs if run["part"] == "full"]
    text = "# Label noise\n\nWritten by `benchmarks/noise.py`.\n"
    if found:
        text += "\n## Seeds finished, detection\n\n" + _counts(found)
        text += "\n## The bars: ours, and the best of the others\n\n" + _bars(found, full)
        for measure, title in (("f1", "F1 of the flagged rows"), ("auroc", "AUROC of the score")):
            text += f"\n## {title} (%)\n\n" + _by_column(found, measure)
            text += "\nBy set:\n\n" + _by_set(found, measure, percent=True)
        text += "\n## Processor seconds, graph or cross-validation included\n\n"
        text += _timed(found)
    if full:
        text += "\n## Processor seconds on whole sets (at most 20,000 rows)\n\n" + _timed(full)
        for measure, title in (("f1", "F1 of the flagged rows"), ("auroc", "AUROC of the score")):
            text += f"\n{title}:\n\n" + _by_set(full, measure, percent=True)
    fits = [run for run in runs if run["part"] == "fit"]
    return text + (_fits(newest(fits)) if fits else "")


def newest(runs: list[Run]) -> list[Run]:
    """Return the runs of the newest revision."""
    last = max(run["revision"] for run in runs)
    return [run for run in runs if run["revision"] == last]


def _timed(runs: list[Run]) -> str:
    """Return seconds by set, of the newest detector."""
    new = newest(runs)
    seeds = sorted({run["seed"] for run in new})
    text = f"Of the newest detector only (seeds {', '.join(map(str, seeds))}); "
    text += "F1 and AUROC above are of all cells.\n\n"
    return text + _by_set(new, "seconds", percent=False)


def mean(runs: list[Run], measure: str, **match: Any) -> float:
    """Average as the module says, over runs that match."""
    kept = [run for run in runs if all(run[key] == value for key, value in match.items())]
    kept = [run for run in kept if measure in run]
    columns = []
    for kind, rate in sorted({(run["kind"], run["rate"]) for run in kept}):
        column = [run for run in kept if (run["kind"], run["rate"]) == (kind, rate)]
        sets = {run["set"] for run in column}
        by_set = [np.mean([r[measure] for r in column if r["set"] == name]) for name in sets]
        columns.append(np.mean(by_set))
    return float(np.mean(columns)) if columns else float("nan")


def _methods(runs: list[Run], measure: str = "seconds") -> list[str]:
    """Return the methods; the same vote over another graph differs in seconds only."""
    methods = list(dict.fromkeys(run["method"] for run in runs))
    return [method for method in methods if measure == "seconds" or method != QUICK_VOTE]


def _sets(runs: list[Run]) -> list[str]:
    return [name for name in SETS if any(run["set"] == name for run in runs)]


def _counts(runs: list[Run]) -> str:
    ours = [run for run in runs if run["method"] == OURS]
    body = []
    for kind in KINDS:
        for rate in RATES:
            seeds = [
                sum(r["set"] == name and r["kind"] == kind and r["rate"] == rate for r in ours)
                for name in SETS
            ]
            body.append([f"{kind} {rate:.0%}", *seeds])
    return markdown(["noise", *SETS], body)


def _bars(found: list[Run], full: list[Run]) -> str:
    body = []
    for part, runs in (("2,500 rows", found), ("whole sets", full)):
        others = [method for method in _methods(runs) if method != OURS]
        for measure in ("f1", "auroc") if others else ():
            rivals = [method for method in _methods(runs, measure) if method != OURS]
            best = max(rivals, key=lambda method: mean(runs, measure, method=method))
            ours, theirs = (100 * mean(runs, measure, method=method) for method in (OURS, best))
            reached = "yes" if ours > theirs else "no"
            body.append([part, measure, f"{ours:.1f}", f"{theirs:.1f}", best, "", reached])
        new = newest(runs) if runs else []
        seconds = {method: mean(new, "seconds", method=method) for method in _methods(new)}
        for method in others:
            ratio = seconds[OURS] / seconds[method]
            shown = [f"{seconds[OURS]:.2f}", f"{seconds[method]:.2f}", method, f"{ratio:.2f}"]
            body.append([part, "seconds", *shown, "yes" if ratio <= 1 else "no"])
    return markdown(["part", "measure", OURS, "other", "which", "time ratio", "reached"], body)


def _by_column(runs: list[Run], measure: str) -> str:
    columns = [(kind, rate) for kind in KINDS for rate in RATES]
    header = ["method", "mean", *(f"{kind} {rate:.0%}" for kind, rate in columns)]
    body = [
        [m, f"{100 * mean(runs, measure, method=m):.1f}"]
        + [f"{100 * mean(runs, measure, method=m, kind=k, rate=r):.1f}" for k, r in columns]
        for m in _methods(runs, measure)
    ]
    return markdown(header, body)


def _by_set(runs: list[Run], measure: str, *, percent: bool) -> str:
    def shown(value: float) -> str:
        return f"{100 * value:.1f}" if percent else f"{value:.2f}"

    names = _sets(runs)
    body = [
        [m, shown(mean(runs, measure, method=m))]
        + [shown(mean(runs, measure, method=m, set=name)) for name in names]
        for m in _methods(runs, measure)
    ]
    return markdown(["method", "mean", *names], body)


def _fits(runs: list[Run]) -> str:
    body = []
    for kind, rate in sorted({(r["kind"], r["rate"]) for r in runs}, key=_order):
        some = [run for run in runs if (run["kind"], run["rate"]) == (kind, rate)]
        names = _sets(some)
        held = {
            m: {
                n: [r["accuracy"] for r in some if r["method"] == m and r["set"] == n]
                for n in names
            }
            for m in _methods(some)
        }
        for method, by_set in held.items():
            average = 100 * np.mean([np.mean(values) for values in by_set.values()])
            columns = [spread(by_set[n]) if n in by_set else "" for n in SETS]
            body.append([f"{kind} {rate:.0%}", method, f"{average:.1f}", *columns])
        gap = {n: 100 * (np.mean(held[OURS][n]) - np.mean(held[CLEAN][n])) for n in names}
        shown = [f"{gap[n]:+.1f} ({len(held[OURS][n])})" if n in gap else "" for n in SETS]
        average = f"{np.mean(list(gap.values())):+.1f}"
        body.append([f"{kind} {rate:.0%}", "ours - clean (seeds)", average, *shown])
    title = "\n## Robust fit: accuracy on held-out rows with true labels (%)\n\n"
    return title + markdown(["noise", "method", "mean", *SETS], body)


def _order(column: tuple[str, float]) -> tuple[int, float]:
    return KINDS.index(column[0]), column[1]
