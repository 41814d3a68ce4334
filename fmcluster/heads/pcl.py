r"""PCL: prototypical contrastive learning (Li et al., ICLR 2021), then k-means.

Once an epoch the representation is clustered into :math:`K_m` prototypes for several m; then

.. math:: L = \mathrm{NT\text{-}Xent}_\tau(z^a, z^b) - \frac1M \sum_m \frac1B \sum_i
          \log \frac{e^{z_i^\top c_{s(i)} / \phi_{s(i)}}}{\sum_j e^{z_i^\top c_j / \phi_j}}, \qquad
          \phi_c = \frac{\sum_{i \in c} \|z_i - c\|}{n_c \log(n_c + \alpha)}

where the concentrations :math:`\phi` are clipped to their 10-90 percentiles and scaled to mean
:math:`\tau`: a loose prototype attracts less. Adapted to frozen embeddings: the adapter of
`representation`, pairs inside the batch in place of a momentum queue, a nearest neighbor as the
second view, K, 2K and 4K prototypes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fmcluster.functional.losses import unit_nt_xent
from fmcluster.heads.families.representation import AdapterHead, PairObjective, Representation
from fmcluster.heads.simclr import neighbor_pairs
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.views import Batch
from fmcluster.partition.kmeans import ROUGH_ROUNDS, spherical_kmeans
from fmcluster.utils.validation import check_range
from fmcluster.vectors.fit_data import HeadData

# The paper's: it keeps the spread of a small prototype from being divided by almost nothing.
ALPHA = 10.0


def concentration(z: Tensor, centroids: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return phi (K,): how loose each prototype is, with mean `temperature`."""
    k = len(centroids)
    distance = (z - centroids[labels]).norm(dim=1)
    size = torch.bincount(labels, minlength=k).float()
    total = torch.zeros(k).index_add_(0, labels, distance)
    phi = total / (size.clamp_min(1) * (size + ALPHA).log())
    phi = torch.where(size > 1, phi, phi.max())  # a single row says nothing about its spread
    # The percentiles of the paper's code: a prototype of odd spread does not rule the loss.
    phi = phi.clamp(phi.quantile(0.1), phi.quantile(0.9)).clamp_min(1e-6)
    return temperature * phi / phi.mean()


@dataclass(eq=False, repr=False, kw_only=True)
class PCLObjective(PairObjective):
    """NT-Xent plus prototype contrast at several granularities."""

    temperature: float
    granularities: tuple[int, ...]
    warmup_epochs: int

    def before_epoch(self, epoch: int, data: TrainData) -> None:
        self.prototypes: list[tuple[Tensor, Tensor, Tensor]] = []
        if epoch < self.warmup_epochs:
            return
        z = data.map(self.network.embed)
        rows = np.ascontiguousarray(z.numpy())
        for times in self.granularities:
            k = min(times * data.n_clusters, data.n_rows)
            # 2**16 leaves room for epochs in the 31 bits that faiss takes.
            found = spherical_kmeans(rows, k, max_iter=ROUGH_ROUNDS, seed=data.seed % 2**16 + epoch)
            centroids = torch.from_numpy(found.copy())
            labels = (z @ centroids.T).argmax(dim=1)
            phi = concentration(z, centroids, labels, self.temperature)
            self.prototypes.append(
                (centroids.to(data.device), labels.to(data.device), phi.to(data.device))
            )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        a, b = self.views(batch)
        ignore = neighbor_pairs(batch.rows, self.neighbors)
        instance = unit_nt_xent(a, b, self.temperature, ignore)
        prototype = a.new_zeros(())
        for centroids, labels, phi in self.prototypes:
            term = F.cross_entropy(a @ centroids.T / phi, labels[batch.rows])
            prototype = prototype + term / len(self.prototypes)
        return {"loss": instance + prototype, "instance": instance, "prototype": prototype}


@dataclass(eq=False, repr=False, kw_only=True)
class PCLHead(AdapterHead):
    """Prototypical contrastive learning, then spherical k-means.

    Parameters
    ----------
    temperature : float
        The paper's tau, and the mean concentration.
    granularities : tuple of int
        Prototypes, in multiples of the number of clusters.
    warmup_epochs : int
        Epochs of instance contrast alone.
    """

    name = "pcl"

    # Lower pulls at the nearest rows alone, higher treats all of them alike.
    temperature: float = 0.2
    # Clusters as asked for, their halves and quarters; further ones come near to single rows.
    granularities: tuple[int, ...] = (1, 2, 4)
    warmup_epochs: int = 2

    def _objective(self, network: Representation, data: HeadData) -> PairObjective:
        check_range(self.temperature, "temperature", low=0, open_low=True)
        return PCLObjective(
            network,
            temperature=self.temperature,
            granularities=tuple(self.granularities),
            warmup_epochs=self.warmup_epochs,
        )
