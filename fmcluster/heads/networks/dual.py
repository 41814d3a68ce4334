"""CDC's networks: one trunk with many last layers, and the mean over them for inference."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fmcluster.functional.consensus import align_columns
from fmcluster.heads.networks.layers import BatchNorm, Heads, UnitInput
from fmcluster.heads.training import draws
from fmcluster.heads.training.data import TrainData
from fmcluster.vectors.rows import BLOCK_ROWS

# Rows that prototypes and mini-clusters are made from, and that starts are aligned on: the time
# of the k-means of hundreds of prototypes.
SAMPLE_ROWS = 100_000


def over_blocks(function: Callable[[list[Tensor]], Tensor], xs: list[Tensor]) -> Tensor:
    """Apply `function` to all spaces' rows (n, d_v), some at a time."""
    parts = zip(*(x.split(BLOCK_ROWS) for x in xs), strict=True)
    return torch.cat([function(list(part)) for part in parts])


class DualHead(nn.Module):
    """One trunk with H last layers: rows (B, d) -> logits (B, H, K).

    Parameters
    ----------
    n_inputs, hidden, n_clusters, n_heads : int
        Sizes of the layers; number of last layers.
    """

    def __init__(self, n_inputs: int, hidden: int, n_clusters: int, n_heads: int) -> None:
        super().__init__()
        self.first = draws.linear(n_inputs, hidden)
        self.norm = BatchNorm(hidden)
        self.last = Heads(hidden, n_clusters, n_heads)

    def hidden(self, x: Tensor) -> Tensor:
        """Return the trunk's output (B, hidden)."""
        return self.norm(self.first(x)).relu()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, H, K)."""
        return self.last(self.hidden(x))

    def some(self, x: Tensor, heads: Tensor) -> Tensor:
        """Return the logits (B, h, K) of some of the last layers."""
        linear, shape = self.last.linear, self.last.shape
        weight, bias = linear.weight.unflatten(0, shape)[heads], linear.bias.unflatten(0, shape)
        z = nn.functional.linear(self.hidden(x), weight.flatten(0, 1), bias[heads].flatten())
        return z.unflatten(1, (len(heads), -1))


class CDCNetwork(nn.Module):
    """Inference: the mean over starts of aligned probabilities, as log-probabilities (m, k)."""

    def __init__(self, joint: UnitInput, head: DualHead) -> None:
        super().__init__()
        self.input = joint
        self.head = head

    def forward(self, xs: list[Tensor]) -> Tensor:
        """Return log-probabilities (m, k)."""
        return self.head(self.input(xs)).softmax(dim=-1).mean(dim=1).clamp_min(1e-30).log()

    @torch.no_grad()
    def align(self, data: TrainData) -> None:
        """Put the outputs of all starts into one order, which those of classes have already."""
        n_heads, n_clusters = self.head.last.shape
        n_classes = 0 if data.fixed is None else data.fixed.n_classes
        if n_heads == 1 or n_classes == n_clusters:
            return
        xs = data.sample(SAMPLE_ROWS)
        proba = over_blocks(lambda xs: self.head(self.input(xs)).softmax(dim=-1).cpu(), xs)
        order = torch.arange(n_clusters).repeat(n_heads, 1)
        order[:, n_classes:] = n_classes + torch.from_numpy(
            align_columns(proba[:, :, n_classes:].numpy())
        )
        flat = (order + n_clusters * torch.arange(n_heads)[:, None]).flatten()
        linear = self.head.last.linear
        flat = flat.to(linear.weight.device)
        linear.weight.copy_(linear.weight[flat].clone())
        linear.bias.copy_(linear.bias[flat].clone())
