r"""Measure the `auto` head on the shared embeddings, and what each of its ingredients is worth.

Labels are read by `evaluate` alone. One set of defaults for all sets; k is given.

    OMP_NUM_THREADS=2 python benchmarks/auto.py --data ../shared --seeds 5 --ablate 1 \
        --out benchmarks/results/auto/embeddings.json
    OMP_NUM_THREADS=2 python benchmarks/auto.py --data ../shared --seeds 2 --texts \
        --sets stackoverflow agnews tweet googlenews_t --out benchmarks/results/auto/two_spaces.json

`--ablate N` measures the variants on the first N seeds: they reuse the partitions of the full run,
so they cost little, but for the three that change the rows, a fit each. `--cuts` takes long-tailed
cuts and class subsets of the sets.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.metrics import evaluate
from fmcluster.functional.softmax import softmax
from fmcluster.heads import make_head
from fmcluster.heads.auto import head as auto_module
from fmcluster.heads.auto import starts as _auto_starts
from fmcluster.heads.auto.candidates import make_candidates
from fmcluster.heads.auto.head import AutoHead, most_correct, select_voters
from fmcluster.heads.auto.student import Student, teach
from fmcluster.heads.auto.vote import smooth, vote
from fmcluster.partition import refine as _auto_refine
from fmcluster.partition.refine import RefinementContext
from fmcluster.partition.scores import Candidate
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


class Trace:
    """Keep what the head made on its way: field, partitions and sizes of its last fit."""

    def __init__(self) -> None:
        self.field: RefinementContext
        self.candidates: list[Candidate]
        self.estimated: NDArray[np.float64] | None
        self._make, self._elect = make_candidates, select_voters

    def made(self, field: RefinementContext, k: int, shares: Any, *, seed: int) -> list[Candidate]:
        """Make the candidates and keep them."""
        self.field, self.candidates = field, self._make(field, k, shares, seed=seed)
        return self.candidates

    def elected(self, candidates: list[Candidate], prior: Any, estimated: Any) -> Any:
        """Choose the voters and keep the estimated sizes."""
        self.estimated = estimated
        return self._elect(candidates, prior, estimated)

    def __enter__(self) -> Trace:
        setattr(auto_module, "make_candidates", self.made)  # noqa: B010
        setattr(auto_module, "select_voters", self.elected)  # noqa: B010
        return self

    def __exit__(self, *_: object) -> None:
        setattr(auto_module, "make_candidates", self._make)  # noqa: B010
        setattr(auto_module, "select_voters", self._elect)  # noqa: B010


def variants(trace: Trace, k: int) -> Iterator[tuple[str, NDArray[np.floating]]]:
    """Yield the probabilities of the head with one ingredient off."""
    field, made = trace.field, trace.candidates
    voters, _ = select_voters(made, "auto", trace.estimated)

    def answer(kept: list[Candidate], *, smoothed: bool = True) -> Student:
        V = vote(kept, k)
        return bounded(teach(field, smooth(field, V) if smoothed else V, seed=0))

    def bounded(taught: Student) -> Student:
        proba = taught.proba(field.rows)
        labels = proba.argmax(axis=1)
        shares = np.bincount(labels, minlength=k) / len(labels)
        taught.bound(proba, most_correct(shares, trace.estimated))
        return taught

    def fresh(drop: str) -> list[Candidate]:
        return select_voters([c for c in made if drop not in c.name], "auto", trace.estimated)[0]

    full = answer(voters)
    yield "full", full.proba(field.rows)
    for family in ("kmeans", "average", "ward", "graph", "spectral"):
        yield f"no {family} starts", answer(fresh(family)).proba(field.rows)
    yield "no discriminant (vmf alone)", answer(fresh("+lda")).proba(field.rows)
    yield "no vmf (discriminant alone)", answer(fresh("+vmf")).proba(field.rows)
    plain = [c for c in made if "+" not in c.name]
    yield "no refinement", answer(plain).proba(field.rows)
    yield "sizes never imposed", answer([c for c in made if not c.balanced]).proba(field.rows)
    yield "sizes always even", answer([c for c in made if c.balanced]).proba(field.rows)
    best = max(voters, key=lambda c: c.score)
    yield "best partition, no vote", answer([best]).proba(field.rows)
    yield "no smoothing of votes", answer(voters, smoothed=False).proba(field.rows)
    alone = replace(full, weights=0 * full.weights, offsets=0 * full.offsets)
    yield "student: landmarks alone", one_factor(alone, field)
    alone = replace(full, votes=np.full_like(full.votes, 1 / k))
    yield "student: discriminant alone", one_factor(alone, field)
    bold = replace(full, reliability=np.ones_like(full.reliability))
    yield "no reliability", bounded(bold).proba(field.rows)
    unbound = teach(field, smooth(field, vote(voters, k)), seed=0)
    yield "confidence not bound by sizes", unbound.proba(field.rows)
    drawn_once = [c for c in made if ".0" in c.name]
    for label, kept, sizes in (
        ("no second draws", drawn_once, trace.estimated),
        ("no assortativity", [replace(c, assortativity=0.0) for c in made], trace.estimated),
        ("evenness not asked of estimated sizes", made, np.full(k, 1 / k)),
    ):
        yield label, answer(select_voters(kept, "auto", sizes)[0]).proba(field.rows)


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


def refitted(X: Any, k: int, seed: int) -> Iterator[tuple[str, NDArray[np.floating]]]:
    """Yield the probabilities without what the partitions themselves depend on."""
    prepare = AutoHead._prepare

    def centred(self: AutoHead, data: Any, *, largest: float) -> RefinementContext:
        return prepare(self, data, largest=0.0)

    def uncentred(self: AutoHead, data: Any, *, largest: float) -> RefinementContext:
        return prepare(self, data, largest=1.0)

    never = {"vmf": 0, "lda": 0}
    with changed(_auto_starts, DIFFUSION=(0, 0, 0)), changed(_auto_refine, MODEL_DIFFUSION=never):
        yield "no diffusion", AutoHead(k, random_state=seed).fit(X).predict_proba(X)
    for label, way in (("the whole mean taken away", centred), ("no centring", uncentred)):
        with changed(AutoHead, _prepare=way):
            yield label, AutoHead(k, random_state=seed).fit(X).predict_proba(X)


def one_factor(student: Student, field: RefinementContext) -> NDArray[np.floating]:
    """Return the probabilities of a student one of whose factors is constant."""
    scores, trust = student.scores(field.rows)
    return trust * softmax(2 * scores) + (1 - trust) / scores.shape[1]


def measured(y: NDArray[Any], proba: NDArray[Any]) -> dict[str, float]:
    """Return the metrics that are kept."""
    found = evaluate(y, proba.argmax(axis=1), proba)
    return {key: float(found[key]) for key in KEPT if key in found}


def run(name: str, seed: int, X: Any, y: NDArray[Any], *, ablate: bool) -> dict[str, Any]:
    """Fit once and return metrics, seconds, the k-means of the same seed, and the variants."""
    k = int(y.max()) + 1
    began, spent = time.perf_counter(), time.process_time()
    with Trace() as trace:
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
        off = chain(variants(trace, k), refitted(X, k, seed))
        row["variants"] = {label: measured(y, proba) for label, proba in off}
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
