r"""How large the clusters are, from the sorted sizes of many partitions of several algorithms.

Partition j has sorted shares :math:`s_j`, silhouette :math:`h_j` and modularity :math:`m_j`:

.. math::

    \bar s = \sum_j w_j s_j, \quad w_j \propto e^{(h_j + m_j / 10) / \tau}, \qquad
    \hat s = (1 - u^8) \bar s + u^8 / K, \quad u = \frac{e^{H(\bar s)} - 1}{K - 1} .

Modularity counts little: on skewed data it prefers the even sizes of k-means to the truth, which
silhouette does not. The last step is for even clusters: the sorted sizes of a partition are never
even, for rows on borders fall to one side or the other, so shares that are nearly even
(:math:`u` near one) are taken for even ones and shares that are not are left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.prior import effective_clusters
from fmcluster.partition.candidates import candidate_partitions, sample_with_graph
from fmcluster.partition.mini_clusters import group_sums, smooth_rows
from fmcluster.partition.scores import NodeEdges, edge_mass, modularity_of, silhouette
from fmcluster.utils.stopping import in_threads
from fmcluster.vectors.faiss_index import one_blas_thread
from fmcluster.vectors.graph import KNNGraph

if TYPE_CHECKING:
    from fmcluster.vectors.fit_data import HeadData

# As many neighbors as the number of clusters is told by.
N_NEIGHBORS = 10
# More of it prefers the balanced clusters of k-means to the truth on skewed data.
MODULARITY_SHARE = 0.1
# Weight of a partition is exp(score / this): lower is one partition's chance, higher their mean.
TEMPERATURE = 0.015
# Higher leaves balanced shares uneven, lower draws long tails to balance (the tests hold both).
EVENNESS_POWER = 8


def size_profile(
    rows: NDArray[np.float32],
    n_clusters: int,
    graph: KNNGraph | NodeEdges,
    *,
    smooth: NDArray[np.float32] | None = None,
    weights: NDArray[np.float64] | None = None,
    n_seeds: int = 2,
    random_state: int = 0,
) -> NDArray[np.float64]:
    """Estimate the sorted shares of `n_clusters` clusters, (k,), largest first, all positive.

    Every algorithm partitions the unit rows (n, d) and the neighbor-averaged rows; all partitions
    are judged on the rows themselves.

    Parameters
    ----------
    rows : (n, d) float32
    n_clusters : int
    graph : KNNGraph or NodeEdges
    smooth : (n, d) float32, optional
        The neighbor-averaged rows; needed where rows are nodes.
    weights : (n,) float64, optional
        How many rows each stands for.
    n_seeds, random_state : int
    """
    if isinstance(graph, KNNGraph):
        graph = graph.take(min(N_NEIGHBORS, graph.k))
        smooth = smooth_rows(rows, graph) if smooth is None else smooth
    assert smooth is not None
    mass = np.ones(len(rows)) if weights is None else weights

    def judged(source: NDArray[np.float32]) -> tuple[list[float], list[NDArray[np.float64]]]:
        scores, sizes = [], []
        with one_blas_thread():
            for found in candidate_partitions(
                source,
                n_clusters,
                graph,
                n_seeds=n_seeds,
                scored=False,
                weights=weights,
                random_state=random_state,
            ):
                k = found.n_clusters
                sums = group_sums(rows, found.labels, k, weights=weights)
                tight = silhouette(rows, found.labels, sums, weights=weights)
                cohesion = modularity_of(edge_mass(found.labels, k, graph))
                scores.append(tight + MODULARITY_SHARE * cohesion)
                sizes.append(np.zeros(n_clusters))
                sizes[-1][:k] = np.sort(np.bincount(found.labels, mass, minlength=k))[::-1]
        return scores, sizes

    both = list(in_threads(judged, [rows, smooth], most=2))
    scores = [score for found, _ in both for score in found]
    sizes = [of_one for _, found in both for of_one in found]
    score = np.array(scores)
    weight = np.exp((score - score.max()) / TEMPERATURE)
    n = float(mass.sum())
    return shrunk_to_even(weight @ np.array(sizes) / (weight.sum() * n), round(n))


def evenness(shares: NDArray[np.float64]) -> float:
    """Return (exp(entropy) - 1) / (k - 1): one for even shares, zero where one holds all."""
    return 1.0 if len(shares) < 2 else (effective_clusters(shares) - 1) / (len(shares) - 1)


def shrunk_to_even(shares: NDArray[np.float64], n_rows: int) -> NDArray[np.float64]:
    """Return shares (k,) drawn to even ones as far as they are nearly even, largest first."""
    k = len(shares)
    even = evenness(shares) ** EVENNESS_POWER
    shares = (1 - even) * shares / shares.sum() + even / k
    # Half a row: a share is never zero, which no balancing term could use.
    shares = np.maximum(shares, 0.5 / n_rows)
    return np.sort(shares / shares.sum())[::-1]


def shares_by_rank(shares: NDArray[Any], sizes: NDArray[Any]) -> NDArray[np.float64]:
    """Give `shares` (k,) out to clusters by rank of their `sizes`: the largest to the largest.

    A partition is nearer to balanced than the truth where large clusters are cut.
    """
    out = np.empty(len(shares))
    order = np.argsort(-np.asarray(sizes, dtype=np.float64), kind="stable")
    out[order] = np.sort(np.asarray(shares, dtype=np.float64))[::-1]
    return out


def most_correct(shares: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """Return the largest share of rows that a partition with `shares` can have right, 0..1."""
    return 1 - float(np.abs(np.sort(shares) - np.sort(true)).sum()) / 2


def estimate_sizes(data: HeadData, most: int = 20_000) -> NDArray[np.float64]:
    """Return the estimated sorted shares (k,) of the rows that a head is fitted on.

    Of more than `most` rows a random sample is read.
    """
    rows, graph = sample_with_graph(data, most)
    k = min(data.n_clusters, len(rows))
    shares = np.full(data.n_clusters, 0.5 / len(rows))
    if k < len(rows):
        shares[:k] = size_profile(rows, k, graph, random_state=data.seed("sizes"))
    return np.sort(shares / shares.sum())[::-1]
