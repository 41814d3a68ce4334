r"""How many clusters: the height of the best-scored cut over a grid of numbers.

On their leading axes, mini-clusters of neighbor-averaged rows, or of nodes of many
(`fmcluster.partition.nodes`), are merged by every linkage of `fmcluster.partition.linkage`; each
tree is cut at every k of a geometric grid and each cut is scored by modularity + simplified
silhouette of the rows *before* they were averaged, times the share a of rows on which the same cuts
of two halves of the rows agree: fine clusters score well on the rows that they were made of, and
come out otherwise of others (prediction strength, Tibshirani and Walther, 2005).
The curve is the best linkage's score at each k, averaged over seeds:

.. math::

    U(k) = \frac1S \sum_s \max_{algorithm} (\mathrm{modularity} + \mathrm{silhouette}) \, a ,
    \quad \log \hat k = \sum_k w_k \log k, \quad w_k \propto e^{U(k) / \tau}

Its interval is the plateau: every k whose mean score is within a margin of the best, with the
winners of the single seeds, and numbers that were not tried as the nearest one that was. Where even
clusters of some other number score as well as anything and come out of any start, that number is
taken and the interval reaches to it (`balanced_number`). Where the score is no better than that of
one Gaussian of the same covariance there are no clusters to count, and the interval is the whole
range.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.assignment import agreement
from fmcluster.partition.candidates import sample_with_graph
from fmcluster.partition.estimates.balanced_number import balanced_k
from fmcluster.partition.halves import of_halves
from fmcluster.partition.kmeans import nearest_centroid
from fmcluster.partition.linkage import LINKAGES, cut_tree, merge_tree
from fmcluster.partition.mini_clusters import group_sums, grouped, mini_clusters, smooth_rows
from fmcluster.partition.nodes import affinities, coarsen, node_edges
from fmcluster.partition.scores import (
    NodeEdges,
    edge_mass,
    edges_between,
    even_rows,
    modularity_of,
    silhouette,
)
from fmcluster.utils.random import seed_of
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.pca import principal_axes
from fmcluster.vectors.rows import count_distinct, unit_rows

if TYPE_CHECKING:
    from fmcluster.vectors.fit_data import HeadData

logger = logging.getLogger(__name__)
# Intervals wider than this factor are worth a warning: few coarse or many fine clusters fit alike.
UNSURE = 3
# Of fewer rows two clusters of four are not told from one.
FEWEST_ROWS = 8
# As wherever partitions are scored; wider graphs miss clusters of few rows.
N_NEIGHBORS = 10
# Numbers tried, an eighth apart on 2..200: each costs a cut and a score per linkage.
GRID = 40
# Mini-clusters of more rows are made of so many nodes: k-means costs the product of both.
MAX_NODES = 4_000
# Axes of the rows that are read: all of them took twice the time on 48 worlds, and were no nearer
# (a factor of 1.8 off with these and with all).
MOST_DIMS = 128
# Rows that the silhouette is averaged over: its error falls with their root, its cost with them.
SCORED_ROWS = 4_000
# One more curve point and an SVD, twice: a sample tells structure from none.
NULL_ROWS = 2_000
# Scores closer than this are not told apart; wider makes every interval the whole range.
PLATEAU = 0.05
# Weight of a number is exp(score / this): lower is the argmax, chance on a flat top.
TEMPERATURE = 0.01
# Least gain over one Gaussian: lower counts clusters in noise.
STRUCTURE = 0.1


@dataclass(frozen=True)
class ClusterNumber:
    """An estimated number of clusters.

    Attributes
    ----------
    best : int
    interval : (int, int)
        Numbers that score about as well; the whole range where no structure was found.
    k, score : (m,) arrays
        The curve.
    gain : float
        Score at the best over that of one Gaussian of the same covariance.
    """

    best: int
    interval: tuple[int, int]
    k: NDArray[np.int64]
    score: NDArray[np.float64]
    gain: float


def k_grid(low: int, high: int, n_points: int = GRID) -> NDArray[np.int64]:
    """Return about `n_points` whole numbers from `low` to `high`, spaced geometrically."""
    return np.unique(np.geomspace(low, high, n_points).round().astype(np.int64))


@dataclass(frozen=True)
class Averaged:
    """What mini-clusters are made of: rows averaged with their neighbors, or nodes of them.

    Attributes
    ----------
    rows : (m, d) float32
        Unit rows.
    of_row : (n,) int64
        The point of each row.
    weights : (m,) float64
        Rows that each stands for.
    edges : NodeEdges or KNNGraph
        Between them.
    """

    rows: NDArray[np.float32]
    of_row: NDArray[np.int64]
    weights: NDArray[np.float64]
    edges: NodeEdges | KNNGraph


def averaged_points(rows: NDArray[np.float32], graph: KNNGraph, most: int = MAX_NODES) -> Averaged:
    """Return unit rows (n, d) averaged with their neighbors; of more than `most`, as many nodes."""
    n, averaged = len(rows), smooth_rows(rows, graph)
    if n <= most:
        return Averaged(averaged, np.arange(n), np.ones(n), graph)
    node = coarsen(affinities(graph), most)
    groups = grouped(averaged, node)
    return Averaged(groups.centroids, node, groups.sizes, node_edges(graph, node))


def linkage_scores(
    rows: NDArray[np.float32],
    points: Averaged,
    graph: KNNGraph,
    ks: NDArray[np.int64],
    *,
    seed: int,
) -> NDArray[np.float64]:
    """Return modularity + silhouette of each linkage at each of `ks`, (linkages, len(ks))."""
    n_mini = _n_mini(len(points.rows), ks, 3)
    mini = mini_clusters(points.rows, n_mini, seed=seed, weights=points.weights)
    m, of_row = len(mini.sizes), mini.labels[points.of_row]
    mass = edge_mass(of_row, m, graph)
    sums = group_sums(rows, of_row, m)
    shown = even_rows(len(rows), SCORED_ROWS)
    out = np.full((len(LINKAGES), len(ks)), -np.inf)
    for row, linkage in enumerate(LINKAGES):
        tree = merge_tree(mini, linkage, points.edges)
        for column, k in enumerate(ks):
            if k > m:
                continue
            groups = cut_tree(tree, int(k))
            member = np.zeros((int(groups.max()) + 1, m))
            member[groups, np.arange(m)] = 1.0
            compact = silhouette(rows[shown], groups[of_row[shown]], member @ sums)
            out[row, column] = modularity_of(member @ mass @ member.T) + compact
    return out


def halves_agreement(points: Averaged, ks: NDArray[np.int64], *, seed: int) -> NDArray[np.float64]:
    """Return the share of rows on which cuts of two halves agree, (linkages, len(ks))."""
    n = len(points.rows)
    # Of many rows some are looked at, and of nodes all, as heavy as their rows.
    shown = even_rows(n, SCORED_ROWS)
    weights = points.weights[shown]
    found = of_halves(n, lambda half: _carried(points, half, shown, ks, seed=seed), seed=seed)
    return np.array(
        [
            [agreement(a, b, int(k), weights) for k, a, b in zip(ks, *cuts, strict=True)]
            for cuts in zip(*found, strict=True)
        ]
    )


def _carried(
    points: Averaged,
    half: NDArray[np.int64],
    shown: NDArray[np.int64],
    ks: NDArray[np.int64],
    *,
    seed: int,
) -> list[list[NDArray[np.int64]]]:
    """Return the clusters of the points `shown` by those of a half, for each linkage and number."""
    weights = points.weights[half]
    n_mini = _n_mini(len(half), ks, 2)
    mini = mini_clusters(points.rows[half], n_mini, seed=seed, weights=weights)
    edges, rows = edges_between(points.edges, half), points.rows[shown]
    out = []
    for linkage in LINKAGES:
        tree = merge_tree(mini, linkage, edges)
        cuts = []
        for k in ks:
            groups = cut_tree(tree, min(int(k), len(mini.sizes)))
            sums = group_sums(mini.sums, groups, int(groups.max()) + 1)
            cuts.append(nearest_centroid(rows, unit_rows(sums)))
        out.append(cuts)
    return out


def _n_mini(n_rows: int, ks: NDArray[np.int64], rows_each: int) -> int:
    """Return how many mini-clusters to make: four for each cluster, of so many rows each."""
    return int(min(max(4 * ks.max(), 64), max(n_rows // rows_each, ks.max()), n_rows))


def weighted_number(ks: NDArray[np.int64], score: NDArray[np.float64]) -> int:
    """Return the geometric mean of `ks` under weights exp(score / TEMPERATURE).

    Near the top the curve is flat and its argmax is chance; the middle of the flat is not.
    """
    weights = np.exp((score - score.max()) / TEMPERATURE)
    return int(round(float(np.exp((weights * np.log(ks)).sum() / weights.sum()))))


def _nearest(ks: NDArray[np.int64], first: int, last: int) -> tuple[int, int]:
    """Return the numbers that lie nearer to ``ks[first]`` to ``ks[last]`` than to any other."""
    low = np.sqrt(ks[first] * ks[max(first - 1, 0)])
    high = np.sqrt(ks[last] * ks[min(last + 1, len(ks) - 1)])
    return int(np.ceil(low)), int(high)


def gaussian_like(rows: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return unit rows of one Gaussian with the mean and covariance of `rows`."""
    x = rows.astype(np.float64)
    mean = x.mean(axis=0)
    _, scale, axes = np.linalg.svd(x - mean, full_matrices=False)
    noise = np.random.default_rng(seed).normal(size=(len(x), len(scale)))
    return unit_rows(mean + noise * (scale / np.sqrt(len(x))) @ axes)


