"""Where the parts of `gpu.py` run, on which rows, and how two answers are compared."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from fmcluster.functional.metrics import evaluate
from fmcluster.heads.auto import student
from fmcluster.heads.training import head as trained
from fmcluster.partition import kmeans_torch
from fmcluster.utils import distributed
from fmcluster.vectors import exact
from fmcluster.vectors.graph import KNNGraph

# Above so much work a GPU is taken: the rows of the checks have less.
THRESHOLDS = (
    (exact, "GPU_WORK"),
    (kmeans_torch, "LEAST_WORK"),
    (student, "GPU_WORK"),
    (trained, "GPU_WORK"),
)
GIVEN = 20  # neighbors a row, where they are not what is timed


@dataclass(frozen=True)
class Where:
    """A device, and whether sizes are tiny.

    Attributes
    ----------
    device : torch.device
        A GPU, or the processor that stands in for one.
    small : bool
        Of sizes that a test has time for.
    """

    device: torch.device
    small: bool

    @property
    def is_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    def size(self, whole: int, tiny: int) -> int:
        """Return one of two sizes."""
        return tiny if self.small else whole

    @contextlib.contextmanager
    def on(self, *, however_little: bool = True) -> Iterator[str]:
        """Let everything that knows a GPU take the device; give its name."""
        with contextlib.ExitStack() as stack:
            if not self.is_gpu:
                stack.enter_context(patch.object(distributed, "gpu", lambda: self.device))
            for module, name in THRESHOLDS if however_little else ():
                stack.enter_context(patch.object(module, name, 1))
            yield self.device.type

    @contextlib.contextmanager
    def off(self) -> Iterator[str]:
        """Let nothing take it; give the processor's name."""
        with patch.object(distributed, "gpu", lambda: None):
            yield "cpu"

    def both(self, work: Callable[[str], Any]) -> tuple[Any, Any]:
        """Return what `work` gives on the device and on the processor."""
        with self.on() as name:
            there = work(name)
        with self.off() as name:
            return there, work(name)

    def wait(self) -> None:
        """Wait until the device has done what it was given."""
        if self.is_gpu:
            torch.cuda.synchronize()

    def free(self) -> None:
        """Give back memory that nobody holds any more."""
        if self.is_gpu:
            torch.cuda.empty_cache()

    def timed(self, work: Callable[[], Any]) -> tuple[Any, float]:
        """Return what `work` gives, and the seconds until the device has done it."""
        self.wait()
        start = time.perf_counter()
        found = work()
        self.wait()
        return found, time.perf_counter() - start


def planted(
    n_rows: int, n_dims: int, k: int, *, spread: float = 0.6, device: torch.device | str = "cpu"
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return unit rows (n, d) around k random directions, row i of cluster i % k."""
    generator = torch.Generator(device).manual_seed(0)
    draw = {"generator": generator, "device": device}
    centres = torch.nn.functional.normalize(torch.randn(k, n_dims, **draw), dim=1)
    x = np.empty((n_rows, n_dims), np.float32)
    for start in range(0, n_rows, 65_536):
        own = torch.arange(start, min(start + 65_536, n_rows), device=device) % k
        noise = torch.randn(len(own), n_dims, **draw) * (spread / n_dims**0.5)
        block = torch.nn.functional.normalize(centres[own] + noise, dim=1)
        x[start : start + len(own)] = block.cpu().numpy()
    return x, np.arange(n_rows) % k


def drawn_graph(n_rows: int, k: int) -> KNNGraph:
    """Return random rows of the same cluster of `planted` as neighbors, of one cosine."""
    away = np.random.default_rng(1).integers(1, n_rows // k, (n_rows, GIVEN))
    near = (np.arange(n_rows)[:, None] + k * away) % n_rows
    return KNNGraph(near.astype(np.int32), np.full(near.shape, 0.5, np.float32))


def compared(
    y: NDArray[np.int64], there: NDArray[np.int64], here: NDArray[np.int64], *, least: float
) -> dict[str, Any]:
    """Return how two labelings agree and how right each is; passed from `least` of agreement on.

    Random numbers of a GPU are others than those of the processor: a head whose labels differ
    passes too, where they are as right to two points.
    """
    ari = float(adjusted_rand_score(here, there))
    acc = [float(evaluate(y, labels)["acc"]) for labels in (there, here)]
    return {
        "passed": ari >= least or acc[0] >= acc[1] - 0.02,
        "ari": round(ari, 4),
        "acc_device": round(acc[0], 4),
        "acc_processor": round(acc[1], 4),
    }
