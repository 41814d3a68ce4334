"""Matrix products of arrays on a given device: the seam by which array code uses a GPU.

Arrays go there and come back block by block, so that both fit. Without a device nothing of torch is
imported and the products are numpy's and scipy's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

if TYPE_CHECKING:
    import torch


def product(
    a: NDArray[np.float32], b: NDArray[Any], device: torch.device | None = None
) -> NDArray[Any]:
    """Return ``a @ b`` in the type that numpy would give."""
    if device is None:
        return a @ b
    import torch

    wide = np.result_type(a, b)
    left, right = (torch.from_numpy(np.ascontiguousarray(m, wide)).to(device) for m in (a, b))
    return (left @ right).cpu().numpy()


def sparse_product(
    graph: csr_matrix, b: NDArray[np.float32], device: torch.device | None = None
) -> NDArray[np.float32]:
    """Return ``graph @ b`` of a sparse float32 (m, n) and (n, c)."""
    if device is None:
        return np.asarray(graph @ b)
    import torch

    return (_on(graph, device) @ torch.from_numpy(b).to(device)).cpu().numpy()


def _on(graph: csr_matrix, device: torch.device) -> torch.Tensor:
    """Return a sparse matrix on a device, float32."""
    import torch

    parts = (graph.indptr.astype(np.int64), graph.indices.astype(np.int64))
    values = torch.from_numpy(graph.data.astype(np.float32))
    pointers, columns = (torch.from_numpy(part) for part in parts)
    return torch.sparse_csr_tensor(pointers, columns, values, size=graph.shape).to(device)


def diffused(
    graph: csr_matrix,
    start: NDArray[np.float32],
    *,
    alpha: float,
    n_iter: int,
    device: torch.device | None = None,
) -> NDArray[np.float32]:
    """Return F after `n_iter` steps ``F <- alpha graph F + (1 - alpha) start``, from `start`.

    Parameters
    ----------
    graph : (n, n) sparse
        Normalized affinity.
    start : (n, c) float32
        Where it begins, and what it is drawn back to.
    alpha : float
        Share that comes from the neighbors.
    n_iter : int
        Steps.
    device : torch.device, optional
        Where the products are made: the graph goes there once.
    """
    if device is None:
        out = start.copy()
        for _ in range(n_iter):
            out = alpha * (graph @ out) + (1 - alpha) * start
        return out
    import torch

    edges = _on(graph, device)
    first = torch.from_numpy(start).to(device)
    moved = first
    for _ in range(n_iter):
        moved = alpha * (edges @ moved) + (1 - alpha) * first
    return moved.cpu().numpy()
