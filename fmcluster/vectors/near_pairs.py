"""Rows that are all but the same: pairs of the neighbor graph above a cosine, and their groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from fmcluster.utils.validation import check_range
from fmcluster.vectors.graph import KNNGraph

# Of sentence and image encoders: a typing error, another crop; a paraphrase lies lower.
NEAR_DUPLICATE = 0.98
# Cosines are float32 sums: exact duplicates may fall short of one by their rounding.
ROUNDING = 1e-6


@dataclass(frozen=True)
class NearDuplicates:
    """Rows that have a near-duplicate, group by group, the largest group first.

    Attributes
    ----------
    rows : (m,) int64
        Row numbers.
    group : (m,) int64
        0 is the largest.
    nearest : (m,) int64
        Each row's most similar other row.
    similarity : (m,) float32
        Its cosine to that.
    """

    rows: NDArray[np.int64]
    group: NDArray[np.int64]
    nearest: NDArray[np.int64]
    similarity: NDArray[np.float32]


def near_duplicates(graph: KNNGraph, threshold: float = NEAR_DUPLICATE) -> NearDuplicates:
    """Group rows that are joined by neighbors of at least `threshold` cosine.

    Raises
    ------
    ValueError
        A threshold outside [-1, 1].
    """
    check_range(threshold, "threshold", low=-1, high=1)
    close = graph.similarities >= threshold - ROUNDING
    rows = np.repeat(np.arange(graph.n_rows), close.sum(axis=1))
    edges = (np.ones(len(rows), np.int8), (rows, graph.indices[close].astype(np.int64)))
    _, group = connected_components(csr_matrix(edges, shape=(graph.n_rows, graph.n_rows)), False)
    size = np.bincount(group)[group]
    kept = np.flatnonzero(size > 1)
    order = kept[np.lexsort((kept, group[kept], -size[kept]))]
    _, first, inverse = np.unique(group[order], return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    nearest = graph.indices[order, 0].astype(np.int64)
    return NearDuplicates(order, rank[inverse], nearest, graph.similarities[order, 0])
