"""Rounds of spherical k-means on a GPU: the rows are moved there once, nothing waits for a round.

Sums run over sorted rows, in float64: atomic additions would give other bits each time. The host
learns once a round whether rows moved.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fmcluster.utils.random import seed_of
from fmcluster.utils.stopping import check_stopped

# Cosines that are on the device at a time, and rows whose copy in eight bytes is: enough that
# launches are lost in them.
BLOCK_VALUES, BLOCK_ROWS = 2**28, 2**18


@torch.no_grad()
def rounds_on(
    device: torch.device,
    rows: NDArray[np.float32],
    first: NDArray[np.float32],
    n_rounds: int,
    *,
    seed: int,
) -> tuple[NDArray[np.float32], float, int]:
    """Return unit centroids (k, d), their objective and the rounds taken: see `rounds.rounds`."""
    k = len(first)
    x = torch.from_numpy(np.ascontiguousarray(rows)).to(device)
    centroids = torch.from_numpy(np.array(first, np.float32)).to(device)
    blocks = x.split(max(1, min(BLOCK_VALUES // k, BLOCK_ROWS)))
    labels = torch.full((len(x),), -1, device=device)
    for taken in range(1, n_rounds + 1):
        check_stopped()
        found = [(block @ centroids.T).max(dim=1) for block in blocks]
        new = torch.cat([one.indices for one in found])
        if torch.equal(new, labels):
            break
        labels = new
        sums = torch.zeros(centroids.shape, dtype=torch.float64, device=device)
        for block, one in zip(blocks, found, strict=True):
            sums += _sums(block, one.indices, k)
        objective = sums.norm(dim=1).sum()
        counts = torch.bincount(labels, minlength=k)
        centroids = torch.nn.functional.normalize(sums, dim=1).float()
        if bool((counts == 0).any()):
            centroids = _split(centroids, counts, seed_of(seed, "empty", taken))
    return centroids.cpu().numpy(), float(objective), taken


def _sums(block: torch.Tensor, labels: torch.Tensor, k: int) -> torch.Tensor:
    """Return the sums (k, d) of the rows of each cluster, each cluster's in the rows' order."""
    order = labels.argsort(stable=True)
    lengths = torch.bincount(labels, minlength=k)
    return torch.segment_reduce(block[order].double(), "sum", lengths=lengths, axis=0)


def _split(centroids: torch.Tensor, counts: torch.Tensor, seed: int) -> torch.Tensor:
    """Give empty clusters directions beside those of the largest."""
    from fmcluster.partition.rounds import Round, next_centroids

    found = Round(centroids.double().cpu().numpy(), counts.double().cpu().numpy(), 0.0)
    return torch.from_numpy(next_centroids(found, seed=seed)).to(centroids.device)
