"""Cells: one data set, one method, one seed; run once, kept as JSON, never half written."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.bench.datasets import BenchData
from fmcluster.bench.methods import Method, Outcome
from fmcluster.functional.metrics import evaluate
from fmcluster.utils.files import read_json, stable_hash, write_json
from fmcluster.utils.version import __version__

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cell:
    """What is run.

    Attributes
    ----------
    suite, dataset : str
        Names.
    method : Method
        Head or peer, with its settings.
    seed : int
        Random state.
    """

    suite: str
    dataset: str
    method: Method
    seed: int

    def key(self, data_digest: str) -> str:
        """Return what decides the numbers: data, method and settings, seed."""
        return stable_hash(
            {
                "data": data_digest,
                "method": self.method.name,
                "settings": self.method.settings,
                "seed": self.seed,
            }
        )

    def path(self, folder: Path) -> Path:
        """Return the cell's file, named with what any file system takes."""
        safe = re.sub(r"[^A-Za-z0-9.=_-]+", "-", self.method.name)
        return folder / self.suite / f"{self.dataset}__{safe}__s{self.seed}.json"


@dataclass
class Peak:
    """Largest resident memory above the start while a block ran, in MB."""

    mb: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)


# Shorter peaks are missed; looking more often takes time of what is measured.
@contextmanager
def peak_memory(interval: float = 0.05) -> Iterator[Peak]:
    """Watch this process's resident memory from a thread while the block runs."""
    import psutil

    process = psutil.Process()
    before = process.memory_info().rss
    peak = Peak()

    def watch() -> None:
        while not peak._stop.wait(interval):
            peak.mb = max(peak.mb, (process.memory_info().rss - before) / 2**20)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        peak._stop.set()
        thread.join()
        peak.mb = max(peak.mb, (process.memory_info().rss - before) / 2**20)


def run_cell(cell: Cell, data: BenchData) -> dict[str, Any]:
    """Run one cell and return its record; a method that fails gives a record with "error"."""
    wall, cpu = time.perf_counter(), time.process_time()
    record: dict[str, Any] = {
        "suite": cell.suite,
        "dataset": cell.dataset,
        "method": cell.method.name,
        "settings": cell.method.settings,
        "seed": cell.seed,
        "key": cell.key(data.digest),
        "rows": len(data.y),
        "n_classes": data.n_classes,
        "fmcluster_version": __version__,
    }
    with warnings.catch_warnings(), peak_memory() as peak:
        warnings.simplefilter("ignore")
        try:
            outcome = cell.method.run(data, cell.seed)
        except Exception as error:  # a peer's failure is a result, not the end of the suite
            logger.warning("%s on %s: %s", cell.method.name, cell.dataset, error)
            return {**record, "error": f"{type(error).__name__}: {error}"}
    record["seconds"] = round(time.perf_counter() - wall, 3)
    record["cpu_seconds"] = round(time.process_time() - cpu, 3)
    record["peak_mb"] = round(peak.mb, 1)
    record["metrics"] = measure(outcome, data.y)
    return record


def measure(outcome: Outcome, y: NDArray[Any]) -> dict[str, float]:
    """Return all metrics of an outcome, those of the sizes and of the number included."""
    metrics = evaluate(y, outcome.labels, outcome.proba)
    if outcome.raw_proba is not None:
        raw = evaluate(y, outcome.labels, outcome.raw_proba)
        metrics |= {f"raw_{key}": raw[key] for key in ("ece", "auroc") if key in raw}
    n_classes = len(np.unique(y))
    metrics["k_error"] = abs(outcome.n_clusters - n_classes) / n_classes
    prior = outcome.prior
    if prior is None:
        sizes = np.bincount(outcome.labels[outcome.labels >= 0])
        prior = sizes / sizes.sum()
    metrics["prior_tv"] = sorted_total_variation(prior, y)
    return {k: round(float(v), 5) for k, v in metrics.items() if np.isfinite(v)}


def sorted_total_variation(prior: NDArray[Any], y: NDArray[Any]) -> float:
    """Return the total variation between sorted shares and the sorted true shares, 0..1."""
    true = np.sort(np.unique(y, return_counts=True)[1] / len(y))[::-1]
    given = np.sort(np.asarray(prior, dtype=np.float64))[::-1]
    width = max(len(true), len(given))
    true, given = (np.pad(shares, (0, width - len(shares))) for shares in (true, given))
    return float(0.5 * np.abs(true - given).sum())


def run_cells(
    cells: Iterable[Cell],
    load: Callable[[str], BenchData],
    folder: Path,
    *,
    again: bool = False,
) -> dict[str, int]:
    """Run what is not finished; return how many cells ran, were skipped, and failed."""
    counts = {"ran": 0, "skipped": 0, "failed": 0}
    loaded: tuple[str, BenchData] | None = None
    for cell in cells:
        if loaded is None or loaded[0] != cell.dataset:
            loaded = (cell.dataset, load(cell.dataset))
        data, path = loaded[1], cell.path(folder)
        if not again and path.is_file() and _is_finished(path, cell.key(data.digest)):
            counts["skipped"] += 1
            continue
        record = run_cell(cell, data)
        write_json(path, record)
        counts["failed" if "error" in record else "ran"] += 1
        shown = record.get("metrics", {})
        logger.info(
            "%s %s seed %d: acc %s, %s s",
            cell.dataset, cell.method.name, cell.seed, shown.get("acc"), record.get("seconds"),
        )  # fmt: skip
    return counts


def _is_finished(path: Path, key: str) -> bool:
    record = read_json(path)
    return record.get("key") == key and "metrics" in record


def load_records(folder: Path, suite: str | None = None) -> list[dict[str, Any]]:
    """Return the records of finished cells, in a fixed order."""
    paths = sorted((folder / suite if suite else folder).rglob("*__s*.json"))
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return [record for record in records if "metrics" in record]
