"""The k nearest rows by matrix products on a GPU: exact, in blocks, with torch alone.

A row's n cosines stand in groups of `DEPTH`. The k groups with the largest maxima hold its k
largest cosines: were one of them elsewhere, k groups would have a value at least as large. So one
pass over the cosines finds the groups, and only k times `DEPTH` of them are sorted.

Products are in float32 throughout (torch's own default): TF32 would reorder near neighbors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from fmcluster.utils import distributed
from fmcluster.utils.stopping import check_stopped

# Cosines that are on the device at a time: enough that launches are lost in them.
BLOCK_BYTES = 2**30
# As many passes fewer over the cosines as it is large, k times as many values sorted in the end.
DEPTH = 32


@torch.no_grad()
def search_on(
    device: torch.device,
    queries: NDArray[np.float32],
    x: NDArray[np.float32],
    k: int,
    keep: Callable[[slice, tuple[NDArray[np.float32], NDArray[np.int64]]], None],
    *,
    others: bool,
) -> bool:
    """Hand (cosines, indices) of the `k` nearest rows of each block of queries to `keep`.

    Parameters
    ----------
    device : torch.device
        Where the products are made.
    queries, x : (m, d), (n, d) float32
        Unit rows.
    k : int
        In 1..n, or 1..n-1 with `others`.
    keep : callable
        Takes the block's slice and what was found.
    others : bool
        Queries are the rows themselves, and none is its own neighbor.

    Returns
    -------
    bool
        False where the rows have no room on the device: nothing was done.
    """
    n, n_dims = x.shape
    if not distributed.has_room(device, 4 * n * n_dims + 2 * BLOCK_BYTES):
        return False
    groups = max(-(-n // DEPTH), k)
    depth = -(-n // groups)
    # The last groups may be short of one: rows of zeros fill them up, and minus infinity below.
    rows = torch.zeros(depth * groups, n_dims, device=device)
    rows[:n] = torch.from_numpy(np.ascontiguousarray(x))
    size = max(1, BLOCK_BYTES // (4 * depth * groups))
    room = rows.new_empty(min(size, len(queries)), len(rows))
    for start in range(0, len(queries), size):
        check_stopped()
        where = slice(start, min(start + size, len(queries)))
        asked = torch.from_numpy(np.ascontiguousarray(queries[where])).to(device)
        cosines = room[: len(asked)]
        torch.mm(asked, rows.T, out=cosines)
        cosines[:, n:] = -torch.inf
        if others:
            own = torch.arange(len(asked), device=device)
            cosines[own, own + start] = -torch.inf
        # Group j holds columns j, j + G, ...: rows that are stored in order do not crowd in one.
        best = cosines.unflatten(1, (depth, groups)).amax(dim=1).topk(k, dim=1).indices
        columns = (best[:, None] + groups * torch.arange(depth, device=device)[:, None]).flatten(1)
        values, place = cosines.gather(1, columns).topk(k, dim=1)
        keep(where, (values.cpu().numpy(), columns.gather(1, place).cpu().numpy()))
    return True
