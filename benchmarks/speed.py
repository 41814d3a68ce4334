"""Time the package against its peers: CPU seconds and memory, as ratios within one run.

    OMP_NUM_THREADS=1 python benchmarks/speed.py [--only SECTION ...] [--missing]

A case runs in a process of its own (a fork of one that has imported and computed nothing): ours
and its peers take turns, in changing order, and the ratio is the median over the turns of the
peer's CPU seconds to ours. Memory is the peak resident set above that before the call, in a
process for each. Sections: texts, images, knn, kmeans,
epochs (a trained head's epoch), growth (10,000 to 100,000 rows), spectral (20,000), pipeline (end
to end). What is measured joins ``benchmarks/results/speed.json``, from which ``speed.md`` is made;
Sinkhorn's own benchmark (``sinkhorn.py``) is quoted there. Peers come with the extra ``baselines``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _speed_cases as cases
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
# Taking turns ends after so many, or when a case has used so many CPU seconds (two at least).
MOST_TURNS, ENOUGH_SECONDS = 5, {"epochs": 6, "growth": 2, "spectral": 2}


# -- one process -----------------------------------------------------------------------------------


def make_case(section: str, name: str) -> cases.Case:
    """Build a case; "epochs" and "growth" have one a head."""
    kinds = {"epochs": cases.epoch, "growth": cases.growth}
    if section in kinds:
        return kinds[section](name)
    return {**vars(cases), "pipeline": cases.end_to_end}[section]()


def names_of(section: str) -> list[str]:
    """Return the names of a section's cases."""
    return {"epochs": cases.TRAINED, "growth": cases.LINEAR}.get(section, [section])


def timed(run: Any) -> dict[str, Any]:
    """Call `run` once; what it measured itself counts."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, wall, cpu = status("VmRSS"), time.perf_counter(), time.process_time()
    told = run() or {}
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = round((status("VmHWM") - before) / 1024, 1)
    return {"cpu_s": cpu, "wall_s": wall, "peak_mib": peak, **told, "spent": cpu}


def take_turns(section: str, name: str) -> dict[str, Any]:
    """Time all of a case in one process."""
    case = make_case(section, name)
    for warm in case.warm.values():
        warm()
    turns: list[dict[str, dict[str, Any]]] = []
    spent, enough = 0.0, ENOUGH_SECONDS.get(section, 25)
    while len(turns) < MOST_TURNS and (len(turns) < 2 or spent < enough):
        order = list(case.runs)[:: -1 if len(turns) % 2 else 1]
        turns.append({who: timed(case.runs[who]) for who in order})
        spent += sum(run.pop("spent") for run in turns[-1].values())
        if spent > 2 * enough:
            break
    ours, *peers = case.runs
    found: dict[str, Any] = {"rows": case.rows, "ours": ours, "turns": len(turns)}
    found["runs"] = {
        who: {
            **turns[0][who],
            "cpu_s": round(float(np.median([turn[who]["cpu_s"] for turn in turns])), 4),
            "wall_s": round(float(np.median([turn[who]["wall_s"] for turn in turns])), 4),
        }
        for who in case.runs
    }
    found["ratios"] = {
        who: round(float(np.median([t[who]["cpu_s"] / t[ours]["cpu_s"] for t in turns])), 3)
        for who in peers
    }
    return {**found, "skipped": case.skipped}


def status(key: str) -> int:
    """Return a line of this process's own account, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def alone(section: str, name: str, who: str) -> dict[str, Any]:
    """Run one of a case in a process of its own; return its peak memory, in MiB."""
    case = make_case(section, name)
    case.warm.get(who, lambda: None)()
    return {"peak_mib": timed(case.runs[who])["peak_mib"]}


# -- the run ---------------------------------------------------------------------------------------


def child(work: Callable[..., dict[str, Any]], *arguments: str) -> dict[str, Any]:
    """Call `work` in a fork of this process, which has only imported."""
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(duplex=False)
    process = fork.Process(target=lambda: there.send(work(*arguments)))
    process.start()
    there.close()
    found = here.recv()
    process.join()
    return found


def preload() -> None:
    """Import what the cases need, so that no fork has to, and compute nothing."""
    for module in ("accelerate", "faiss", "pandas", "sklearn.cluster", "torch", "torch._dynamo"):
        importlib.import_module(module)
    for name in cases.list_heads():
        cases.make_head(name)


