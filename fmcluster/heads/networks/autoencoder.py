"""The stacked autoencoder of DEC and IDEC, and its pretraining as a denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmcluster.heads.networks.layers import JointInput, mlp
from fmcluster.heads.training import draws
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.halves import Runner, by_halves
from fmcluster.heads.training.objective import Objective
from fmcluster.heads.training.views import Batch


class StudentT(nn.Module):
    r"""Log of :math:`q_k \propto (1 + \|z - \mu_k\|^2)^{-1}` (B, K): logits over centers."""

    def __init__(self, n_dims: int, n_clusters: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(draws.normal(n_clusters, n_dims))

    def forward(self, z: Tensor) -> Tensor:
        # Through the products: the differences (B, K, d) would be larger than all else here.
        square = z.pow(2).sum(dim=1, keepdim=True) + self.centres.pow(2).sum(dim=1)
        return -torch.log1p((square - 2 * z @ self.centres.T).clamp_min(0))


@torch.no_grad()
def keep_lengths(layers: nn.Sequential) -> None:
    """Start linear layers at orthogonal maps (Saxe et al., ICLR 2014), times sqrt 2 before a ReLU.

    Such a map keeps the lengths of what it does not project out. PyTorch's own start leaves a sixth
    of a signal's variance at each of eight layers, and pretraining hundreds of steps to undo that.
    """
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    for layer in linear:
        gain = 1.0 if layer is linear[-1] else 2**0.5
        nn.init.orthogonal_(layer.weight, gain=gain, generator=draws.generator())
        nn.init.zeros_(layer.bias)


class AutoEncoder(nn.Module):
    """Spaces -> code -> logits over centers; the decoder is for training.

    Parameters
    ----------
    dims : sequence of int
        Dimensions of each space.
    hidden : sequence of int
        Widths of the hidden layers.
    n_out : int
        Dimensions of the code.
    n_clusters : int
        Number of centers.
    orthogonal : bool
        Start at maps that keep lengths, else at PyTorch's own.

    Attributes
    ----------
    run : Runner, optional
        Set while training: the halves of a batch then go through it.
    """

    run: Runner | None = None

    def __init__(
        self,
        dims: Sequence[int],
        hidden: Sequence[int],
        n_out: int,
        n_clusters: int,
        *,
        orthogonal: bool = True,
    ) -> None:
        super().__init__()
        self.input = JointInput(dims)
        widths = [self.input.n_dims, *hidden, n_out]
        self.encoder = mlp(widths)
        self.decoder = mlp(widths[::-1])
        self.student = StudentT(n_out, n_clusters)
        for layers in (self.encoder, self.decoder) if orthogonal else ():
            keep_lengths(layers)

    def start(self, data: TrainData) -> None:
        """Scale rows to |x|^2 / d = 1 on average, as DEC's first experiment did."""
        self.input.fit(data.sample(), center=False)

    def encode(self, x: Tensor) -> Tensor:
        """Return codes (B, n_out) of scaled rows (B, d), for training."""
        return by_halves([self.encoder], x, self.run)[0]

    def rebuild(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes (B, n_out) and rebuilt rows (B, d) of scaled rows, for training."""
        code, rebuilt = by_halves([self.encoder, self.decoder], x, self.run)
        return code, rebuilt

    def embed(self, xs: Sequence[Tensor]) -> Tensor:
        """Return codes (B, n_out)."""
        return self.encoder(self.input(xs))

    def forward(self, xs: Sequence[Tensor]) -> Tensor:
        return self.student(self.embed(xs))


@dataclass(eq=False, repr=False)
class DenoisingObjective(Objective):
    """Mean squared error of rows rebuilt from rows with some values dropped."""

    network: AutoEncoder
    _: KW_ONLY
    dropout: float

    def start(self, data: TrainData) -> None:
        self.network.start(data)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        x = self.network.input(batch.x)
        # Half the time of F.dropout: uniform numbers, and no booleans to turn into floats.
        kept = draws.uniform_like(x).sub_(self.dropout).sign_().clamp_min_(0)
        noisy = kept.mul_(x).div_(max(1 - self.dropout, 1e-6))
        _, rebuilt = self.network.rebuild(noisy)
        return {"loss": F.mse_loss(rebuilt.float(), x)}
