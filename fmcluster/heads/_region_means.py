"""What a row's region believes on average: CDC's targets, made row by row as batches ask for them.

One array of all rows' probabilities is held; targets of all rows would take another three.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fmcluster.heads._rows import BLOCK_ROWS


class RegionMeans:
    """Targets of rows, made when asked for: their mini-cluster's and their neighbours' mean.

    No row is part of its own target.

    Parameters
    ----------
    proba : Tensor (N, K)
        The clustering head's probabilities, of four or two bytes.
    regions : Tensor (N,) int64
        Mini-cluster of each row.
    neighbours : Tensor (N, k) integer, optional
        Nearest neighbours of each row.
    """

    def __init__(self, proba: Tensor, regions: Tensor, neighbours: Tensor | None) -> None:
        self.proba, self.regions, self.neighbours = proba, regions, neighbours
        self.sizes = torch.bincount(regions)
        self.totals = torch.zeros(len(self.sizes), proba.shape[1], device=proba.device)
        for part, p in zip(regions.split(BLOCK_ROWS), proba.split(BLOCK_ROWS), strict=True):
            self.totals.index_add_(0, part, p.float())

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return the targets (B, K) of rows (B,)."""
        own, region = self.proba[rows].float(), self.regions[rows]
        size = self.sizes[region]
        others = (self.totals[region] - own) / (size[:, None].float() - 1).clamp_min(1)
        if self.neighbours is None:
            return torch.where(size[:, None] <= 1, own, others).clamp_min(0)
        near = torch.zeros_like(own)
        for column in self.neighbours[rows].unbind(1):
            near += self.proba[column]
        near /= self.neighbours.shape[1]
        return (0.5 * (torch.where(size[:, None] <= 1, near, others) + near)).clamp_min(0)
