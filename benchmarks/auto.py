r"""Measure the `auto` head on the shared embeddings, and what each of its ingredients is worth.

Labels are read by `evaluate` alone. One set of defaults for all sets; k is given.

    OMP_NUM_THREADS=2 python benchmarks/auto.py --data ../shared --seeds 5 --ablate 1 \
        --out benchmarks/results/auto/embeddings.json
    OMP_NUM_THREADS=2 python benchmarks/auto.py --data ../shared --seeds 2 --texts \
        --sets stackoverflow agnews tweet googlenews_t --out benchmarks/results/auto/two_spaces.json

`--ablate N` measures the variants on the first N seeds, most of them a fit each. `--cuts` takes
long-tailed cuts and class subsets of the sets; `benchmarks/worlds.py` has many more.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.metrics import evaluate
from fmcluster.heads import make_head
from fmcluster.heads.auto import candidates, starts
from fmcluster.heads.auto import head as auto_module
from fmcluster.heads.auto.candidates import SECOND_DRAW
from fmcluster.heads.auto.head import AutoHead
from fmcluster.heads.auto.starts import FAMILIES
from fmcluster.partition import refine
from fmcluster.utils.files import read_json, write_json

log = logging.getLogger("auto")
SETS = (
    "tweet",
    "agnews",
    "stackoverflow_lt100",
    "banking77_lt50",
    "banking77",
    "stackoverflow",
    "googlenews_t",
    "cifar10_test",
)
CUTS = (
    "stackoverflow:10:20",
    "stackoverflow:30:20",
    "stackoverflow:50:12",
    "banking77:10:77",
    "banking77:30:30",
    "banking77:1:20",
    "agnews:10:4",
    "cifar10_test:10:10",
    "cifar10_test:50:10",
    "googlenews_t:1:40",
)
KEPT = ("acc", "macro_acc", "nmi", "ari", "ece", "auroc", "mean_confidence", "n_clusters")


def load(data: Path, name: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return rows and labels of a set, of a shared cut, or of ``set:ratio:classes``."""
    base, _, cut = name.partition(":")
    rows = None
    if base.endswith(("_lt100", "_lt50")):
        rows = np.load(data / "embeddings" / f"{base}_idx.npy")
        base = base.rpartition("_")[0]
    stored = np.load(data / "embeddings" / f"{base}.npz")
    x, y = stored["x"], stored["y"]
    if cut:
        ratio, classes = (int(part) for part in cut.split(":"))
        rows = long_tail(y, ratio, classes)
    if rows is not None:
        x, y = x[rows], y[rows]
    return x.astype(np.float32), np.unique(y, return_inverse=True)[1]


def long_tail(y: NDArray[Any], ratio: int, n_classes: int, seed: int = 1) -> NDArray[np.int64]:
    """Return rows of `n_classes` random classes; sizes fall exponentially by `ratio`, 1 = all."""
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.unique(y))[:n_classes]
    members = [np.flatnonzero(y == c) for c in classes]
    if ratio == 1:
        return np.sort(np.concatenate(members))
    most = min(len(rows) for rows in members)
    sizes = most * ratio ** (-np.arange(n_classes) / (n_classes - 1))
    kept = [
        rng.permutation(rows)[: max(2, round(size))]
        for rows, size in zip(members, sizes, strict=True)
    ]
    return np.sort(np.concatenate(kept))


def lexical_space(data: Path, name: str) -> NDArray[np.float32]:
    """Return the tfidf space of a set's texts."""
    from pyarrow.parquet import read_table

    from fmcluster.embedding.encoders.tfidf import TfidfEncoder

    texts = read_table(data / "data" / f"{name}.parquet")["text"].to_pylist()
    return np.asarray(TfidfEncoder().fit(texts).encode(texts), np.float32)


