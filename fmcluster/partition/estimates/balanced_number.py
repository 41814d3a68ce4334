r"""A number of balanced clusters that explains the rows as well as anything does.

The curve of scores (`number`) rises with every real division, and text has topics within
topics, so coarse classes of even size lie far below its top. They show in another way: with even
sizes imposed at the right number, refinement ends at *one* partition from any start, and at no
other number, for there balanced clusters must cut through dense regions anywhere. A number k is
accepted where, of partitions refined from several starts,

* the best even one is even in its labels, too, not only in its probabilities: every cluster has
  two thirds of an even share,
* the even ones agree: the median share of rows on which the best agrees with another is 0.95,
* evenness is free: the best even one scores no less, but for 0.015, than the best of free sizes
  at k, and than the best of free sizes at the number that the curve prefers.

Of several the best-scored is taken; mostly there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.assignment import agreement
from fmcluster.partition.kmeans import kmeans_partition
from fmcluster.partition.linkage import LINKAGES, cut_tree, merge_tree
from fmcluster.partition.mini_clusters import mini_clusters, smooth_rows
from fmcluster.partition.refine import RefinementContext, refine
from fmcluster.partition.scores import Candidate, score_candidate
from fmcluster.utils.random import seed_of
from fmcluster.vectors.faiss_index import one_blas_thread
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import sample_indices, unit_rows

# Some sixty refinements are run: more rows cost time in proportion, and 4,000 told no more.
ROWS = 2_000
# Above it every whole number is too many to try.
MOST_CLUSTERS = 20
# Mini-clusters under the trees: enough for 20 clusters of a dozen each; linkage costs its square.
MINI = 250
# As the refinement's graph; wider ones blur clusters of few rows.
N_NEIGHBORS = 10
# Lower accepts numbers whose partitions depend on the start, higher allows no row on a border.
AGREEMENT = 0.95
# Share of a balanced cluster: lower lets an empty or cut cluster pass, higher no sampling error.
LEAST_SHARE = 2 / 3
# Score that balance may cost: more accepts clusters that cut dense regions, none refuses all.
COST = 0.015
# A score so far below the best after two starts is not looked at further: it saves three.
HOPELESS = 0.1

Labels = NDArray[np.int64]
Starts = Callable[[int], Iterator[Labels]]


def balanced_k(
    rows: NDArray[np.float32], preferred: int, *, k_range: tuple[int, int], seed: int
) -> int | None:
    """Return the number that balanced clusters speak for, None where they speak for none.

    Parameters
    ----------
    rows : (n, d) float32
        Unit rows, on few axes (`number` has chosen them); of many, 2,000 are read.
    preferred : int
        The number that the curve of scores prefers.
    k_range : (int, int)
        Numbers to consider; none above 20 is.
    seed : int
    """
    with one_blas_thread():
        context = _context(rows, seed)
        starts = _starts(context, MINI, seed)
        # The best score of any number of clusters is looked for up to four times the preferred one.
        wide = starts if 4 * preferred <= MINI else _starts(context, 4 * preferred, seed)
        goal = _best_free(context, wide, min(preferred, len(context.rows) // 4))
        # Clusters of four rows at least.
        last = min(k_range[1], MOST_CLUSTERS, len(context.rows) // 4)
        found = {}
        for k in range(k_range[0], last + 1):
            score = _balanced_score(context, starts, k, goal)
            if score is not None:
                found[k] = score
    return max(found, key=lambda k: found[k]) if found else None


def _balanced_score(
    context: RefinementContext, starts: Starts, k: int, goal: float
) -> float | None:
    """Return the score of balanced clusters at k, None where k is not accepted."""
    found: list[Candidate] = []
    for start in starts(k):
        labels = refine(context, start, k, shares=np.full(k, 1 / k)).argmax(axis=1)
        found.append(score_candidate(context, labels, k, "", balanced=True))
        if len(found) == 2 and max(_plain(c) for c in found) < goal - HOPELESS:
            return None
        if len(found) == 3 and _all_apart([c.labels for c in found], k):
            return None
    best = max(found, key=_plain)
    if np.bincount(best.labels, minlength=k).min() < LEAST_SHARE * len(best.labels) / k:
        return None
    agreed = [agreement(best.labels, c.labels, k) for c in found]
    agreed.remove(max(agreed))  # the best agrees with itself
    if np.median(agreed) < AGREEMENT or _plain(best) < goal - COST:
        return None
    return _plain(best) if _plain(best) >= _best_free(context, starts, k) - COST else None


def _all_apart(found: Sequence[Labels], k: int) -> bool:
    """Return whether no two of three partitions agree, so that the median of five cannot.

    Where the middle two of four agree with the best on `AGREEMENT`, any two of the three that agree
    with it most lie no further apart than both their distances.
    """
    apart = 2 * (1 - AGREEMENT)
    return all(1 - agreement(a, b, k) > apart for a, b in combinations(found, 2))


def _plain(candidate: Candidate) -> float:
    return candidate.modularity + candidate.silhouette


def _best_free(context: RefinementContext, starts: Starts, k: int) -> float:
    """Return the best score of refined partitions into k clusters of any size."""
    refined = (refine(context, start, k).argmax(axis=1) for start in starts(k))
    return max(_plain(score_candidate(context, labels, k, "")) for labels in refined)


def _context(rows: NDArray[np.float32], seed: int) -> RefinementContext:
    """Return (a sample of) the rows, centered, with their neighbors."""
    if len(rows) > ROWS:
        rows = rows[sample_indices(rows, ROWS, seed)]
    rows = unit_rows(rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32))
    return RefinementContext(rows, KNNGraph.build(rows, k=min(N_NEIGHBORS, len(rows) - 1)), seed)


def _starts(context: RefinementContext, n_mini: int, seed: int) -> Starts:
    """Return what makes starting partitions: two k-means and three linkages of mini-clusters."""
    smooth = smooth_rows(context.rows, context.graph)
    n_mini = min(n_mini, max(len(smooth) // 3, 2))
    mini = mini_clusters(smooth, n_mini, seed=seed)
    trees = [merge_tree(mini, name, context.graph) for name in LINKAGES]

    def starts(k: int) -> Iterator[Labels]:
        for number in range(2):
            at = seed_of(seed, "start", number)
            yield kmeans_partition(context.rows, k, seed=at)[1]
        for tree in trees:
            yield cut_tree(tree, k)[mini.labels]

    return starts
