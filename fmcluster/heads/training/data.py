"""The rows that training reads: in memory where they fit, from disk block by block where not."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmcluster.functional.labels.answers import RowAnswers
from fmcluster.heads.training.fixed import FixedRows
from fmcluster.utils import distributed
from fmcluster.vectors.rows import BLOCK_ROWS, Rows, sample_indices

# Rows of means, scales and principal components: more would not move them, and they fit in memory.
STATISTICS_ROWS = 50_000
# Blocks in a window of random order: what one read ahead holds in memory, 512k rows.
WINDOW_BLOCKS = 64


@dataclass
class TrainData:
    """What an objective sees: rows, neighbors, and seeds.

    Attributes
    ----------
    spaces : list of Rows
        Embedding spaces under the same row numbers.
    neighbors : (n, k) integer array or None
        Row numbers of each row's neighbors.
    n_clusters : int
        Number of clusters asked for.
    seed : int
        Base of the run's random streams.
    answers : RowAnswers, optional
        Labels are held as `fixed`, which is None without any.
    """

    spaces: list[Rows]
    neighbors: NDArray[Any] | None
    n_clusters: int
    seed: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    answers: RowAnswers | None = None

    def __post_init__(self) -> None:
        self.tensors = [self._held(space) for space in self.spaces]
        self.fixed = FixedRows.of(self.answers, self.device)
        self.neighbor_tensor = None
        if self.neighbors is not None:
            table = torch.from_numpy(np.ascontiguousarray(self.neighbors))
            self.neighbor_tensor = table.to(self.device)

    def _held(self, space: Rows) -> Tensor | None:
        """Return a space on the device, None where it is read when asked for.

        A GPU holds what the host reads from disk, where it has room: no step waits for a read.
        """
        if space.in_memory:
            return read_only_tensor(np.asarray(space.source)).to(self.device)
        if not distributed.has_own_room(self.device, 4 * space.n_rows * space.n_dims):
            return None
        out = torch.empty(space.shape, device=self.device)
        for start, block in space.blocks():
            out[start : start + len(block)] = torch.from_numpy(block)
        return out

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.spaces[0].n_rows

    def digest(self) -> str:
        """Return a digest of all rows and their neighbors, read once from the start."""
        # Sixteen bytes: that two data sets have the same is out of the question.
        digest = hashlib.blake2b(digest_size=16)
        for space in self.spaces:
            digest.update(repr(space.shape).encode())
            for _, block in space.blocks():
                digest.update(np.ascontiguousarray(block).data)
        if self.neighbors is not None:
            digest.update(np.ascontiguousarray(self.neighbors, dtype=np.int64).data)
        return digest.hexdigest()

    def take(self, rows: Tensor, host: Tensor | None = None) -> list[Tensor]:
        """Return the rows (B,) of every space as tensors (B, d_v) on the device.

        The same numbers on the `host` spare those that read from disk to ask the device.
        """
        found = []
        for space, tensor in zip(self.spaces, self.tensors, strict=True):
            if tensor is not None:
                found.append(tensor.index_select(0, rows.to(tensor.device)))
            else:
                host = rows.cpu() if host is None else host
                found.append(torch.from_numpy(space[host.numpy()]).to(self.device))
        return found

    def blocks(
        self, size: int = BLOCK_ROWS, *, rows: range | None = None
    ) -> Iterator[tuple[slice, list[Tensor]]]:
        """Yield (slice, tensors per space) over all rows in order, or over some that follow."""
        rows = range(self.n_rows) if rows is None else rows
        for start in range(rows.start, rows.stop, size):
            where = slice(start, min(start + size, rows.stop))
            if all(tensor is not None for tensor in self.tensors):
                yield where, [tensor[where] for tensor in self.tensors if tensor is not None]
            else:
                yield where, self.take(torch.arange(where.start, where.stop))

    @torch.no_grad()
    def map(self, function: Any, dtype: torch.dtype = torch.float32) -> Tensor:
        """Apply ``function(list of (b, d_v)) -> (b, ...)`` to all rows, joined on the CPU."""
        out = torch.empty(0)
        for where, xs in self.blocks():
            part = function(xs).to(dtype).cpu()
            if where.start == 0:  # joined as they come: a list of parts is a second copy
                out = part.new_empty(self.n_rows, *part.shape[1:])
            out[where] = part
        return out

    @torch.no_grad()
    def mean(self, function: Any) -> Tensor:
        """Return the mean over all rows of ``function(list of (b, d_v)) -> (b, ...)``."""
        sums = [function(xs).double().sum(dim=0).cpu() for _, xs in self.blocks()]
        return (torch.stack(sums).sum(dim=0) / self.n_rows).float()

    def sampled(self, size: int) -> Tensor:
        """Return at most `size` random row numbers, ascending; the same at each call."""
        return torch.from_numpy(sample_indices(self.spaces[0], size, self.seed))

    def sample(self, size: int = STATISTICS_ROWS) -> list[Tensor]:
        """Return the rows that `sampled` names, of every space: for statistics at the start."""
        return self.take(self.sampled(size))


def read_only_tensor(array: NDArray[Any]) -> Tensor:
    """Return a tensor on the memory of `array`, which may be a read-only map: nothing writes it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def shuffled(spaces: list[Rows], generator: np.random.Generator) -> NDArray[np.int64]:
    """Return a random order of the rows; on disk, of windows and then within each window.

    Rows on disk are read window by window, so that an epoch reads the store about once.
    """
    n_rows = spaces[0].n_rows
    if all(space.in_memory for space in spaces):
        return generator.permutation(n_rows)
    blocks = generator.permutation(-(-n_rows // BLOCK_ROWS))
    windows = np.array_split(blocks, max(1, len(blocks) // WINDOW_BLOCKS))
    parts = []
    for window in windows:
        rows = np.concatenate(
            [np.arange(b * BLOCK_ROWS, min((b + 1) * BLOCK_ROWS, n_rows)) for b in window]
        )
        parts.append(generator.permutation(rows))
    return np.concatenate(parts)
