"""What runs a text model: torch, ONNX Runtime and OpenVINO, in fp32 and int8.

    OMP_NUM_THREADS=1 FMCLUSTER_THREADS=1 python benchmarks/text_engines.py --data ../shared/data

500 texts (300 titles, 200 of news) by the packaged MiniLM: CPU seconds of `encode`, the median of
three turns, and the cosine of its rows to torch's. Writes ``results/text_engines.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from fmcluster.embedding.encoders import resolve

RESULT = Path(__file__).parent / "results" / "text_engines.json"
ENGINES = (("torch", "fp32"), ("onnx", "fp32"), ("onnx", "int8"), ("openvino", "fp32"),
           ("openvino", "int8"))  # fmt: skip
TURNS = 3


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    folder = parser.parse_args().data
    rows = [
        text
        for name, count in (("stackoverflow", 300), ("agnews", 200))
        for text in pd.read_parquet(folder / f"{name}.parquet")["text"][:count]
    ]
    torch.set_num_threads(1)
    made = [
        resolve({"encoder": "packaged:minilm", "backend": backend, "precision": precision})
        for backend, precision in ENGINES
    ]
    seconds: list[list[float]] = [[] for _ in made]
    values: list[Any] = [encoder.encode(rows) for encoder in made]
    for _ in range(TURNS):
        for encoder, spent in zip(made, seconds, strict=True):
            started = time.process_time()
            encoder.encode(rows)
            spent.append(time.process_time() - started)
    found = []
    for (backend, precision), spent, value in zip(ENGINES, seconds, values, strict=True):
        cosines = (value * values[0]).sum(axis=1)
        found.append(
            {
                "backend": backend,
                "precision": precision,
                "cpu_s": round(float(np.median(spent)), 2),
                "cosine_min": round(float(cosines.min()), 4),
                "cosine_mean": round(float(cosines.mean()), 4),
            }
        )
    RESULT.write_text(json.dumps({"rows": len(rows), "engines": found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