def structure_gain(rows: NDArray[np.float32], k: int, *, seed: int) -> float:
    """Return by how much a sample's score at `k` exceeds that of one Gaussian like it."""
    sample = rows[even_rows(len(rows), NULL_ROWS)]
    ks = np.array([min(k, max(2, len(sample) // 4))])  # four rows a cluster
    scores = []
    for one in (sample, gaussian_like(sample, seed)):
        graph = KNNGraph.build(one, k=min(N_NEIGHBORS, len(one) - 1))
        points = averaged_points(one, graph)
        scores.append(linkage_scores(one, points, graph, ks, seed=seed).max())
    return float(scores[0] - scores[1])


def estimate_number(
    rows: NDArray[np.float32],
    graph: KNNGraph,
    *,
    k_range: tuple[int, int] = (2, 200),
    n_seeds: int = 2,
    random_state: int = 0,
) -> ClusterNumber:
    """Estimate the number of clusters of unit rows (n, d) with their neighbor graph."""
    n = len(rows)
    high = min(k_range[1], max(2, n // 4))  # four rows a cluster
    high = min(high, max(2, count_distinct(rows, high)))  # equal rows are one
    low = min(k_range[0], high)
    ks = k_grid(low, high)
    axes = principal_axes(rows, MOST_DIMS)
    rows = unit_rows(rows @ axes) if axes.size else rows
    points, curves = averaged_points(rows, graph), []
    for number in range(n_seeds):
        seed = seed_of(random_state, "number", number)
        plain = linkage_scores(rows, points, graph, ks, seed=seed)
        agreed = halves_agreement(points, ks, seed=seed)
        curves.append(np.where(np.isfinite(plain), plain * agreed, -np.inf).max(axis=0))
    score = np.mean(curves, axis=0)
    best = weighted_number(ks, score)
    gain = structure_gain(rows, best, seed=seed_of(random_state, "null"))
    near = np.flatnonzero(score >= score.max() - PLATEAU)
    near = np.concatenate([near, np.argmax(curves, axis=1)])
    interval = _nearest(ks, near.min(), near.max())
    if gain < STRUCTURE:
        interval = (int(k_range[0]), int(k_range[1]))
    else:
        even = balanced_k(rows, best, k_range=(low, high), seed=seed_of(random_state, "even"))
        if even is not None:
            best, interval = even, (min(even, interval[0]), max(even, interval[1]))
    return ClusterNumber(best, interval, ks, score, gain)


def choose_n_clusters(data: HeadData, *, k_range: tuple[int, int] = (2, 200)) -> int:
    """Return the estimated number of clusters of the rows a head is fitted on."""
    if data.n_rows < FEWEST_ROWS:
        return min(2, data.n_rows)
    rows, graph = sample_with_graph(data, k=N_NEIGHBORS)
    # One seed: of two the mean was no nearer on 46 worlds, and a fit should not cost twice as much.
    found = estimate_number(rows, graph, k_range=k_range, n_seeds=1, random_state=data.seed("k"))
    low, high = found.interval
    if high > UNSURE * low:
        logger.warning(
            "n_clusters='auto' took %d, but from %d to %d fit about as well: give the number "
            "where you know it",
            found.best,
            low,
            high,
        )
    return found.best
