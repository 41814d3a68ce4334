r"""SimCLR (Chen et al., ICML 2020) as an adapter of frozen embeddings, then k-means.

Two views a, b of each of B rows; with cosines s and temperature :math:`\tau`

.. math:: L = -\frac{1}{2B} \sum_{i} \log
          \frac{e^{s(z_i, z_{i'}) / \tau}}{\sum_{j \ne i} e^{s(z_i, z_j) / \tau}}

over the 2B views, i' the other view of i. Adapted: the adapter of `representation`; the second view
is a nearest neighbor; other rows among a row's neighbors are not its negatives (they are the
false negatives that contrastive learning is known to suffer from).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fmcluster.functional.losses import unit_nt_xent
from fmcluster.heads.families.representation import AdapterHead, PairObjective, Representation
from fmcluster.heads.training.views import Batch
from fmcluster.utils.validation import check_range
from fmcluster.vectors.fit_data import HeadData


def neighbor_pairs(rows: Tensor, neighbors: Tensor | None) -> Tensor | None:
    """Return which rows of a batch are among each other's neighbors, (B, B) bool."""
    if neighbors is None:
        return None
    device = neighbors.device
    near = torch.zeros(len(neighbors), dtype=torch.long, device=device)
    near[rows] = torch.arange(1, len(rows) + 1, device=device)
    found = near[neighbors[rows].long()]  # 0: not in this batch
    pairs = torch.zeros(len(rows), len(rows) + 1, dtype=torch.bool, device=device)
    pairs.scatter_(1, found, True)
    pairs = pairs[:, 1:]
    return pairs | pairs.T


@dataclass(eq=False, repr=False, kw_only=True)
class SimCLRObjective(PairObjective):
    """NT-Xent between a row's weak view and its neighbor."""

    temperature: float

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        a, b = self.views(batch)
        ignore = neighbor_pairs(batch.rows, self.neighbors)
        return {"loss": unit_nt_xent(a, b, self.temperature, ignore)}


@dataclass(eq=False, repr=False, kw_only=True)
class SimCLRHead(AdapterHead):
    """SimCLR on an adapter, then spherical k-means.

    Parameters
    ----------
    temperature : float
        The paper's tau.
    """

    name = "simclr"

    # Lower pulls at the nearest rows alone, higher treats all of them alike.
    temperature: float = 0.2

    def _objective(self, network: Representation, data: HeadData) -> PairObjective:
        check_range(self.temperature, "temperature", low=0, open_low=True)
        return SimCLRObjective(network, temperature=self.temperature)
