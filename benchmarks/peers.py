"""What others reach on the worlds of `answers.py`: the peers of `worlds.py`, and our k-means.

The same rows, the number of classes given to whoever takes it. Rows in no cluster count as wrong.
Peers need the extra `baselines`; ECE stands where a method says how sure it is.

    python benchmarks/peers.py [--limit N]

Cells go to benchmarks/results/peers/, finished ones are skipped; `--limit` ends after N new ones.
The tables are in README.md and docs/comparison.md (`readme.py`).
"""

from __future__ import annotations

import argparse
from typing import Any

from _sets import ROOT, read_cells, write_cell
from _world_methods import HEAD, PEERS, Runner
from propagate import load

RESULTS = ROOT / "benchmarks" / "results" / "peers"
ANSWERS = ROOT / "benchmarks" / "results" / "answers"
OURS = f"{HEAD}kmeans"
KEPT = ("acc", "macro_acc", "ece", "auroc", "tv", "cpu_seconds")


def measure(runner: Runner, world: str, seed: int) -> dict[str, Any]:
    """Return one cell: METHOD.FIGURE of each method."""
    x, y = load(world, seed)
    cell: dict[str, Any] = {"world": world, "seed": seed, "rows": len(x)}
    for method in (OURS, *PEERS):
        row = runner.row(method, x, y, seed)
        cell |= {f"{method}.{key}": row[key] for key in KEPT if key in row}
    return cell


def main(argv: Any = None) -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=10**9)
    parser.add_argument("--seeds", type=int, nargs="+", help="of these alone")
    args = parser.parse_args(argv)
    runner, left = Runner(), args.limit
    for cell in read_cells(ANSWERS):
        path = RESULTS / f"{cell['world']}_{cell['seed']}.json"
        other = args.seeds is not None and cell["seed"] not in args.seeds
        if path.is_file() or left <= 0 or other:
            continue
        write_cell(path, measure(runner, cell["world"], cell["seed"]))
        left -= 1
        print(path.stem, flush=True)


if __name__ == "__main__":
    main()
