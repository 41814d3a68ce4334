r"""Prototype initialization: a linear layer whose rows are centroids, spread apart.

CDC (ICLR 2025) starts both layers of its heads from k-means centroids and then makes each
prototype recognize itself among all of them,

.. math:: \min_{Z, W} CE\big(5 \langle \widehat{ReLU(Z)}, \widehat{W} \rangle, I\big),

with both copies starting at the centroids and `W` kept (hats: rows of length one).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmcluster.partition.kmeans import ROUGH_ROUNDS, spherical_kmeans

# The paper's factor on the cosines.
SHARPNESS = 5.0
# Below it the mean over dimensions is a large part of the row: of two, half of what it says.
FEW_DIMENSIONS = 8


def standardize_rows(x: Tensor) -> Tensor:
    """Return rows minus their mean, then of length one (the z-score's scale drops out).

    Among few dimensions the mean is a part of the row's meaning, and it is kept.
    """
    if x.shape[1] >= FEW_DIMENSIONS:
        x = x - x.mean(dim=1, keepdim=True)
    return F.normalize(x, dim=1)


def prototypes(x: Tensor, n_prototypes: int, *, seed: int) -> Tensor:
    """Return k-means centroids (n_prototypes, d) of unit rows `x` (n, d).

    Where there are fewer rows than prototypes, random directions fill the rest.
    """
    found = min(n_prototypes, len(x))
    rows = np.ascontiguousarray(x.cpu().numpy())
    centroids = torch.from_numpy(
        spherical_kmeans(rows, found, max_iter=ROUGH_ROUNDS, seed=seed).copy()
    )
    if found < n_prototypes:
        generator = torch.Generator().manual_seed(seed)
        extra = torch.randn(n_prototypes - found, x.shape[1], generator=generator)
        centroids = torch.cat([centroids, F.normalize(extra, dim=1)])
    return centroids


def spread(weight: Tensor, *, n_steps: int = 100) -> Tensor:
    """Return `weight` (m, d) moved until each row recognizes itself among all rows."""
    if n_steps == 0:
        return weight
    copy, kept = nn.Parameter(weight.clone()), nn.Parameter(weight.clone())
    # Rows are few, the loss is smooth: a large rate gets far in few steps. With the usual momentum
    # and the cosine schedule a hundred are enough.
    optimizer = torch.optim.SGD([copy, kept], lr=0.5, momentum=0.9, foreach=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    identity = torch.arange(len(weight), device=weight.device)
    with torch.enable_grad():
        for _ in range(n_steps):
            scores = F.normalize(copy.relu(), dim=1) @ F.normalize(kept, dim=1).T
            loss = F.cross_entropy(SHARPNESS * scores, identity)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return kept.detach()
