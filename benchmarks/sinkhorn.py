"""Time the Sinkhorn solver against POT and a P2OT reference loop, in one run, to one accuracy.

Every solver runs on the same problem until its relative L1 error (columns against their targets)
is under the asked tolerance; POT's own stop rule is an absolute L2 norm, which is set to the value
that gives that error. The P2OT reference is a stand-in written from the paper: the plain scaling
loop in float64 with an absolute stop of 1e-6 on the scaling vector, at most 1,000 passes.

    OMP_NUM_THREADS=1 python benchmarks/sinkhorn.py --out benchmarks/results/sinkhorn.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fmcluster.functional.ot import sinkhorn
from fmcluster.utils.files import write_json

TOL = 1e-4
POT_ITERATIONS = {20: 5000, 152: 2000, 1000: 300}


def cosine_scores(n_rows: int, n_clusters: int, seed: int = 0) -> NDArray[np.float32]:
    """Cosines of noisy rows to k directions whose sizes fall like 1 / rank."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_clusters, 64)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    share = 1.0 / np.arange(1, n_clusters + 1)
    rows = centres[rng.choice(n_clusters, n_rows, p=share / share.sum())]
    rows = rows + 0.12 * rng.normal(size=rows.shape).astype(np.float32)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)) @ centres.T


def log_softmax_scores(n_rows: int, n_clusters: int) -> NDArray[np.float32]:
    """Log-probabilities of a head whose logits are ten times the cosine (P2OT's head)."""
    logits = torch.from_numpy(10 * cosine_scores(n_rows, n_clusters))
    return torch.log_softmax(logits, dim=1).numpy()


def p2ot_reference(
    scores: NDArray[Any], *, rho: float, epsilon: float = 0.1, penalty: float = 1.0, stop: float
) -> tuple[NDArray[np.float64], int]:
    """Solve the partial problem with a virtual cluster by the plain float64 loop."""
    n, k = scores.shape
    wide = torch.from_numpy(np.asarray(scores, dtype=np.float64))
    kernel = torch.cat([torch.exp(wide / epsilon), torch.ones(n, 1, dtype=torch.float64)], dim=1)
    target = torch.cat([torch.full((k,), rho / k), torch.tensor([1 - rho])]).double()
    power = torch.cat([torch.full((k,), penalty / (penalty + epsilon)), torch.ones(1)]).double()
    b = torch.ones(k + 1, dtype=torch.float64) / k
    for n_iter in range(1, 1001):  # noqa: B007
        a = (1.0 / n) / (kernel @ b)
        new = (target / (kernel.T @ a)) ** power
        moved, b = (new - b).norm(), new
        if moved < stop:
            break
    return (a[:, None] * kernel * b)[:, :k].numpy(), n_iter


def timed(run: Callable[[], Any], repeats: int = 3) -> tuple[Any, float]:
    """Return the answer and the least CPU seconds of some repeats (fewer where one is long)."""
    best, spent, answer = np.inf, 0.0, None
    for _ in range(repeats):
        start = time.process_time()
        answer = run()
        seconds = time.process_time() - start
        best, spent = min(best, seconds), spent + seconds
        if spent > 4:
            break
    return answer, best


def column_error(plan: NDArray[Any]) -> float:
    """Relative L1 distance between the column sums and the uniform ones."""
    return float(np.abs(plan.sum(0, dtype=np.float64) - 1 / plan.shape[1]).sum())


def balanced(n: int, k: int, epsilon: float) -> dict[str, Any]:
    """Compare with POT on a balanced problem."""
    import ot

    scores = cosine_scores(n, k)
    wide, a, b = scores.astype(np.float64), np.full(n, 1 / n), np.full(k, 1 / k)
    cell: dict[str, Any] = {"problem": "balanced", "n": n, "k": k, "epsilon": epsilon}
    for name, own in (("fmcluster float32", scores), ("fmcluster float64", wide)):
        result, seconds = timed(lambda own=own: sinkhorn(own, epsilon=epsilon, tol=TOL))  # type: ignore[misc]
        cell[name] = {
            "cpu_s": seconds,
            "n_iter": result.n_iter,
            "error": column_error(result.plan),
            "status": result.status,
        }
    for method in ("sinkhorn", "sinkhorn_log"):
        # The log domain is capped low where it is slow: its time a pass is what is compared then.
        cap = POT_ITERATIONS[k] if method == "sinkhorn" else (1000 if n * k <= 2e5 else 20)
        options = {"method": method, "numItermax": cap, "stopThr": TOL / np.sqrt(k)}
        (plan, log), seconds = timed(
            lambda options=options: ot.sinkhorn(a, b, -wide, epsilon, log=True, **options)  # type: ignore[misc]
        )
        n_iter = int(log["niter"]) + 1
        cell[f"POT {method}"] = {
            "cpu_s": seconds,
            "n_iter": n_iter,
            "error": column_error(np.asarray(plan)),
            "status": "converged" if n_iter < cap else "max_iter",
        }
    return cell