@contextmanager
def changed(owner: Any, **values: Any) -> Iterator[None]:
    """Set attributes for a while."""
    before = {name: getattr(owner, name) for name in values}
    try:
        for name, value in values.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


def variants(X: Any, k: int, head: AutoHead) -> Iterator[tuple[str, NDArray[np.floating]]]:
    """Yield the probabilities of the head with one ingredient off."""
    seed = head.random_state

    def fitted(**given: Any) -> NDArray[np.floating]:
        return AutoHead(k, random_state=seed, **given).fit(X).predict_proba(X)

    yield "full", head.predict_proba(X)
    yield "votes, no student", head.unanswered_.votes[head.unanswered_.points.of_row]
    taught = head.student_
    head.student_ = replace(taught, shift=np.zeros(()))
    yield "level of the student's own", head.predict_proba(X)
    head.student_ = taught
    for family in FAMILIES:
        first, second = (tuple(f for f in of if f != family) for of in (FAMILIES, SECOND_DRAW))
        with changed(candidates, FAMILIES=first, SECOND_DRAW=second):
            yield f"no {family} starts", fitted()
    with changed(candidates, SECOND_DRAW=()):
        yield "no second draw", fitted()
    yield "estimated sizes alone", fitted(cluster_prior="estimate")
    yield "balanced sizes imposed", fitted(cluster_prior="uniform")
    with changed(auto_module, MAX_NODES=10**9):
        yield "all rows, no nodes", fitted()
    never = {"vmf": 0, "lda": 0}
    with changed(starts, DIFFUSION=(0, 0, 0)), changed(refine, MODEL_DIFFUSION=never):
        yield "no diffusion", fitted()


def measured(y: NDArray[Any], proba: NDArray[Any]) -> dict[str, float]:
    """Return the metrics that are kept."""
    found = evaluate(y, proba.argmax(axis=1), proba)
    return {key: float(found[key]) for key in KEPT if key in found}


def run(name: str, seed: int, X: Any, y: NDArray[Any], *, ablate: bool) -> dict[str, Any]:
    """Fit once and return metrics, seconds, the k-means of the same seed, and the variants."""
    k = int(y.max()) + 1
    began, spent = time.perf_counter(), time.process_time()
    head = AutoHead(k, random_state=seed).fit(X)
    seconds, cpu = time.perf_counter() - began, time.process_time() - spent
    proba = head.predict_proba(X)
    row: dict[str, Any] = {
        "set": name,
        "seed": seed,
        "n": len(y),
        "k": k,
        "seconds": seconds,
        "cpu_seconds": cpu,
    }
    row |= measured(y, proba) | {"even_sizes": bool(head.even_sizes_)}
    kmeans = make_head("kmeans", n_clusters=k, n_init=1, random_state=seed).fit(X)
    row["kmeans"] = measured(y, kmeans.predict_proba(X))
    if ablate:
        row["variants"] = {label: measured(y, off) for label, off in variants(X, k, head)}
    return row


def main() -> None:
    """Run the benchmark; results already in the file are kept, so that it can be resumed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--ablate", type=int, default=0)
    parser.add_argument("--cuts", action="store_true")
    parser.add_argument("--texts", action="store_true", help="add the tfidf space of the texts")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = read_json(options.out)["runs"] if options.out.is_file() else []
    done = {(row["set"], row["seed"]) for row in rows}
    for seed in range(options.first_seed, options.seeds):
        for name in CUTS if options.cuts else options.sets:
            if (name, seed) in done:
                continue
            x, y = load(options.data, name)
            X = [x, lexical_space(options.data, name)] if options.texts else x
            row = run(name, seed, X, y, ablate=seed < options.ablate)
            rows.append(row)
            log.info("%s", {key: row[key] for key in row if key not in ("variants", "kmeans")})
            options.out.parent.mkdir(parents=True, exist_ok=True)
            write_json(options.out, {"spaces": 1 + options.texts, "runs": rows})


if __name__ == "__main__":
    main()