def measure(section: str, path: Path, *, missing: bool) -> None:
    """Measure a section case by case; each joins the file as it ends."""
    for name in names_of(section):
        if missing and name in read(path).get(section, {}):
            continue
        print(section, name, file=sys.stderr, flush=True)
        found = child(take_turns, section, name)
        for who, run in found["runs"].items():
            # A head's process is its own already, and the head comes first in it.
            if section not in ENOUGH_SECONDS:
                run.update(child(alone, section, name, who))
        results = read(path)
        results.setdefault(section, {})[name] = {**found, **machine()}
        path.write_text(json.dumps(results, indent=1) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Return what was measured so far."""
    return json.loads(path.read_text()) if path.exists() else {}


def machine() -> dict[str, Any]:
    """Return what the figures depend on besides the code."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "?")
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    return {"cpu": model, "cores": os.cpu_count(), "threads": threads, "system": platform.system()}


# -- the page --------------------------------------------------------------------------------------

SECTIONS = {
    "texts": "Embedding texts (`packaged:minilm`; unsorted, 1 to 250 words)",
    "images": "Embedding images (`packaged:efficientnet-lite0`, JPEG files)",
    "knn": "Neighbors (20 of 128 dimensions)",
    "kmeans": "k-means (100 clusters, 128 dimensions)",
    "epochs": "One epoch of each trained head (10,000 x 128, 20 clusters)",
    "growth": "From 10,000 to 100,000 rows (64 dimensions, one epoch a stage, neighbors given)",
    "spectral": "Spectral clustering (20,000 x 384, 20 clusters)",
    "pipeline": "End to end (128 dimensions, 20 planted clusters)",
}
OWN = ("cpu_s", "wall_s", "peak_mib")


def page(results: dict[str, Any], sinkhorn: dict[str, Any]) -> str:
    """Return the tables."""
    parts = [
        "# Speed",
        "Made by `benchmarks/speed.py` from `speed.json`. CPU seconds and MiB above what was held "
        "before the call; *times ours* is the peer's CPU seconds to ours, turn by turn, median.",
    ]
    for section, title in SECTIONS.items():
        cells = results.get(section)
        if not cells:
            continue
        about = next(iter(cells.values()))
        parts.append(f"## {title}")
        parts.append(f"{about['cpu']}, OMP_NUM_THREADS={about['threads']}.")
        table = heads_table if section in ("epochs", "growth") else peers_table
        parts.append(table(cells))
        absent = {who: why for cell in cells.values() for who, why in cell["skipped"].items()}
        parts += [f"Not measured: {who} ({why})." for who, why in absent.items()]
    parts += ["## Sinkhorn against POT", sinkhorn_table(sinkhorn)]
    return "\n\n".join(parts) + "\n"


def rows_of(header: str, rows: list[list[Any]]) -> str:
    """Return a Markdown table."""
    columns = header.split(" | ")
    lines = [f"| {header} |", "|---|" + "---:|" * (len(columns) - 1)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def peers_table(cells: dict[str, Any]) -> str:
    """Return one row for each that took part."""
    rows = []
    for cell in cells.values():
        for who, run in cell["runs"].items():
            notes = ", ".join(
                f"{k} {v}" for k, v in run.items() if k not in (*OWN, "first", "tokens")
            )
            speed = f"{cell['rows'] / run['cpu_s']:,.0f}"
            times = cell["ratios"].get(who, 1)
            rows.append([who, f"{run['cpu_s']:.2f}", speed, times, run["peak_mib"], notes])
    return rows_of("call | CPU s | rows / CPU s | times ours | peak MiB | notes", rows)


def heads_table(cells: dict[str, Any]) -> str:
    """Return one row a head."""
    rows, peer = [], ""
    for name, cell in cells.items():
        (peer,) = cell["ratios"]
        run = cell["runs"][cell["ours"]]
        times = 1 / cell["ratios"][peer]
        rows.append([f"`{name}`", f"{run['cpu_s']:.3f}", f"{times:.1f}", run["peak_mib"]])
    return rows_of(f"head | CPU s | times {peer} | peak MiB", rows)


def sinkhorn_table(results: dict[str, Any]) -> str:
    """Return our solver's CPU seconds against POT's, of its own benchmark."""
    rows = [
        [r["problem"], r["epsilon"], r["peer"], f"{r['times_faster']:.1f}", r["peer_status"]]
        for r in results["ratios"]
        if r["own"] == "fmcluster float32"
    ]
    return rows_of("problem | epsilon | peer | times ours | peer", rows)


def main() -> None:
    """Run what is asked for, then write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--missing", action="store_true", help="only what is not in the file")
    parser.add_argument("--table-only", action="store_true", help="write the page again")
    parser.add_argument("--out", type=Path, default=RESULTS / "speed.json")
    asked = parser.parse_args()
    preload()
    for section in [] if asked.table_only else asked.only:
        measure(section, asked.out, missing=asked.missing)
    sinkhorn = json.loads((RESULTS / "sinkhorn.json").read_text())
    asked.out.with_suffix(".md").write_text(page(read(asked.out), sinkhorn), encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
