"""The packaged image encoders through the whole product: CIFAR-10's test images, k given.

    OMP_NUM_THREADS=1 FMCLUSTER_THREADS=1 python benchmarks/packaged_images.py --data ../shared/data

An encoder each: CPU seconds of `embed` and of `cluster`, and accuracy, NMI and calibration error
of three seeds. Writes ``results/packaged_images.json``; with ``--only NAME`` the entry of one
encoder there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import fmcluster as fmc

RESULT = Path(__file__).parent / "results" / "packaged_images.json"
ENCODERS = ("packaged:efficientnet-lite0", "packaged:efficientnet-lite2")
SEEDS = (0, 1, 2)


def measured(data: Path, encoder: str, labels: np.ndarray) -> dict[str, Any]:
    """Return seconds and scores of one encoder."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        store = fmc.embed(data, column="image", encoder=encoder, folder=f"{folder}/store")
        embed = time.process_time() - started
        seconds, scores = [], []
        for seed in SEEDS:
            started = time.process_time()
            result = fmc.cluster(store, n_clusters=10, random_state=seed)
            seconds.append(time.process_time() - started)
            scores.append(result.evaluate(labels))
        [fingerprint] = store.encoders.values()
    return {
        "preprocessing": fingerprint["preprocessing"],
        "precision": fingerprint["precision"],
        "embed_cpu_s": round(embed, 1),
        "cluster_cpu_s": round(float(np.median(seconds)), 1),
        **{key: [round(100 * s[key], 1) for s in scores] for key in ("acc", "nmi", "ece")},
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", choices=ENCODERS)
    args = parser.parse_args()
    data = args.data / "cifar10_test.parquet"
    labels = pd.read_parquet(data, columns=["label"])["label"].to_numpy()
    found = json.loads(RESULT.read_text())["encoders"] if args.only and RESULT.is_file() else {}
    for encoder in [args.only] if args.only else ENCODERS:
        found[encoder] = measured(data, encoder, labels)
    RESULT.write_text(json.dumps({"rows": len(labels), "encoders": found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
