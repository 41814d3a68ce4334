"""Rows of a transport problem, read in blocks of exponentials; the passes that `ot` is built on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = Any  # a numpy array or a torch tensor: what comes in is what goes out
Reduce = Callable[[NDArray[np.float64]], NDArray[np.float64]]

KEPT_BYTES = 256 * 2**20  # exponentials up to this size are kept between passes
GPU_KEPT_BYTES = 2**32  # a GPU has memory for more, and reads it faster than it makes them anew
EXACT_POTENTIAL = 1e3  # above it float32 sums round, and only equal sums round alike
BLOCK_ITEMS = 2**19  # items a block: small enough for the cache, large enough to hide overheads
GPU_BLOCK_ITEMS = 2**26  # on a GPU: launches are lost in it


class Rows:
    """The rows seen through one set of potentials g: blocks of exp(S / epsilon + g - shift).

    Every row's largest entry is one, so a pass cannot overflow, and what underflows is nothing.
    """

    def __init__(
        self, scores: Any, row_mass: Any, epsilon: float, virtual: bool, block_rows: int | None
    ) -> None:
        self.scores, self.row_mass, self.epsilon, self.virtual = scores, row_mass, epsilon, virtual
        self.n_rows, self.n_real = scores.shape
        self.n_cols = self.n_real + virtual
        self.is_torch = isinstance(scores, torch.Tensor)
        double = str(scores.dtype) in ("float64", "torch.float64")
        self.dtype = torch.float64 if double else torch.float32
        self.device = scores.device if self.is_torch else torch.device("cpu")
        on_cpu = self.device.type == "cpu"
        size = (BLOCK_ITEMS if on_cpu else GPU_BLOCK_ITEMS) // max(self.n_cols, 1)
        self.block_rows = block_rows or min(max(size, 64), max(self.n_rows, 1))
        bytes_needed = self.n_rows * self.n_cols * (8 if double else 4)
        most = KEPT_BYTES if on_cpu else GPU_KEPT_BYTES
        self.keep = block_rows is None and bytes_needed <= most
        self.reach = 200.0 if double else 25.0  # how far g may leave its base before a rebuild
        self.floor = -500.0 if double else -60.0
        self.least = 1e-100 if double else 1e-15
        self.shift = torch.empty(self.n_rows, dtype=self.dtype, device=self.device)
        self._base: NDArray[np.float64] | None = None
        self._kept: Any = None

    def rescale(self, epsilon: float) -> None:
        """Change epsilon and forget the exponentials of the former one."""
        if epsilon != self.epsilon:
            self.epsilon, self._base = epsilon, None

    def tensor(self, values: Any) -> torch.Tensor:
        return torch.as_tensor(values, dtype=self.dtype, device=self.device)

    def native(self, tensor: torch.Tensor) -> Array:
        return tensor if self.is_torch else tensor.cpu().numpy()

    def read(self, start: int, stop: int, step: int = 1) -> torch.Tensor:
        """Scores of a block in the working type, never a view that is written to."""
        block = self.scores[start:stop:step]
        if not self.is_torch:
            block = np.ascontiguousarray(block)
            # torch warns of read-only memory (a memory map): only this block is copied.
            block = torch.from_numpy(block if block.flags.writeable else block.copy())
        return block.detach().to(self.dtype)

    def logits(self, block: torch.Tensor, g: torch.Tensor, out: Any = None) -> torch.Tensor:
        """Return block / epsilon + g, with the virtual column last."""
        if out is None:
            out = torch.empty(len(block), self.n_cols, dtype=self.dtype, device=self.device)
        torch.add(g[: self.n_real], block, alpha=1.0 / self.epsilon, out=out[:, : self.n_real])
        if self.virtual:
            out[:, -1] = g[-1]
        return out

    def _build(self, g: NDArray[np.float64], out: Any) -> Iterator[tuple[int, int, torch.Tensor]]:
        g_work = self.tensor(g)
        for start in range(0, self.n_rows, self.block_rows):
            stop = min(start + self.block_rows, self.n_rows)
            target = out[start:stop] if out.shape[0] == self.n_rows else out[: stop - start]
            block = self.logits(self.read(start, stop), g_work, target)
            top = block.amax(dim=1, keepdim=True)
            self.shift[start:stop] = top[:, 0]
            block -= top
            # The floor keeps subnormal numbers out: they are a hundred times slower.
            yield start, stop, block.clamp_(min=self.floor).exp_()

    def _empty(self, rows: int) -> torch.Tensor:
        return torch.empty(rows, self.n_cols, dtype=self.dtype, device=self.device)

    def blocks(self, g: NDArray[np.float64]) -> Iterator[tuple[int, int, Any, Any]]:
        """Yield (start, stop, kernel, scaling): p is proportional to kernel * scaling."""
        if not self.keep:
            ones = torch.ones(self.n_cols, dtype=self.dtype, device=self.device)
            buffer = self._empty(min(self.block_rows, self.n_rows))
            for start, stop, block in self._build(g, buffer):
                yield start, stop, block, ones
            return
        self._rebase(g)
        scaling = self.tensor(np.exp(g - self._base))  # type: ignore[operator]
        for start in range(0, self.n_rows, self.block_rows):
            stop = min(start + self.block_rows, self.n_rows)
            yield start, stop, self._kept[start:stop], scaling

    def _rebase(self, g: NDArray[np.float64]) -> None:
        """Build the kept exponentials anew where `g` has left their base too far behind."""
        if not self.keep or (self._base is not None and np.abs(g - self._base).max() <= self.reach):
            return
        self._kept = self._empty(self.n_rows) if self._kept is None else self._kept
        for _ in self._build(g, self._kept):
            pass
        self._base = g.copy()

    def column_sums(self, g: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return q(g) = sum_i r_i softmax(S_i / epsilon + g), float64."""
        total = torch.zeros(self.n_cols, dtype=torch.float64, device=self.device)
        for start, stop, block, scaling in self.blocks(g):
            weight = self.row_mass[start:stop] / (block @ scaling)
            total += (weight @ block).double() * scaling.double()
        return total.cpu().numpy()

    def curvature(
        self, g: NDArray[np.float64], step: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (sum r p, sum r p p^T) over every `step`-th row."""
        mean = torch.zeros(self.n_cols, dtype=torch.float64, device=self.device)
        gram = torch.zeros(self.n_cols, self.n_cols, dtype=torch.float64, device=self.device)
        for rows, p in self._sampled(g, step):
            # A product of two entries must not be subnormal either.
            p.clamp_(min=self.least)
            root = self.row_mass[rows].sqrt()
            p *= (root / p.sum(dim=1))[:, None]
            mean += (root @ p).double()
            gram += (p.T @ p).double()
        return mean.cpu().numpy(), gram.cpu().numpy()

    def _sampled(self, g: NDArray[np.float64], step: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield (rows, new exponentials of them) of every `step`-th row."""
        size = self.block_rows * step
        self._rebase(g)
        g_work = self.tensor(g)
        # One buffer for all blocks: fresh memory a block costs more than the sums themselves.
        buffer = self._empty(min(self.block_rows, -(-self.n_rows // step)))
        for start in range(0, self.n_rows, size):
            rows = slice(start, min(start + size, self.n_rows), step)
            out = buffer[: -(-(rows.stop - start) // step)]
            if self._base is not None:
                scaling = self.tensor(np.exp(g - self._base))
                yield rows, torch.mul(self._kept[rows], scaling, out=out)
                continue
            block = self.logits(self.read(start, rows.stop, step), g_work, out)
            block -= block.amax(dim=1, keepdim=True)
            yield rows, block.exp_()

    def finish(self, g: NDArray[np.float64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the row potentials and the rows' real mass; drop what was kept."""
        potential = torch.empty(self.n_rows, dtype=self.dtype, device=self.device)
        mass = self.row_mass.clone()
        k = self.n_real
        if np.abs(g).max(initial=0.0) > EXACT_POTENTIAL:
            self._base = None
        for start, stop, block, scaling in self.blocks(g):
            norm = block @ scaling
            potential[start:stop] = -torch.log(norm) - self.shift[start:stop]
            if self.virtual:
                mass[start:stop] *= (block[:, :k] @ scaling[:k]) / norm
        self._kept = self._base = None
        self.g = g
        return potential + self.row_mass.log(), mass

    def plan(self, start: int, stop: int) -> Array:
        block = torch.softmax(self.logits(self.read(start, stop), self.tensor(self.g)), dim=1)
        return self.native((block * self.row_mass[start:stop, None])[:, : self.n_real])


def to_numpy(values: Any) -> NDArray[Any]:
    """Return a tensor or array-like as a numpy array."""
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def check_scores(scores: Array) -> Array:
    """Return 2-D finite scores, numpy or torch; the first bad value is named."""
    if not isinstance(scores, (torch.Tensor, np.ndarray)):
        scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise ValueError(f"scores have shape {tuple(scores.shape)}, expected (rows, clusters)")
    if isinstance(scores, np.ndarray) and scores.dtype.kind not in "fiub":
        raise TypeError(f"scores must be numeric, got dtype {scores.dtype}")
    # On a GPU each look at a block waits for it.
    on_cpu = not torch.is_tensor(scores) or scores.device.type == "cpu"
    size = 4_096 if on_cpu else max(1, GPU_BLOCK_ITEMS // scores.shape[1])
    for start in range(0, len(scores), size):
        block = scores[start : start + size]
        block = block.detach() if isinstance(block, torch.Tensor) else block
        total = float(block.sum(dtype=torch.float64 if torch.is_tensor(block) else np.float64))
        if not np.isfinite(total):
            bad = np.argwhere(~np.isfinite(to_numpy(block)))
            row, column = bad[0]
            raise ValueError(
                f"scores[{start + row}, {column}] is {float(block[row, column])}: "
                f"scores must be finite ({len(bad)} bad values near it)"
            )
    return scores


def check_row_mass(marginal: Any, n: int, n_total: int, summed: Reduce) -> NDArray[np.float64]:
    """Return the rows' masses (n,), uniform by default; they sum to one over all processes."""
    if marginal is None:
        return np.full(n, 1.0 / n_total)
    mass = np.asarray(to_numpy(marginal), dtype=np.float64)
    if mass.shape != (n,):
        raise ValueError(f"row_marginal has shape {mass.shape}, expected ({n},)")
    if not mass.min(initial=1.0) > 0 or not np.isfinite(mass).all():
        raise ValueError(f"row_marginal must be positive and finite, its least is {mass.min()}")
    total = float(summed(np.array([mass.sum()]))[0])
    # Four digits written out still sum so near to one.
    if abs(total - 1) > 1e-4:
        raise ValueError(f"row_marginal must sum to 1, it sums to {total:.6g}: divide it by that")
    return mass / total