def partial(n: int, k: int, rho: float) -> dict[str, Any]:
    """Compare with the P2OT reference loop on its own problem (epsilon 0.1, lambda 1)."""
    scores = log_softmax_scores(n, k)
    (plan, n_iter), seconds = timed(lambda: p2ot_reference(scores, rho=rho, stop=1e-6))
    exact = sinkhorn(
        scores.astype(np.float64), epsilon=0.1, rho=rho, col_penalty=1.0, tol=1e-11
    ).plan
    cell: dict[str, Any] = {"problem": "partial", "n": n, "k": k, "epsilon": 0.1, "rho": rho}
    cell["P2OT reference loop"] = {
        "cpu_s": seconds,
        "n_iter": n_iter,
        "plan_error": float(np.abs(plan - exact).sum() / rho),
    }
    result, seconds = timed(
        lambda: sinkhorn(scores, epsilon=0.1, rho=rho, col_penalty=1.0, tol=TOL)
    )
    cell["fmcluster float32"] = {
        "cpu_s": seconds,
        "n_iter": result.n_iter,
        "plan_error": float(np.abs(result.plan - exact).sum() / rho),
        "plan_distance_to_reference": float(np.abs(result.plan - plan).sum() / rho),
        "status": result.status,
    }
    return cell


def memory(n: int = 100_000, k: int = 1_000) -> dict[str, Any]:
    """Solve in a process of its own and report its peak resident memory over the score matrix."""
    program = f"""
import json, time
import numpy as np
from fmcluster.functional.ot import sinkhorn
def peak():
    # Not ru_maxrss: a child inherits that from its parent.
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
sinkhorn(np.zeros((2000, {k}), np.float32), block_rows=500)
empty = peak()
rng = np.random.default_rng(0)
scores = np.empty(({n}, {k}), np.float32)
centres = rng.normal(size=(64, {k})).astype(np.float32)
centres /= np.linalg.norm(centres, axis=0)
for s in range(0, {n}, 1000):
    rows = centres[:, rng.integers({k}, size=1000)].T
    rows = rows + 0.12 * rng.normal(size=rows.shape).astype(np.float32)
    scores[s:s + 1000] = rows / np.linalg.norm(rows, axis=1, keepdims=True) @ centres
start = time.process_time()
result = sinkhorn(scores, epsilon=0.05, tol={TOL})
seconds = time.process_time() - start
print(json.dumps({{"cpu_s": seconds, "n_iter": result.n_iter, "status": result.status,
    "error": result.error, "peak_over_scores": (peak() - empty) / scores.nbytes,
    "peak_mb": peak() / 2**20, "empty_mb": empty / 2**20}}))
"""
    answer = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return {"problem": "memory", "n": n, "k": k, **json.loads(answer.stdout)}


def ratios(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return how many times more CPU each peer took, at its own (larger or equal) error."""
    rows = []
    for cell in cells:
        for own in ("fmcluster float32", "fmcluster float64"):
            for name, peer in cell.items():
                if own not in cell or not isinstance(peer, dict) or name.startswith("fmcluster"):
                    continue
                rows.append(
                    {
                        "problem": f"{cell['problem']} {cell['n']}x{cell['k']}",
                        "epsilon": cell["epsilon"],
                        "rho": cell.get("rho", 1.0),
                        "own": own,
                        "peer": name,
                        "times_faster": peer["cpu_s"] / cell[own]["cpu_s"],
                        "peer_status": peer.get("status", "ran"),
                    }
                )
    return rows


def main() -> None:
    """Run all cells and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sinkhorn.json"))
    parser.add_argument("--quick", action="store_true", help="the small cells only")
    parser.add_argument("--large", action="store_true", help="also 100,000 x 152")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sizes = [(10_000, 20), (10_000, 152)]
    if not arguments.quick:
        sizes += [(100_000, 20), (10_000, 1000)]
    if arguments.large:
        sizes += [(100_000, 152)]
    cells = [] if arguments.quick else [memory()]
    for n, k in sizes:
        cells.append(balanced(n, k, 0.05))
        # At rho 0.1 the reference stops at its cap; at 1,000 columns that is minutes.
        for rho in (0.1, 0.5) if k < 1000 else (0.5,):
            cells.append(partial(n, k, rho))
        print(json.dumps(ratios(cells[-3:]), indent=1), flush=True)
        write(arguments.out, cells)
    print(f"wrote {arguments.out}")


def write(path: Path, cells: list[dict[str, Any]]) -> None:
    """Write what has been measured so far."""
    about = {"threads": 1, "tol": TOL, "cells": cells, "ratios": ratios(cells)}
    write_json(path, about)


if __name__ == "__main__":
    main()
