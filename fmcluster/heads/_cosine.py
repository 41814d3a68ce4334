"""A cosine head that starts at the k-means centroids: what the pseudo-label families train."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmcluster.heads.kmeans import spherical_kmeans
from fmcluster.heads.networks import CosineHead, JointInput
from fmcluster.heads.trainer import TrainData

SAMPLE_ROWS = 200_000


class CosineNetwork(nn.Module):
    """Spaces -> logits: ten times the cosines to prototypes."""

    def __init__(self, dims: Sequence[int], n_clusters: int) -> None:
        super().__init__()
        self.input = JointInput(dims)
        self.head = CosineHead(self.input.n_dims, n_clusters)

    @torch.no_grad()
    def start(self, data: TrainData) -> None:
        """Take the input scale from the data and prototypes from spherical k-means."""
        self.input.fit(data.sample(50_000))
        sample = F.normalize(self.input(data.sample(SAMPLE_ROWS)), dim=1).cpu().numpy()
        k = data.n_clusters
        found = spherical_kmeans(sample, k, n_init=4, max_iter=50, seed=data.seed % 2**31)
        self.head.prototypes.copy_(torch.from_numpy(found.copy()))

    def forward(self, xs: Sequence[Tensor]) -> Tensor:
        return self.head(self.input(xs))
