"""Markdown tables of finished cells, and the gate that compares them with committed ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

DEFAULT_METRICS = (
    "acc", "nmi", "ari", "macro_acc", "head_acc", "medium_acc", "tail_acc", "ece", "auroc",
    "prior_tv", "k_error", "seconds",
)  # fmt: skip
PLAIN = {"seconds", "cpu_seconds", "peak_mb", "n_clusters", "prior_tv", "k_error", "nll"}
# How far a mean may fall below the committed one before the gate fails.
# Less fails by the chance of seeds, more lets a loss pass; small classes, pairs, bins move more.
TOLERANCE = {"acc": 0.015, "macro_acc": 0.02, "nmi": 0.015, "ari": 0.02, "ece": 0.02}
SMALLER_IS_BETTER = {"ece"}

Key = tuple[str, str]


def collect(records: Iterable[dict[str, Any]]) -> dict[Key, dict[str, list[float]]]:
    """Return values a seed by (dataset, method) and metric."""
    found: dict[Key, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        cell = found[record["dataset"], record["method"]]
        timings = {k: record[k] for k in ("seconds", "cpu_seconds", "peak_mb") if k in record}
        for metric, value in {**record["metrics"], **timings}.items():
            cell[metric].append(float(value))
    return found


def render_number(metric: str, values: Sequence[float]) -> str:
    """Return the mean over seeds, with its spread where there are several."""
    if not values:
        return "-"
    scale = 1 if metric in PLAIN else 100
    digits = 2 if metric in ("prior_tv", "k_error") else 1
    text = f"{scale * float(np.mean(values)):.{digits}f}"
    if len(values) > 1 and metric not in ("seconds", "cpu_seconds", "peak_mb"):
        text += f" ±{scale * float(np.std(values)):.{digits}f}"
    return text


def markdown(records: Iterable[dict[str, Any]], metrics: Sequence[str] = DEFAULT_METRICS) -> str:
    """Return a table a data set, methods by accuracy, and one of the means over the sets."""
    found = collect(records)
    datasets = list(dict.fromkeys(dataset for dataset, _ in sorted(found)))
    parts = []
    for dataset in datasets:
        rows = {m: cell for (d, m), cell in found.items() if d == dataset}
        parts.append(f"### {dataset}\n\n{_table(rows, metrics)}")
    complete = _means(found, datasets)
    if len(datasets) > 1 and complete:
        parts.append(f"### mean over the {len(datasets)} sets\n\n{_table(complete, metrics)}")
    return "\n\n".join(parts) + "\n"


def _means(
    found: dict[Key, dict[str, list[float]]], datasets: Sequence[str]
) -> dict[str, dict[str, list[float]]]:
    """Return means over sets a method, of methods that have every set."""
    means: dict[str, dict[str, list[float]]] = {}
    for method in {m for _, m in found}:
        cells = [found.get((dataset, method)) for dataset in datasets]
        if any(cell is None for cell in cells):
            continue
        shared = set.intersection(*(set(cell) for cell in cells if cell))
        means[method] = {
            metric: [float(np.mean([np.mean(cell[metric]) for cell in cells if cell]))]
            for metric in shared
        }
    return means


def _table(rows: dict[str, dict[str, list[float]]], metrics: Sequence[str]) -> str:
    shown = [m for m in metrics if any(m in cell for cell in rows.values())]
    ordered = sorted(rows, key=lambda name: (-float(np.mean(rows[name].get("acc", [0]))), name))
    lines = ["| method | " + " | ".join(shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for name in ordered:
        values = [render_number(metric, rows[name].get(metric, [])) for metric in shown]
        lines.append(f"| {name} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def compare(now: Iterable[dict[str, Any]], then: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return where a mean is worse than the committed one by more than its tolerance."""
    new, old = collect(now), collect(then)
    worse = []
    for key in sorted(set(new) & set(old)):
        for metric, tolerance in TOLERANCE.items():
            if metric not in new[key] or metric not in old[key]:
                continue
            before, after = float(np.mean(old[key][metric])), float(np.mean(new[key][metric]))
            fall = after - before if metric in SMALLER_IS_BETTER else before - after
            if fall > tolerance:
                worse.append(
                    {
                        "dataset": key[0],
                        "method": key[1],
                        "metric": metric,
                        "before": round(before, 4),
                        "after": round(after, 4),
                    }
                )
    return worse
