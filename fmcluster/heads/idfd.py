r"""IDFD: instance discrimination and feature decorrelation (Tao et al., ICLR 2021), then k-means.

With a memory :math:`v_j` of every row's unit representation and the unit columns
:math:`f_l \in R^B` of a batch's representation:

.. math:: L = -\frac1B \sum_i \log \frac{e^{v_i^\top z_i / \tau}}{\sum_j e^{v_j^\top z_i / \tau}}
          - \frac\alpha d \sum_l \log \frac{e^{f_l^\top f_l / \tau_2}}
                                            {\sum_m e^{f_m^\top f_l / \tau_2}}

and :math:`v_i \leftarrow normalize(m v_i + (1 - m) z_i)`. Adapted to frozen embeddings: the
adapter of `representation`; the positive is the memory of a nearest neighbor; above `MEMORY_ROWS`
rows the sum runs over a sample of the memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fmcluster.heads.families.representation import AdapterHead, PairObjective, Representation
from fmcluster.heads.training import draws
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.views import Batch
from fmcluster.utils.validation import check_range
from fmcluster.vectors.fit_data import HeadData

# Time and memory of a step: (batch, so many) cosines; fewer are a noisier sum.
MEMORY_ROWS = 4096


def decorrelation(z: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy by which each column of z (B, d) recognizes itself among all."""
    columns = F.normalize(z, dim=0)
    scores = columns.T @ columns / temperature
    return F.cross_entropy(scores, torch.arange(z.shape[1], device=z.device))


@dataclass(eq=False, repr=False, kw_only=True)
class IDFDObjective(PairObjective):
    """Instance discrimination against a memory, plus decorrelation."""

    temperature: float
    feature_temperature: float
    feature_weight: float
    momentum: float

    def start(self, data: TrainData) -> None:
        super().start(data)
        self.memory = data.map(self.network.embed).to(data.device)

    def before_epoch(self, epoch: int, data: TrainData) -> None:
        if epoch and self.momentum == 0:
            self.memory = data.map(self.network.embed).to(data.device)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        z = self.network.embed(batch.weak())
        near = batch.neighbor()[0]
        n = len(self.memory)
        others = draws.integers(n, min(MEMORY_ROWS, n), z.device)
        positive = (z * self.memory[near]).sum(dim=1, keepdim=True)
        negative = z @ self.memory[others].T
        scores = torch.cat([positive, negative], dim=1) / self.temperature
        instance = F.cross_entropy(scores, torch.zeros(len(z), dtype=torch.long, device=z.device))
        feature = decorrelation(z, self.feature_temperature)
        with torch.no_grad():
            old = self.memory[batch.rows]
            new = self.momentum * old + (1 - self.momentum) * z.detach()
            self.memory[batch.rows] = F.normalize(new, dim=1)
        loss = instance + self.feature_weight * feature
        return {"loss": loss, "instance": instance, "feature": feature}


@dataclass(eq=False, repr=False, kw_only=True)
class IDFDHead(AdapterHead):
    """Instance discrimination and feature decorrelation, then spherical k-means.

    Parameters
    ----------
    n_neighbors : int
        Nearest neighbors to draw a positive from.
    temperature, feature_temperature : float
        The paper's tau (1 there; embeddings that are frozen spread less) and tau_2.
    feature_weight : float
        The paper's alpha.
    momentum : float
        Of the memory.
    """

    name = "idfd"
    stage = "discriminate"

    temperature: float = 0.2
    feature_temperature: float = 2.0
    feature_weight: float = 1.0
    momentum: float = 0.5

    def _objective(self, network: Representation, data: HeadData) -> PairObjective:
        check_range(self.temperature, "temperature", low=0, open_low=True)
        check_range(self.feature_temperature, "feature_temperature", low=0, open_low=True)
        check_range(self.momentum, "momentum", low=0, high=1)
        return IDFDObjective(
            network,
            temperature=self.temperature,
            feature_temperature=self.feature_temperature,
            feature_weight=self.feature_weight,
            momentum=self.momentum,
        )
