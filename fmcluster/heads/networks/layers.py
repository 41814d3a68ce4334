"""The layers of the small networks that heads train.

Each begins by bringing its input to unit variance: a linear layer at learning rate 1e-3 assumes
rows of length sqrt(d), and unit rows (length one) would hardly move it (METHODS: the input scale
decides whether SCAN and TURTLE learn at all).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmcluster.heads.training import draws
from fmcluster.utils import distributed
from fmcluster.vectors.rows import SECONDARY_WEIGHT


class InputScale(nn.Module):
    """Subtract the mean row and divide by the root mean square of what is left.

    Parameters
    ----------
    n_dims : int
        Dimensions of the space.
    """

    def __init__(self, n_dims: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_dims))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def fit(self, x: Tensor, *, center: bool = True) -> None:
        """Take scale and, to `center`, mean from rows ``x`` (n, d)."""
        self.mean.copy_(x.mean(dim=0) if center else torch.zeros_like(self.mean))
        rms = (x - self.mean).pow(2).mean().sqrt()
        self.scale.copy_(1 / rms if rms > 0 else torch.ones_like(rms))

    def forward(self, x: Tensor) -> Tensor:
        """Return scaled rows."""
        return (x - self.mean) * self.scale


class Heads(nn.Module):
    """H independent linear heads as one matrix product: (B, d) -> (B, H, K)."""

    def __init__(self, n_dims: int, n_clusters: int, n_heads: int) -> None:
        super().__init__()
        self.linear = draws.linear(n_dims, n_clusters * n_heads)
        self.shape = (n_heads, n_clusters)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, H, K)."""
        return self.linear(x).unflatten(1, self.shape)


class CosineHead(nn.Module):
    """Logits ``10 cos(x, prototype)`` (B, K) over unit prototypes."""

    # Of cosines, a softmax at 1 is nearly even and at 100 nearly a choice of the nearest.
    scale = 10.0

    def __init__(self, n_dims: int, n_clusters: int) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(F.normalize(draws.normal(n_clusters, n_dims), dim=1))

    def forward(self, x: Tensor) -> Tensor:
        """Return scaled cosines."""
        return self.scale * F.normalize(x, dim=1) @ F.normalize(self.prototypes, dim=1).T


class JointInput(nn.Module):
    """Several spaces, each brought to unit variance, weighted and joined: (B, sum of d_v).

    Parameters
    ----------
    dims : sequence of int
        Dimensions of each space; all but the first count `SECONDARY_WEIGHT`.
    """

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.scales = nn.ModuleList([InputScale(d) for d in dims])
        self.weights = [1.0] + [SECONDARY_WEIGHT] * (len(dims) - 1)
        self.n_dims = sum(dims)

    def fit(self, xs: Sequence[Tensor], *, center: bool = True) -> None:
        """Take means and scales from a sample of rows of each space."""
        for scale, x in zip(self.scales, xs, strict=True):
            scale.fit(x, center=center)

    def forward(self, xs: Sequence[Tensor]) -> Tensor:
        """Return the joined rows."""
        parts = [w * scale(x) for w, scale, x in zip(self.weights, self.scales, xs, strict=True)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class UnitInput(nn.Module):
    """Rows of several spaces, each of length one, weighted and joined, then of length sqrt(d).

    Needs no statistics of the data: for heads whose first layer is made of centroids and followed
    by a batch normalization.
    """

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.weights = [1.0] + [SECONDARY_WEIGHT] * (len(dims) - 1)
        self.n_dims = sum(dims)

    def forward(self, xs: Sequence[Tensor]) -> Tensor:
        """Return the joined rows (B, sum of d_v)."""
        parts = [w * F.normalize(x, dim=1) for w, x in zip(self.weights, xs, strict=True)]
        joined = parts[0] if len(parts) == 1 else F.normalize(torch.cat(parts, dim=1), dim=1)
        return joined * self.n_dims**0.5


class BatchNorm(nn.BatchNorm1d):
    """Batch normalization whose statistics are those of the batch over all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """Return normalized rows (B, d)."""
        if not (self.training and distributed.is_launched()):
            return super().forward(x)
        mean = distributed.mean_over_ranks(x.mean(dim=0))
        var = distributed.mean_over_ranks((x - mean).pow(2).mean(dim=0))
        with torch.no_grad():
            n = len(x) * distributed.world_size()
            momentum = self.momentum or 0.1  # torch's own default
            self.running_mean.lerp_(mean.detach(), momentum)
            self.running_var.lerp_(var.detach() * n / max(n - 1, 1), momentum)
            self.num_batches_tracked += 1
        return (x - mean) * (var + self.eps).rsqrt() * self.weight + self.bias


def mlp(dims: Sequence[int]) -> nn.Sequential:
    """Return linear layers over `dims`, each with a ReLU after it but the last."""
    layers: list[nn.Module] = []
    for a, b in pairwise(dims):
        layers += [draws.linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
