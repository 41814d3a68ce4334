"""Whether `propagate` knows how good it is: expected against true accuracy, unseen classes, ECE.

A world is a set, cut to a long tail or not, in an encoder or a weaker one: with noise on it, or in
32 of its dimensions. 1,800 random rows; 50, 100 and 200 labels of rows that `query` chose or of
random ones. Half of the worlds, by a hash of their names, were there to think and to fit the
coefficients of `fmcluster.functional.labels.spread_accuracy`; the others only confirm.

    python benchmarks/propagate.py [--half think|confirm] [--seeds 0,1] [--table]

Cells go to benchmarks/results/propagate/, finished ones are skipped; the table to its README.md,
below the notes that stand there.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from typing import Any

import numpy as np
from _sets import DATA, ROOT, markdown, write_cell

import fmcluster as fmc
from fmcluster.functional.calibration import ece
from fmcluster.labeling.inputs import LabelingInput
from fmcluster.vectors.graph import KNNGraph

RESULTS = ROOT / "benchmarks" / "results" / "propagate"
BASES = ("agnews", "stackoverflow", "banking77", "tweet", "googlenews_t", "cifar10_test")
ENCODERS = ("raw", "noise", "dims")
WORLDS = tuple(f"{b}-lt{c}-{e}" for b in BASES for c in (1, 10, 50, 100) for e in ENCODERS)
N_ROWS = 1_800
BUDGETS = (50, 100, 200)
BEGIN = "<!-- table -->"


def half_of(world: str) -> str:
    """Return whether a world was for thinking or for confirming."""
    return "think" if zlib.crc32(world.encode()) % 2 == 0 else "confirm"


def load(world: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return unit rows and classes of a world."""
    base, cut, encoder = world.split("-")
    with np.load(DATA / f"{base}.npz") as stored:
        x, y = stored["x"].astype(np.float32), np.unique(stored["y"], return_inverse=True)[1]
    rng = np.random.default_rng([seed, zlib.crc32(world.encode())])
    if cut != "lt1":
        rows = fmc.make_long_tail(y, imbalance_ratio=int(cut[2:]), random_state=seed)
        x, y = x[rows], y[rows]
    rows = rng.permutation(len(x))[:N_ROWS]
    x, y = x[rows], y[rows]
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    if encoder == "noise":
        size = 0.8 * np.sqrt(x.var(axis=0).sum() / x.shape[1])
        x = x + size * rng.normal(size=x.shape).astype(np.float32)
    elif encoder == "dims":
        x = x[:, rng.permutation(x.shape[1])[:32]]
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return np.ascontiguousarray(x, np.float32), np.unique(y, return_inverse=True)[1]


def measure(world: str, seed: int) -> list[dict[str, Any]]:
    """Return a row per budget and way to choose."""
    x, y = load(world, seed)
    subject = LabelingInput(x, np.arange(len(x)), graph=KNNGraph.build(x, k=15))
    found = []
    for budget in BUDGETS:
        for strategy in ("auto", "random"):
            ids = fmc.query(x, budget, strategy=strategy, random_state=seed)
            start = time.process_time()
            spread = fmc.propagate(subject, ids, y[ids], random_state=seed)
            seconds = time.process_time() - start
            free = np.setdiff1d(np.arange(len(x)), ids)
            right = (spread.label == y)[free]
            low, high = spread.accuracy_interval
            found.append(
                {
                    "world": world,
                    "seed": seed,
                    "budget": budget,
                    "strategy": strategy,
                    "accuracy": round(float(right.mean()), 4),
                    "expected": round(spread.expected_accuracy, 4),
                    "low": round(low, 4),
                    "high": round(high, 4),
                    "unseen": round(float((~np.isin(y, y[ids]))[free].mean()), 4),
                    "unseen_mass": round(spread.unseen_mass, 4),
                    "ece": round(float(ece(spread.confidence[free], right)), 4),
                    "seconds": round(seconds, 2),
                }
            )
    return found


def table() -> str:
    """Return the Markdown of all cells."""
    rows = [r for path in sorted(RESULTS.glob("*.json")) for r in json.loads(path.read_text())]
    text = f"{BEGIN}\n\n"
    for half in ("think", "confirm"):
        for strategy in ("auto", "random"):
            some = [r for r in rows if half_of(r["world"]) == half and r["strategy"] == strategy]
            if not some:
                continue
            body = []
            for name in (*BASES, *(str(b) for b in BUDGETS), "all"):
                part = [
                    r for r in some if name in (r["world"].split("-")[0], str(r["budget"]), "all")
                ]
                if part:
                    body.append(_line(name, part))
            text += f"**Worlds to {half}, rows by `{strategy}`**\n\n"
            header = ["", "worlds", "accuracy", "expected", "difference", "largest of a world"]
            header += ["interval covers", "width", "unseen", "unseen_mass", "ECE"]
            text += markdown(header, body) + "\n"
    return text


def _line(name: str, rows: list[dict[str, Any]]) -> list[str]:
    def mean(key: str) -> float:
        return 100 * float(np.mean([r[key] for r in rows]))

    worlds = sorted({r["world"] for r in rows})
    gaps = [
        np.mean([r["expected"] - r["accuracy"] for r in rows if r["world"] == w]) for w in worlds
    ]
    covers = np.mean([r["low"] <= r["accuracy"] <= r["high"] for r in rows])
    shown = [mean("accuracy"), mean("expected"), mean("expected") - mean("accuracy")]
    return [
        name,
        str(len(worlds)),
        *(f"{v:+.1f}" if i == 2 else f"{v:.1f}" for i, v in enumerate(shown)),
        f"{100 * gaps[int(np.abs(gaps).argmax())]:+.1f}",
        f"{100 * covers:.0f} %",
        f"{mean('high') - mean('low'):.0f}",
        f"{mean('unseen'):.1f}",
        f"{mean('unseen_mass'):.1f}",
        f"{mean('ece'):.1f}",
    ]


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--half", choices=("think", "confirm"))
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--table", action="store_true", help="only write the table")
    asked = parser.parse_args()
    for seed in [] if asked.table else map(int, asked.seeds.split(",")):
        for world in WORLDS:
            path = RESULTS / f"{world}_{seed}.json"
            if path.exists() or asked.half not in (None, half_of(world)):
                continue
            write_cell(path, measure(world, seed))
            print(world, seed, flush=True)
    readme = RESULTS / "README.md"
    notes = readme.read_text().split(BEGIN)[0] if readme.exists() else "# `propagate`\n\n"
    readme.write_text(notes + table())


if __name__ == "__main__":
    main()
