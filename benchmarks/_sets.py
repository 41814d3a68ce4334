"""The labelled embedding sets, cells on disk and Markdown, for labeling.py and noise.py."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "embeddings"
CUTS = {"stackoverflow_lt100": "stackoverflow", "banking77_lt50": "banking77"}
SETS = (
    "agnews",
    "stackoverflow",
    "banking77",
    "tweet",
    "googlenews_t",
    "cifar10_test",
    *CUTS,
)


def load(name: str, n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `n_rows` random unit rows of a set and their classes 0..k-1."""
    with np.load(DATA / f"{CUTS.get(name, name)}.npz") as stored:
        x, y = stored["x"].astype(np.float32), stored["y"]
    if name in CUTS:
        rows = np.load(DATA / f"{name}_idx.npy")
        x, y = x[rows], y[rows]
    rows = np.random.default_rng(seed).permutation(len(x))[:n_rows]
    x, y = x[rows], y[rows]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return np.ascontiguousarray(x), np.unique(y, return_inverse=True)[1].astype(np.int64)


def write_cell(path: Path, cell: dict[str, Any]) -> None:
    """Write a finished cell whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(cell, indent=1) + "\n")
    temporary.replace(path)


def read_cells(folder: Path) -> list[dict[str, Any]]:
    """Return all finished cells, in the order of their names."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def markdown(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a Markdown table."""
    head = list(header)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(value) for value in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def spread(values: list[float], digits: int = 1) -> str:
    """Return "mean ±sd" of percentages."""
    return f"{100 * np.mean(values):.{digits}f} ±{100 * np.std(values):.{digits}f}"
