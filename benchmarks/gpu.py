"""Check the code of a GPU against the processor's, and time it: one GPU, under four minutes.

    python benchmarks/gpu.py                       # skips itself, with a reason, without a GPU
    python benchmarks/gpu.py --device cpu --small  # every part on tiny sizes, to try the script

Checks: neighbors, k-means, transport, a mixture, spread labels, prediction, ``auto``, every trained
head, a fit that is resumed on the other device, an encoder in bf16. Times: embedding by ViT-B/14
and ViT-B/32 of random weights, as a share of the matrix products per second that the same run
measures; the neighbors of 1,000,000 x 384 and ``auto`` on them; an epoch of each trained head on
1,000,000 x 768. No network is needed. Each part has seconds of its own and is told to end after
them, so that the whole keeps within its time; what is left out is named.

On a GPU the results go to ``benchmarks/results/gpu.json``. A check that does not hold, or a part
that fails, makes the exit status 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _gpu_checks as checks
import _gpu_times as times
import torch
from _gpu_parts import Where
from _speed_cases import TRAINED

from fmcluster.utils.stopping import Stopped, stoppable
from fmcluster.utils.threads import n_threads

OUT = Path(__file__).resolve().parent / "results" / "gpu.json"
# Of the whole: what is not begun by then is left out.
SECONDS = 225
# Times as long for tiny sizes: nothing is quoted from them, and a test's machine may be busy.
PATIENCE = 20
Part = Callable[[Where], dict[str, Any]]
# By name, what it does and the seconds that it may take.
PARTS: dict[str, tuple[Part, float]] = {
    "check neighbors": (checks.neighbors, 5),
    "check k-means": (checks.k_means, 5),
    "check transport": (checks.transport, 5),
    "check mixture": (checks.mixture, 5),
    "check spread labels": (checks.spread, 5),
    "check prediction": (checks.prediction, 5),
    "check auto": (checks.auto, 15),
    "check encoder": (checks.encoder, 10),
    "check resume": (checks.resume, 10),
    **{f"check head {name}": (checks.head_of(name), 6) for name in TRAINED},
    "time products": (times.products, 5),
    "time embedding": (times.embedding, 15),
    "time neighbors": (times.neighbors, 40),
    "time auto": (times.auto, 45),
    **{f"time epoch {name}": (times.epoch_of(name), 8) for name in TRAINED},
}


def no_gpu() -> str | None:
    """Return why there is no GPU to run on, None where there is one."""
    if torch.cuda.is_available():
        return None
    built = torch.version.cuda or torch.version.hip
    return "torch sees no GPU" if built else f"torch {torch.__version__} is built without CUDA"


def run_part(part: Part, where: Where, seconds: float) -> dict[str, Any]:
    """Run a part, told to end after some seconds; return what it found, or why it found nothing."""
    event = threading.Event()
    timer = threading.Timer(seconds, event.set)
    start = time.perf_counter()
    timer.start()
    try:
        with stoppable(event), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = part(where)
    except Stopped:
        found = {"left_out": f"told to end after {seconds:.0f} s"}
    except Exception as error:
        traceback.print_exc()
        found = {"error": f"{type(error).__name__}: {error}", "passed": False}
    finally:
        timer.cancel()
        where.free()
    return {**found, "seconds": round(time.perf_counter() - start, 2)}


def run_parts(where: Where, names: list[str], seconds: float) -> dict[str, dict[str, Any]]:
    """Run parts in turn, as long as there is time."""
    start, results = time.perf_counter(), {}
    for name in names:
        part, own = PARTS[name]
        own *= PATIENCE if where.small else 1
        left = seconds - (time.perf_counter() - start)
        if left < 1:
            results[name] = {"left_out": "no time was left"}
        else:
            results[name] = run_part(part, where, min(own, left))
        print(f"{name}: {json.dumps(results[name])}", flush=True)
    return results


def about(where: Where) -> dict[str, Any]:
    """Return what the figures belong to."""
    gpu = torch.cuda.get_device_name(where.device) if where.is_gpu else None
    return {
        "device": gpu or f"the processor stands in ({platform.machine()})",
        "threads": n_threads(),
        "small": where.small,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
    }


def main() -> int:
    """Run what was asked for; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes: nothing to quote")
    parser.add_argument("--only", nargs="+", default=[""], help="beginnings of the parts' names")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of the whole")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    arguments = parser.parse_args()
    if arguments.device == "cpu" and not arguments.small:
        parser.error("--device cpu needs --small: the sizes are those of a GPU")
    reason = no_gpu() if arguments.device == "cuda" else None
    if reason:
        print(f"skipped: {reason}; --device cpu --small tries the script without one")
        return 0
    names = [name for name in PARTS if name.startswith(tuple(arguments.only))]
    if not names:
        parser.error(f"no part begins with {arguments.only}: there are {', '.join(PARTS)}")
    os.environ.setdefault("FMCLUSTER_NO_PROGRESS", "1")
    where = Where(torch.device(arguments.device, 0), arguments.small)
    start = time.perf_counter()
    results = run_parts(where, names, arguments.seconds * (PATIENCE if where.small else 1))
    whole = {"about": about(where), "parts": results}
    whole["about"]["seconds"] = round(time.perf_counter() - start, 1)
    out = arguments.out or (OUT if where.is_gpu and names == list(PARTS) else None)
    if out is not None:
        out.write_text(json.dumps(whole, indent=1) + "\n")
    failed = [name for name, found in results.items() if found.get("passed") is False]
    print(f"{len(results)} parts in {whole['about']['seconds']} s, {len(failed)} failed {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
