"""Recordings longer than a model was trained on, in windows; the mean of these is the row.

z = (sum_w n_w z_w) / (sum_w n_w),  n_w the samples of window w

A recording is cut into the fewest equal parts that the model takes, so no window is a short rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.audio import to_sound
from fmcluster.embedding.encoders.base import TorchEncoder

# Seconds of sound in a batch: on a CPU larger ones gain nothing, a GPU is filled.
CPU_SECONDS, GPU_SECONDS = 16, 600


def cut(samples: NDArray[np.float32], longest: int) -> list[NDArray[np.float32]]:
    """Return the fewest equal parts of at most `longest` samples; views of the given array.

    >>> [len(part) for part in cut(np.zeros(25, np.float32), 10)]
    [8, 8, 9]
    """
    count = max(1, -(-len(samples) // longest))
    ends = np.linspace(0, len(samples), count + 1).astype(int)
    return [samples[low:high] for low, high in zip(ends, ends[1:], strict=False)]


class WindowedEncoder(TorchEncoder):
    """A frozen audio model; families fill in `batch` and `forward` for windows of samples.

    Attributes
    ----------
    rate : int
        Samples a second that the model takes.
    longest, shortest : int
        Samples of a window at most, and at least: a shorter recording is filled up with zeros.
    unit : bool
        Whether rows are brought to unit length.
    """

    rate: int
    longest: int
    shortest: int = 1
    unit: bool = False

    def encode(self, rows: Sequence[Any]) -> NDArray[np.float32]:
        """Return the embeddings (n, d) of recordings: `Sound`, or mappings of array and rate."""
        rows = list(rows)
        pieces = [cut(to_sound(row).at(self.rate).samples, self.longest) for row in rows]
        flat = [piece for parts in pieces for piece in parts]
        short = (max(0, self.shortest - len(piece)) for piece in flat)
        values = super().encode([np.pad(p, (0, n)) for p, n in zip(flat, short, strict=True)])
        if not rows:
            return values
        weights = np.array([max(1, len(piece)) for piece in flat], np.float32)
        firsts = np.cumsum([0, *map(len, pieces)])[:-1]
        total = np.add.reduceat(values * weights[:, None], firsts)
        found = total / np.add.reduceat(weights, firsts)[:, None]
        if self.unit:
            found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return found.astype(np.float32, copy=False)

    def prepare(self, rows: list[Any]) -> tuple[Any, NDArray[np.int64]]:
        """Return the windows and their lengths."""
        return rows, np.fromiter(map(len, rows), np.int64, len(rows))

    def rows_per_batch(self, length: int) -> int:
        """Return as many windows as fill a batch."""
        seconds = CPU_SECONDS if self.device.type == "cpu" else GPU_SECONDS
        return max(1, seconds * self.rate // max(length, 1))
