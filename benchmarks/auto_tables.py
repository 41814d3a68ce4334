"""Print the Markdown tables of `benchmarks/auto.py`'s JSON results.

python benchmarks/auto_tables.py benchmarks/results/auto/embeddings.json
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fmcluster.utils.files import read_json

MEAN = (
    "stackoverflow",
    "agnews",
    "banking77",
    "tweet",
    "googlenews_t",
    "stackoverflow_lt100",
    "banking77_lt50",
)


def spread(values: Iterable[float], scale: float = 100) -> str:
    """Return "mean ± sd" of shares as percentages."""
    values = np.array(list(values)) * scale
    return f"{values.mean():.1f} ± {values.std():.1f}"


def per_set(runs: list[dict[str, Any]]) -> str:
    """Return the table of sets."""
    lines = [
        "| set | k-means ACC / macro | ACC | macro | ECE | AUROC | even | CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    names = list(dict.fromkeys(run["set"] for run in runs))
    means: dict[str, list[float]] = {key: [] for key in ("km", "acc", "macro", "ece", "auroc")}
    for name in names:
        rows = [run for run in runs if run["set"] == name]
        km = 100 * np.mean([[r["kmeans"]["acc"], r["kmeans"]["macro_acc"]] for r in rows], axis=0)
        cells = [spread(r[key] for r in rows) for key in ("acc", "macro_acc", "ece", "auroc")]
        even = sum(r["even_sizes"] for r in rows)
        cells += [f"{even}/{len(rows)}", spread((r["cpu_seconds"] for r in rows), 1)]
        lines.append(f"| {name} | {km[0]:.1f} / {km[1]:.1f} | " + " | ".join(cells) + " |")
        if name in MEAN:
            for key, column in zip(means, ("", "acc", "macro_acc", "ece", "auroc"), strict=True):
                value = km[0] / 100 if key == "km" else np.mean([r[column] for r in rows])
                means[key].append(float(value))
    if means["acc"]:
        mean = {key: 100 * float(np.mean(values)) for key, values in means.items()}
        lines.append(
            f"| **mean of {len(means['acc'])}** | {mean['km']:.1f} | **{mean['acc']:.1f}** | "
            f"{mean['macro']:.1f} | {mean['ece']:.1f} | {mean['auroc']:.1f} | | |"
        )
    return "\n".join(lines)


def ablation(runs: list[dict[str, Any]]) -> str:
    """Return the table of variants: ACC a set, and the means of ACC, macro, ECE and AUROC."""
    runs = [run for run in runs if "variants" in run]
    names = list(dict.fromkeys(run["set"] for run in runs))
    short = " | ".join(names)
    lines = [f"| variant | {short} | ACC | macro | ECE | AUROC |", "|---" * (len(names) + 5) + "|"]
    for label in runs[0]["variants"] if runs else ():
        table = [[run["variants"][label] for run in runs if run["set"] == name] for name in names]
        cells = [f"{100 * np.mean([v['acc'] for v in rows]):.1f}" for rows in table]
        chosen = [r for rows, name in zip(table, names, strict=True) if name in MEAN for r in rows]
        for key in ("acc", "macro_acc", "ece", "auroc"):
            cells.append(f"{100 * np.mean([v[key] for v in chosen]):.1f}")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables of every file named."""
    for path in map(Path, sys.argv[1:]):
        runs = read_json(path)["runs"]
        text = per_set(runs)
        if any("variants" in run for run in runs):
            text += "\n\n" + ablation(runs)
        sys.stdout.write(f"{path.stem}\n\n{text}\n\n")


if __name__ == "__main__":
    main()
