"""Partitions of all families, refined and scored: on as many threads as there are cores.

Refinements do not know of one another, and numpy lets go of the interpreter in what costs: each
takes a thread with a BLAS thread of its own. They are put in order again, so that what comes out
is the same for any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fmcluster.heads.auto.starts import FAMILIES, starts
from fmcluster.partition.refine import RefinementContext, refine
from fmcluster.partition.scores import Candidate, score_candidate
from fmcluster.utils.stopping import in_threads
from fmcluster.vectors.faiss_index import one_blas_thread

Ints = NDArray[np.int64]

# Of the best starts, refined with balanced sizes: a vote needs several.
BALANCED_STARTS = 5
# A second draw of the linkages is worth a point of AUROC, of k-means nothing.
SECOND_DRAW = ("average", "ward", "graph")
# Six arrays (n, k) of four bytes are alive in a refinement; those of all threads take a gigabyte.
BYTES_PER_SHARE, MOST_BYTES = 24, 2**30


def make_candidates(
    field: RefinementContext, n_clusters: int, shares: NDArray[np.float64] | None, *, seed: int
) -> list[Candidate]:
    """Make, refine and score the partitions of all families, and the best ones of `shares`."""
    k = n_clusters
    for context in field.diffused.values():
        _ = (
            context.scatter,
            context.sampled_smoothing,
        )  # made once, before several threads ask for them
    found: list[Candidate] = []
    begun: dict[str, Ints] = {}
    best: dict[str, float] = {}

    def refined(job: tuple[str, Ints]) -> tuple[Candidate, Candidate]:
        name, labels = job
        with one_blas_thread():
            Q = refine(field, labels, k)
            start = score_candidate(field, labels, k, name)
            return start, score_candidate(field, Q.argmax(axis=1), k, f"{name}+refined")

    def balanced(job: tuple[str, Ints]) -> Candidate:
        name, labels = job
        with one_blas_thread():
            Q = refine(field, labels, k, shares=shares)
            name = f"{name}+refined+sizes"
            return score_candidate(field, Q.argmax(axis=1), k, name, balanced=True)

    def keep(candidates: Sequence[Candidate]) -> None:
        # A refinement that lost a cluster answers another question.
        found.extend(c for c in candidates if len(np.unique(c.labels)) == k)

    room = MOST_BYTES // (BYTES_PER_SHARE * len(field.rows) * k)
    for number, families in enumerate((FAMILIES, SECOND_DRAW)):
        drawn = starts(field, k, seed=seed, families=families, draw=number)
        jobs = [(name, labels) for _, name, labels in drawn]
        for (name, labels), both in zip(jobs, in_threads(refined, jobs, most=room), strict=True):
            found.append(both[0])
            keep(both[1:])
            begun[name], best[name] = labels, max(c.score for c in both)
    if shares is not None:
        first = sorted(best, key=lambda name: -best[name])[:BALANCED_STARTS]
        jobs = [(name, begun[name]) for name in first]
        keep(list(in_threads(balanced, jobs, most=room)))
    return found
