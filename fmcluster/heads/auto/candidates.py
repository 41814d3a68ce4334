"""Partitions of all families, refined and scored: on as many threads as there are cores.

Refinements do not know of one another, and numpy lets go of the interpreter in what costs: each
takes a thread with a BLAS thread of its own. They are put in order again, so that what comes out
is the same for any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from fmcluster.heads.auto.starts import FAMILIES, starts
from fmcluster.partition.refine import RefinementContext, refine
from fmcluster.partition.scores import Candidate, score_candidate
from fmcluster.utils.stopping import carried
from fmcluster.utils.threads import n_threads
from fmcluster.vectors.faiss_index import one_blas_thread

Ints = NDArray[np.int64]

# Of the best starts, refined with balanced sizes: two refinements each, and a vote needs several.
BALANCED_STARTS = 5
# How many of the best families are drawn again, each time: starts are chance (log, 16).
MORE_DRAWS = (2, 1)
MODELS = ("vmf", "lda")
# Six arrays (n, k) of four bytes are alive in a refinement; those of all threads take a gigabyte.
BYTES_PER_SHARE, MOST_BYTES = 24, 2**30


def make_candidates(
    field: RefinementContext, n_clusters: int, shares: NDArray[np.float64] | None, *, seed: int
) -> list[Candidate]:
    """Make, refine and score the partitions of all families."""
    k = n_clusters
    for context in field.diffused.values():
        _ = context.scatter, context.sample  # made once, before several threads ask for them
    found: list[Candidate] = []
    begun: dict[str, Ints] = {}
    best: dict[str, float] = {}
    best_of_family = dict.fromkeys(FAMILIES, -np.inf)

    def refined(job: tuple[str, Ints, str]) -> Candidate:
        name, labels, model = job
        with one_blas_thread():
            Q = refine(field, labels, k, model=model)
            return score_candidate(field, Q.argmax(axis=1), k, f"{name}+{model}")

    def balanced(job: tuple[str, Ints, str]) -> Candidate:
        name, labels, model = job
        with one_blas_thread():
            Q = refine(field, labels, k, model=model, shares=shares)
            name = f"{name}+{model}+sizes"
            return score_candidate(field, Q.argmax(axis=1), k, name, balanced=True)

    def keep(candidates: Sequence[Candidate]) -> None:
        # A refinement that lost a cluster answers another question.
        found.extend(c for c in candidates if len(np.unique(c.labels)) == k)

    def draw(number: int, families: Sequence[str]) -> None:
        drawn = list(starts(field, k, seed=seed, families=families, draw=number))
        jobs = [(name, labels, model) for _, name, labels in drawn for model in MODELS]
        results = list(pool.map(carried(refined), jobs))
        for place, (family, name, labels) in enumerate(drawn):
            own = results[len(MODELS) * place : len(MODELS) * (place + 1)]
            start = score_candidate(field, labels, k, name)
            found.append(start)
            keep(own)
            begun[name], best[name] = labels, max(c.score for c in (start, *own))
            best_of_family[family] = max(best_of_family[family], best[name])

    room = MOST_BYTES // (BYTES_PER_SHARE * len(field.rows) * k)
    with ThreadPoolExecutor(max(1, min(n_threads(), room))) as pool:
        draw(0, FAMILIES)
        for number, families in enumerate(MORE_DRAWS, 1):
            draw(number, sorted(FAMILIES, key=best_of_family.__getitem__)[-families:])
        if shares is not None:
            first = sorted(best, key=lambda name: -best[name])[:BALANCED_STARTS]
            jobs = [(name, begun[name], model) for name in first for model in MODELS]
            keep(list(pool.map(carried(balanced), jobs)))
    return found
