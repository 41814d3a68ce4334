"""Rounds of spherical k-means on a GPU: products in blocks, with torch alone.

Sums of clusters are products with the rows' indicators: additions of scattered rows would come in
another order each time. So equal seeds give equal labels there too, but not those of the processor,
whose sums are in another order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from fmcluster.utils import distributed
from fmcluster.utils.random import seed_of
from fmcluster.utils.stopping import check_stopped

# Cosines, and as many indicators, that are on the device at a time: a gigabyte each.
BLOCK_VALUES = 2**28
# Least gain of a round, of the objective: float32 sums of a million rows know no less.
TOLERANCE = 1e-6
# Share of a unit that tells the halves of a cluster apart that an empty one takes over.
SPLIT_NOISE = 1e-2
# Products of fewer multiplications are done before a GPU is awake.
LEAST_WORK = 2**31


class Sums(NamedTuple):
    """What one pass over rows finds, in float64."""

    sums: Tensor
    counts: Tensor
    objective: Tensor


def has_work(device: torch.device, n_rows: int, n_dims: int, n_clusters: int) -> bool:
    """Return whether a round is worth a device, and its rows have room there."""
    work = n_rows * n_dims * n_clusters >= LEAST_WORK
    return work and distributed.has_room(device, 4 * n_rows * n_dims + 8 * BLOCK_VALUES)


def assigned(x: Tensor, centroids: Tensor) -> tuple[Tensor, Sums]:
    """Return the nearest centroid of each unit row (n,), and the clusters' sums and counts."""
    k, d = centroids.shape
    labels = torch.empty(len(x), dtype=torch.long, device=x.device)
    sums = torch.zeros(k, d, dtype=torch.float64, device=x.device)
    counts = torch.zeros(k, dtype=torch.float64, device=x.device)
    objective = torch.zeros((), dtype=torch.float64, device=x.device)
    size = max(1, BLOCK_VALUES // k)
    for start in range(0, len(x), size):
        check_stopped()
        block = x[start : start + size]
        cosines, nearest = (block @ centroids.T).max(dim=1)
        member = torch.zeros(len(block), k, device=x.device)
        member.scatter_(1, nearest[:, None], 1)
        labels[start : start + size] = nearest
        sums += member.T @ block
        counts += member.sum(dim=0, dtype=torch.float64)
        objective += cosines.sum(dtype=torch.float64)
    return labels, Sums(sums, counts, objective)


def _moved(found: Sums, generator: torch.Generator) -> Tensor:
    """Return the new unit centroids; an empty cluster takes over half of the largest."""
    centroids = normalize(found.sums, dim=1)
    counts = found.counts.clone()
    for cluster in torch.nonzero(counts == 0).flatten().tolist():
        largest = int(counts.argmax())
        noise = torch.randn(centroids.shape[1], generator=generator, dtype=torch.float64)
        apart = centroids[largest] + SPLIT_NOISE * noise.to(centroids.device)
        centroids[cluster] = normalize(apart, dim=0)
        counts[cluster] = counts[largest] = counts[largest] / 2
    return centroids.float()


@torch.no_grad()
def rounds_on(
    device: torch.device,
    rows: NDArray[np.float32],
    starts: list[NDArray[np.float32]],
    *,
    max_iter: int,
    seed: int = 0,
) -> tuple[NDArray[np.float32], float]:
    """Return the unit centroids (k, d) of the best of some starts, and their objective.

    Parameters
    ----------
    device : torch.device
        Where the rounds are made.
    rows : (n, d) float32
        Unit rows.
    starts : list of (k, d) float32
        Centroids to begin with.
    max_iter : int
        Rounds at most; fewer once the objective grows by less than 1e-6 of itself.
    seed : int
        Of what empty clusters take over.
    """
    x = torch.from_numpy(np.ascontiguousarray(rows)).to(device)
    best, most = starts[0], -np.inf
    for number, start in enumerate(starts):
        generator = torch.Generator().manual_seed(seed_of(seed, "empty", number))
        centroids = normalize(torch.from_numpy(np.array(start, np.float32)).to(device), dim=1)
        before = -np.inf
        for _ in range(max_iter):
            found = assigned(x, centroids)[1]
            centroids, objective = _moved(found, generator), float(found.objective)
            if objective - before < TOLERANCE * abs(objective):
                break
            before = objective
        if objective > most:
            best, most = centroids.cpu().numpy(), objective
    return best, most


def random_starts(
    rows: NDArray[np.float32], n_clusters: int, n_init: int, seed: int
) -> list[NDArray[np.float32]]:
    """Return random rows as centroids, for each start."""
    generator = np.random.default_rng(seed)
    return [rows[generator.choice(len(rows), n_clusters, replace=False)] for _ in range(n_init)]


@torch.no_grad()
def nearest_on(
    device: torch.device, rows: NDArray[np.float32], centroids: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Return the index of the centroid with the largest cosine to each unit row."""
    x, c = (torch.from_numpy(np.ascontiguousarray(one)).to(device) for one in (rows, centroids))
    return assigned(x, c)[0].cpu().numpy()


@torch.no_grad()
def packed_sums(
    device: torch.device, blocks: Iterable[NDArray[np.float32]], centroids: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return (k, d + 2): sums of clusters, rows of each, and the objective in the first row."""
    c = torch.from_numpy(np.ascontiguousarray(centroids)).to(device)
    packed = torch.zeros(len(c), c.shape[1] + 2, dtype=torch.float64, device=device)
    for block in blocks:
        _, found = assigned(torch.from_numpy(block).to(device), c)
        packed[:, :-2] += found.sums
        packed[:, -2] += found.counts
        packed[0, -1] += found.objective
    return packed.cpu().numpy()
