"""What cached augmented views are worth: heads and label-free calibration with and without them.

    python benchmarks/views.py --data ../shared/data --cache CACHE

Texts are embedded by the packaged MiniLM, once clean and twice augmented (weak); a head is fitted
on the store with and without its views, and its result calibrated with and without them. Writes
``results/views.json`` and ``results/views.md``; classes are read by the evaluation only.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmcluster.api import embed
from fmcluster.calibration.label_free import label_free
from fmcluster.embedding.store.store import EmbeddingStore
from fmcluster.functional.metrics import evaluate
from fmcluster.heads import make_head
from fmcluster.utils.files import write_json, write_text
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import as_spaces

RESULTS = Path(__file__).parent / "results"
SETS = ("tweet", "agnews")
HEADS = ("kmeans", "scan", "cdc")
N_ROWS = 2_500
SEEDS = (0, 1)


def sample(folder: Path, name: str) -> tuple[list[str], np.ndarray]:
    """Return the same random texts and classes of a set every time."""
    table = pd.read_parquet(folder / f"{name}.parquet")
    rows = np.random.default_rng(0).permutation(len(table))[:N_ROWS]
    table = table.iloc[np.sort(rows)]
    return table["text"].tolist(), np.unique(table["label"], return_inverse=True)[1]


def measure(store: EmbeddingStore, y: np.ndarray, head: str, seed: int) -> list[dict[str, Any]]:
    """Fit with and without views; calibrate each with and without."""
    clean = EmbeddingStore.from_array(np.asarray(store, dtype=np.float32))
    graph = KNNGraph.build(clean.space(), k=50)
    views = [space.views for space in as_spaces(store)]
    cells = []
    for kind, data in (("without views", clean), ("with views", store)):
        made = make_head(head, n_clusters=len(np.unique(y)), random_state=seed)
        made.fit(data, graph=graph)
        raw = made.predict_proba(clean)
        cell = {"fit": kind, **_figures("raw", evaluate(y, made.labels_, raw))}
        for word, given in (("plain", None), ("views", views)):
            spaces = as_spaces(clean)
            calibrator = label_free(
                raw, spaces=spaces, graph=graph, labels=made.labels_, views=given, random_state=seed
            )
            proba = calibrator.transform(raw, spaces)
            cell |= _figures(f"calibrated {word}", evaluate(y, made.labels_, proba))
        cells.append(cell)
    return cells


def _figures(prefix: str, metrics: dict[str, float]) -> dict[str, float]:
    return {f"{prefix} {key}": round(metrics[key], 4) for key in ("acc", "ece", "auroc")}


def main() -> None:
    """Run all cells and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    args = parser.parse_args()
    records = []
    for name in SETS:
        texts, y = sample(args.data, name)
        store = embed(
            texts, encoder="packaged:minilm", n_views=2, augment="weak", cache_dir=args.cache
        )
        for head in HEADS:
            for seed in SEEDS:
                for cell in measure(store, y, head, seed):
                    records.append({"set": name, "head": head, "seed": seed, **cell})
                write_json(RESULTS / "views.json", records)
    table = pd.DataFrame(records).drop(columns="seed")
    means = table.groupby(["head", "fit"]).mean(numeric_only=True)
    shown = ["raw acc", "raw ece", "calibrated plain ece", "calibrated views ece",
             "calibrated plain auroc", "calibrated views auroc"]  # fmt: skip
    lines = ["| head | fit | " + " | ".join(shown) + " |", "|---" * (len(shown) + 2) + "|"]
    for (head, fit), row in means.iterrows():
        values = " | ".join(f"{100 * row[key]:.1f}" for key in shown)
        lines.append(f"| {head} | {fit} | {values} |")
    text = f"Per cent, mean over {', '.join(SETS)} and {len(SEEDS)} seeds.\n\n" + "\n".join(lines)
    write_text(RESULTS / "views.md", text + "\n")


if __name__ == "__main__":
    main()
