r"""HDBSCAN (Campello, Moulavi & Sander, PAKDD 2013), over scikit-learn.

Single linkage of the mutual reachability distance
:math:`\max(core_m(a), core_m(b), d(a, b))`, whose tree is cut where clusters of at least
`min_cluster_size` rows are most stable; rows of no such cluster are noise.

Adapted to frozen embeddings: hundreds of dimensions have no dense regions to find, so that the
usual practice reduces them first; here by the eigenvectors of the neighbor graph, as spectral
clustering does. A number of clusters, which the method itself does not take, chooses
`min_cluster_size`: the largest that leaves at least so many, the smallest of which join their
nearest. Noise joins the nearest cluster, or is abstained on: all its probabilities are then equal.

Topics joined by a dense bridge of rows are one cluster here, and smaller sizes split others before
they split that one: with few broad classes (AG News) expect far less than k-means. It is for
clusters of any size and number with gaps between them.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN

from fmcluster.heads.families.graph import GraphHead
from fmcluster.heads.spectral import laplacian_vectors
from fmcluster.partition.landmarks import LandmarkMap, landmark_graph
from fmcluster.partition.mini_clusters import group_sums
from fmcluster.utils.validation import check_in, check_n_clusters
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.rows import unit_rows

OUTLIERS = ("assign", "abstain")
# Values of `min_cluster_size` between the largest and 2; each is a whole run of HDBSCAN.
SIZES_TRIED = 6


def density_labels(
    x: NDArray[np.floating], min_cluster_size: int, min_samples: int
) -> NDArray[np.int64]:
    """Return HDBSCAN's labels, -1 for noise; all zero where it finds no cluster."""
    scan = HDBSCAN(
        min_cluster_size=max(2, min(min_cluster_size, len(x))),
        min_samples=max(1, min(min_samples, len(x))),
        copy=True,
    )
    labels = scan.fit_predict(x)
    return labels.astype(np.int64) if labels.max() >= 0 else np.zeros(len(x), np.int64)


def merge_smallest(
    x: NDArray[np.floating], labels: NDArray[np.int64], n_clusters: int
) -> NDArray[np.int64]:
    """Join the smallest clusters to their nearest (by cosine of means) until `n_clusters` left."""
    labels = labels.copy()
    while labels.max() + 1 > n_clusters:
        inside = labels >= 0
        k = labels.max() + 1
        sizes = np.bincount(labels[inside], minlength=k)
        means = unit_rows(group_sums(x[inside], labels[inside], k))
        small = int(sizes.argmin())
        cosines = means @ means[small]
        cosines[small] = -np.inf
        labels[labels == small] = int(cosines.argmax())
        labels[labels > small] -= 1
    return labels


@dataclass(eq=False, repr=False)
class HDBSCANHead(GraphHead):
    """HDBSCAN on the eigenvectors of the neighbor graph.

    Parameters
    ----------
    n_clusters : int or "auto"
        "auto": what the density says, with `min_cluster_size`.
    min_cluster_size : int, optional
        Fewest rows of a cluster; by default a two-hundredth of the rows.
    min_samples : int
        Neighbors that make a row a core.
    n_vectors : int, optional
        Eigenvectors kept; by default one per cluster, at least 16.
    outliers : {"assign", "abstain"}
        Noise goes to the nearest cluster, or gets equal probabilities.

    Attributes
    ----------
    noise_share_ : float
        Share of nodes that were noise.
    """

    name = "hdbscan"

    n_clusters: int | str = "auto"
    _: KW_ONLY
    min_cluster_size: int | None = None
    # More smooths the density, and takes the tails of clusters for noise.
    min_samples: int = 10
    n_vectors: int | None = None
    outliers: str = "assign"

    def _resolve_n_clusters(self, data: HeadData) -> int:
        if isinstance(self.n_clusters, str) and self.n_clusters == "auto":
            return 0
        return check_n_clusters(self.n_clusters, data.n_rows)

    def _labels(self, x: NDArray[np.floating], asked: int) -> NDArray[np.int64]:
        # At least HDBSCAN's own default of five rows; of many rows, half a percent.
        largest = self.min_cluster_size or max(5, len(x) // 200)
        if asked == 0:
            return density_labels(x, largest, self.min_samples)
        if self.min_cluster_size is None:
            largest = max(2, len(x) // (2 * asked))
        for size in np.unique(np.geomspace(largest, 2, SIZES_TRIED).astype(int))[::-1]:
            labels = density_labels(x, int(size), self.min_samples)
            if labels.max() + 1 >= asked:
                break
        return merge_smallest(x, labels, asked)

    def _fit(self, data: HeadData) -> None:
        check_in(self.outliers, OUTLIERS, "outliers")
        nodes, graph = landmark_graph(data, self.n_neighbors, self.max_nodes)
        # Of few clusters sixteen directions, as spectral clustering takes: density needs them.
        n_vectors = self.n_vectors or max(data.n_clusters, 16)
        _, vectors = laplacian_vectors(graph, n_vectors, seed=data.seed("lanczos"))
        x = unit_rows(vectors)
        labels = self._labels(x, data.n_clusters)
        data.n_clusters = k = int(labels.max()) + 1
        noise = labels < 0
        self.noise_share_ = float(noise.mean())
        means = unit_rows(group_sums(x[~noise], labels[~noise], k))
        if self.outliers == "assign":
            labels[noise] = (x[noise] @ means.T).argmax(axis=1)
        scores = np.eye(k)[labels] * (labels >= 0)[:, None]
        self.space_ = LandmarkMap.of_scores(nodes, scores, self.n_neighbors)
