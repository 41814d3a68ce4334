r"""DeepCluster: alternate k-means and classification (Caron et al., ECCV 2018; v2: 2020).

Once an epoch the representation is clustered by spherical k-means, the centroids become the
classifier's weights, and for the rest of the epoch

.. math:: L = -\frac1B \sum_i w_{y_i} \log \mathrm{softmax}_{y_i}(z_i C^\top / \tau).

Against trivial solutions, as published: an empty cluster takes half of the largest (faiss splits
it), and clusters, not rows, weigh the same (:math:`w_y \propto 1 / n_y`; the paper samples rows
that way). Adapted to frozen embeddings: the adapter of `representation`; the view is a strong one;
labels go on from the last epoch's centroids, so that clusters keep their meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fmcluster.heads.families.representation import AdapterHead, PairObjective, Representation
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.views import Batch
from fmcluster.utils.validation import check_range
from fmcluster.vectors.fit_data import HeadData

# Time of an epoch, each over all rows; the next epoch goes on from where they end.
LLOYD_ROUNDS = 10


def lloyd(z: Tensor, centroids: Tensor, n_rounds: int = LLOYD_ROUNDS) -> tuple[Tensor, Tensor]:
    """Return centroids (K, d) and labels (n,) after rounds of spherical k-means from `centroids`.

    An empty cluster takes half of the largest: that centroid, moved a little both ways.

    Apart from `partition.lloyd`, which begins at its own sample, reads blocks from disk and splits
    by random noise: this one begins at given centroids of rows in memory and draws nothing, so that
    clusters keep their meaning from epoch to epoch.
    """
    for _ in range(n_rounds):
        labels = (z @ centroids.T).argmax(dim=1)
        sums = torch.zeros_like(centroids).index_add_(0, labels, z)
        size = torch.bincount(labels, minlength=len(centroids))
        for empty in torch.nonzero(size == 0).flatten().tolist():
            largest = int(size.argmax())
            # Far enough for rows to choose between the halves, too little to move what they mean.
            shift = 1e-3 * torch.sign(sums[largest] + 1e-12)
            shift[::2] *= -1
            mean = F.normalize(sums[largest], dim=0)
            sums[empty], sums[largest] = mean + shift, mean - shift
            size[empty] = size[largest] = size[largest] // 2
        centroids = F.normalize(sums, dim=1)
    return centroids, (z @ centroids.T).argmax(dim=1)


@dataclass(eq=False, repr=False, kw_only=True)
class DeepClusterObjective(PairObjective):
    """Cross-entropy to this epoch's clusters."""

    temperature: float

    def __post_init__(self) -> None:
        self.network.readout.requires_grad_(False)

    def start(self, data: TrainData) -> None:
        super().start(data)
        self.network.cluster(data, seed=data.seed)

    @torch.no_grad()
    def cluster(self, data: TrainData) -> Tensor:
        """Move the centroids by k-means from where they are; return the labels (n,)."""
        z = data.map(self.network.embed)
        centroids, labels = lloyd(z, self.network.readout.centroids.cpu())
        self.network.readout.centroids.copy_(centroids)
        return labels

    @torch.no_grad()
    def before_epoch(self, epoch: int, data: TrainData) -> None:
        labels = self.cluster(data)
        size = torch.bincount(labels, minlength=data.n_clusters).float()
        alive = (size > 0).float()
        weight = alive * data.n_rows / (alive.sum() * size.clamp_min(1))
        self.labels, self.weight = labels.to(data.device), weight.to(data.device)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        z = self.network.embed(batch.strong())
        y = self.labels[batch.rows]
        losses = F.cross_entropy(
            z @ self.network.readout.centroids.T / self.temperature, y, reduction="none"
        )
        return {"loss": (self.weight[y] * losses).mean()}


@dataclass(eq=False, repr=False, kw_only=True)
class DeepClusterHead(AdapterHead):
    """Alternating k-means and classification.

    Parameters
    ----------
    n_clusters : int or "auto"
        Number of clusters (the paper over-clusters by ten for its representation; here they are
        the answer).
    n_neighbors : int
        Nearest neighbors to mix strong views with.
    temperature : float
        Of the classifier, 0.1 as in DeepCluster-v2.
    """

    name = "deepcluster"
    stage = "alternate"

    temperature: float = 0.1

    def _objective(self, network: Representation, data: HeadData) -> PairObjective:
        check_range(self.temperature, "temperature", low=0, open_low=True)
        return DeepClusterObjective(network, temperature=self.temperature)

    def _read_out(self, objective: Any, data: HeadData, rows: TrainData) -> None:
        objective.cluster(rows)
