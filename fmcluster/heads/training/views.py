"""Views of a row for heads that live on pairs: one place decides, for all of them.

Cached embeddings of augmented inputs are used where the store has them. Without them a frozen
embedding has these stand-ins, in the order of how much they were found to help: a random nearest
neighbor, dropout of dimensions, a mixture with a neighbor, a little noise. Two random rows are
never mixed: that leaves the data's manifold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fmcluster.utils import distributed

if TYPE_CHECKING:
    from fmcluster.heads.training.data import TrainData

# Strengths of the views, in the order of how much they help: a neighbor, dropped dimensions, noise.
# Share of the rows that are mixed with a neighbor: the other half keeps the row itself in view.
NEIGHBOR_SHARE = 0.5
# Of the dimensions of a strong view; more leaves too little of the row.
STRONG_DROPOUT = 0.3
# Of a weak view, in standard deviations of a dimension.
WEAK_NOISE = 0.05


class Batch:
    """Rows of one step, their embeddings, and views of them on demand.

    Attributes
    ----------
    rows : Tensor (B,) int64
        Row numbers, on the training's device.
    host : Tensor (B,) int64
        The same on the host, for what is read from disk: to ask the device is to wait for it.
    x : list of Tensor (B, d_v)
        The clean embeddings, one per space.
    """

    def __init__(self, rows: Tensor, host: Tensor, views: Views) -> None:
        self.rows, self.host = rows, host
        self._views = views
        self.x = views.data.take(rows, host)

    def __len__(self) -> int:
        return len(self.rows)

    def neighbor(self) -> tuple[Tensor, list[Tensor]]:
        """Return a random neighbor of each row: its row numbers and its embeddings."""
        rows = self._views.neighbor_rows(self.rows)
        return rows, self._views.data.take(rows)

    def pairs(self) -> list[Tensor]:
        """Return every other row and then a random neighbor of each, one array per space."""
        near = self._views.neighbor_rows(self.rows[::2])
        other = self._views.data.take(near)
        return [torch.cat([x[::2], y]) for x, y in zip(self.x, other, strict=True)]

    def weak(self) -> list[Tensor]:
        """Return a weakly perturbed view of each row."""
        return self._views.cached(self.host) or self._views.weak(self.x)

    def strong(self) -> list[Tensor]:
        """Return a strongly perturbed view of each row."""
        return self._views.cached(self.host) or self._views.strong(self.rows, self.x)


class Views:
    """Makes the views of batches from one seeded stream.

    Parameters
    ----------
    data : TrainData
        Rows, neighbors and cached views.
    seed : int
        Base of the stream; `restart` sets it for an epoch, so that a resumed run sees the same.
    """

    def __init__(self, data: TrainData, *, seed: int) -> None:
        self.data = data
        self.seed = seed
        # On the device: noise that is drawn on the host waits to be sent.
        self.generator = torch.Generator(data.device).manual_seed(seed)
        self.host_generator = self.generator
        if data.device.type != "cpu":
            self.host_generator = torch.Generator().manual_seed(seed)
        self.n_cached = min(len(space.views) for space in data.spaces)

    def restart(self, epoch: int) -> None:
        """Begin the stream of an epoch."""
        # A prime above any number of epochs: streams of two seeds never meet.
        for generator in (self.generator, self.host_generator):
            generator.manual_seed((self.seed * 1_000_003 + epoch) % 2**63)

    def batch(self, rows: Tensor, host: Tensor | None = None) -> Batch:
        """Return the batch of these rows, of which the host's copy is `host`."""
        return Batch(rows, rows.cpu() if host is None else host, self)

    @property
    def _here(self) -> dict[str, Any]:
        """Where random numbers are drawn, and from what."""
        return {"generator": self.generator, "device": self.generator.device}

    def _mine(self, n_rows: int, draw: Callable[[int], Tensor]) -> Tensor:
        """Draw for the rows of all processes and keep this one's: as one process would draw."""
        first = distributed.rank() * n_rows
        return draw(n_rows * distributed.world_size())[first : first + n_rows]

    def _random(self, n_rows: int, width: int) -> Tensor:
        return self._mine(n_rows, lambda n: torch.rand(n, width, **self._here))

    def _normal(self, n_rows: int, width: int) -> Tensor:
        return self._mine(n_rows, lambda n: torch.randn(n, width, **self._here))

    def neighbor_rows(self, rows: Tensor) -> Tensor:
        """Return one random neighbor's number for each row (the row itself without a graph)."""
        table = self.data.neighbor_tensor
        if table is None:
            return rows
        width = table.shape[1]
        column = self._mine(len(rows), lambda n: torch.randint(width, (n,), **self._here))
        return table[rows, column].long()

    def cached(self, rows: Tensor) -> list[Tensor] | None:
        """Return one of the cached views of the host's `rows`, drawn anew; None without any."""
        if self.n_cached == 0:
            return None
        pick = int(torch.randint(self.n_cached, (), generator=self.host_generator))
        index = rows.numpy()
        return [
            torch.as_tensor(space.views[pick][index]).float().to(self.data.device)
            for space in self.data.spaces
        ]

    def weak(self, xs: list[Tensor]) -> list[Tensor]:
        """Return rows plus Gaussian noise, a twentieth of the spread of a dimension."""
        noisy = []
        for x in xs:
            noisy.append(_same_norm(x + WEAK_NOISE * x.std() * self._normal(*x.shape), x))
        return noisy

    def strong(self, rows: Tensor, xs: list[Tensor]) -> list[Tensor]:
        """Return rows half of which are mixed with a neighbor, all with dimensions dropped."""
        other = self.data.take(self.neighbor_rows(rows))
        # Beta(4, 4) as a mean of uniforms: symmetric about a half, rarely near an end.
        share = self._random(len(rows), 4).mean(dim=1, keepdim=True)
        share = torch.where(self._random(len(rows), 1) < NEIGHBOR_SHARE, share, 1.0)
        mixed = []
        for x, y in zip(xs, other, strict=True):
            z = _same_norm(share * x + (1 - share) * y, x)
            keep = self._random(*z.shape) >= STRONG_DROPOUT
            mixed.append(_same_norm(z * keep, x))
        return mixed


def _same_norm(z: Tensor, x: Tensor) -> Tensor:
    """Scale rows of `z` to the lengths of `x`: views must not differ by their length."""
    return F.normalize(z, dim=1) * x.norm(dim=1, keepdim=True)
