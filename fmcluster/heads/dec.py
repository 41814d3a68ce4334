r"""DEC (Xie et al., ICML 2016) and IDEC (Guo et al., IJCAI 2017).

A stacked autoencoder (d-500-500-2000-k, pretrained as a denoiser) gives codes z. Centers start at
the means of spectral clusters of the codes; with the Student-t assignment and its target

.. math:: q_{ik} \propto (1 + \|z_i - \mu_k\|^2)^{-1}, \qquad
          p_{ik} \propto q_{ik}^2 / \textstyle\sum_i q_{ik},

DEC minimizes :math:`KL(P \| Q)` over encoder and centers; IDEC keeps the decoder and minimizes
:math:`\tfrac1d \|x - \hat x\|^2 + \gamma KL(P \| Q)`, :math:`\gamma = 0.1`. The target is computed
from all rows once an epoch, never from a batch, whose :math:`\sum_i q_{ik}` would be noise; the
assignments it needs are those that the last epoch's steps made anyway.

Against the papers: pretraining is end to end with Adam along a cosine (layer by layer with SGD
there); the code has as many dimensions as clusters (10 and 10 on MNIST); clusters and the first
target are those of the codes' neighbor graph, not of k-means. Training ends near where it begins,
and the best k-means of MNIST's codes, by its own objective, is wrong about two digits: from the
graph three seeds of IDEC on 20,000 rows ended at 90 to 92, from averaged codes at 79 to 82.
Meant for raw inputs such as pixels; frozen embeddings lose more in so narrow a code than they gain.
"""

from __future__ import annotations

import warnings
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fmcluster.heads.families.representation import RepresentationHead
from fmcluster.heads.networks.autoencoder import AutoEncoder, DenoisingObjective
from fmcluster.heads.spectral import SpectralHead
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.halves import two_threads
from fmcluster.heads.training.objective import Objective, Schedule
from fmcluster.heads.training.views import Batch
from fmcluster.partition.mini_clusters import group_sums
from fmcluster.utils import distributed
from fmcluster.utils.errors import CollapseWarning
from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import check_range
from fmcluster.vectors.fit_data import HeadData


def target_distribution(q: Tensor) -> Tensor:
    """Return P (n, k) from Q (n, k): squared, over cluster mass, rows summing to one."""
    weight = q.pow(2) / q.sum(dim=0).clamp_min(1e-12)
    return weight / weight.sum(dim=1, keepdim=True)


def group_means(
    codes: NDArray[np.float32], labels: NDArray[Any], empty: NDArray[Any]
) -> NDArray[np.float32]:
    """Return the mean code of each cluster (k, d); the row of `empty` where it has none."""
    sizes = np.bincount(labels, minlength=len(empty))[:, None]
    means = group_sums(codes, labels, len(empty)) / np.maximum(sizes, 1)
    return np.where(sizes > 0, means, empty).astype(np.float32)


@dataclass(eq=False, repr=False)
class DECObjective(Objective):
    """KL of the target, and reconstruction where it has a weight."""

    network: AutoEncoder
    _: KW_ONLY
    cluster_weight: float
    reconstruction_weight: float

    def __post_init__(self) -> None:
        self.q = torch.empty(0)

    def get_extra_state(self) -> Tensor:
        """Return the assignments: a resumed run's next target is made of them."""
        return self.q

    def set_extra_state(self, state: Tensor) -> None:
        """Take the assignments of a checkpoint."""
        self.q = state.to(self.q.device)

    @torch.no_grad()
    def start(self, data: TrainData) -> None:
        codes = data.map(self.network.embed).numpy()
        # Of too few clusters this head tells itself.
        with warnings.catch_warnings(action="ignore", category=CollapseWarning):
            found = SpectralHead(data.n_clusters, random_state=data.seed).fit(codes)
        draw = np.random.default_rng(seed_of(data.seed, "empty"))
        spare = codes[draw.choice(len(codes), data.n_clusters, replace=False)]
        centers = group_means(codes, found.labels_, spare)
        self.network.student.centres.copy_(torch.from_numpy(centers))
        q = torch.from_numpy(found.predict_proba(codes)).float()
        self.q = F.pad(q, (0, data.n_clusters - q.shape[1])).to(data.device)

    def before_epoch(self, epoch: int, data: TrainData) -> None:
        if epoch and distributed.is_launched():  # this process has seen its own rows only
            self.q = data.map(lambda xs: self.network(xs).softmax(dim=1)).to(data.device)
        self.target = target_distribution(self.q)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        x = self.network.input(batch.x)
        rebuilt = None
        if self.reconstruction_weight:
            code, rebuilt = self.network.rebuild(x)
        else:
            code = self.network.encode(x)
        log_q = self.network.student(code.float()).log_softmax(dim=1)
        self.q[batch.rows] = log_q.detach().exp()
        divergence = F.kl_div(log_q, self.target[batch.rows], reduction="batchmean")
        losses = {"loss": self.cluster_weight * divergence, "divergence": divergence}
        if rebuilt is not None:
            error = F.mse_loss(rebuilt.float(), x)
            losses["loss"] = losses["loss"] + self.reconstruction_weight * error
            losses["reconstruction"] = error
        return losses

    def trainable(self) -> list[nn.Parameter]:
        parts: list[nn.Module] = [self.network.encoder, self.network.student]
        if self.reconstruction_weight:
            parts.append(self.network.decoder)
        return [p for part in parts for p in part.parameters()]


@dataclass(eq=False, repr=False, kw_only=True)
class DECHead(RepresentationHead):
    """Deep embedded clustering.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the encoder's hidden layers.
    n_out : int, optional
        Dimensions of the code; by default one per cluster, at least 10.
    dropout : float
        Share of values dropped in pretraining.
    pretrain_epochs, epochs : int
        Length of the two stages.
    batch_size : int
        Rows per step.
    pretrain_rate : float
        Of Adam while pretraining.
    learning_rate : float, optional
        Of Adam while clustering; by default 1e-4 for DEC, 5e-4 for IDEC.
    min_steps : int
        Epochs of pretraining are added up to so many steps where there are few rows, and of
        clustering up to a quarter of them.
    """

    name = "dec"
    # Weights of divergence and reconstruction: DEC keeps no decoder.
    _weights = (1.0, 0.0)
    # The rate of ClustPy's clustering stage.
    _rate = 1e-4
    _orthogonal = True

    n_neighbors: int = field(default=0, init=False)
    # The papers' widths, share dropped, and (below) rows a step.
    hidden: tuple[int, ...] = (500, 500, 2000)
    dropout: float = 0.2
    # The longer stage: clusters are read off what it learns. Both are time.
    pretrain_epochs: int = 20
    epochs: int = 8
    batch_size: int = 256
    # Adam's own default; clustering goes more slowly, for it only refines.
    pretrain_rate: float = 1e-3
    learning_rate: float | None = None
    # Of few rows an epoch is a handful of steps, and the encoder begins at random.
    min_steps: int = 2_000

    def _network(self, dims: list[int], n_clusters: int) -> nn.Module:
        # The papers' ten outputs, or one a cluster.
        n_out = self.n_out or max(n_clusters, 10)
        return AutoEncoder(dims, self.hidden, n_out, n_clusters, orthogonal=self._orthogonal)

    def _train(self, data: HeadData, rows: TrainData) -> nn.Module:
        check_range(self.dropout, "dropout", low=0, high=1)
        network = self._fresh(data)
        with two_threads(torch.get_num_threads()) as network.run:
            self._stages(network, rows)
        network.run = None
        return network

    def _stages(self, network: AutoEncoder, rows: TrainData) -> None:
        schedule = Schedule(
            self.pretrain_epochs,
            self.batch_size,
            self.pretrain_rate,
            warmup_epochs=1,
            cosine=True,
            min_steps=self.min_steps,
        )
        self._stage("pretrain", DenoisingObjective(network, dropout=self.dropout), rows, schedule)
        cluster, reconstruction = self._weights
        objective = DECObjective(
            network, cluster_weight=cluster, reconstruction_weight=reconstruction
        )
        rate = self._rate if self.learning_rate is None else self.learning_rate
        # Clustering refines what the first stage learnt: a quarter of its steps.
        schedule = Schedule(self.epochs, self.batch_size, rate, min_steps=self.min_steps // 4)
        self._stage("cluster", objective, rows, schedule)


@dataclass(eq=False, repr=False, kw_only=True)
class IDECHead(DECHead):
    """Improved deep embedded clustering: DEC that keeps reconstructing.

    Its parameters are `DECHead`'s; the weight of the divergence is the paper's 0.1.
    """

    name = "idec"
    # The paper's gamma.
    _weights = (0.1, 1.0)
    # Half of the paper's 1e-3; higher, and codes leave what pretraining and the graph found.
    _rate = 5e-4
    # On MNIST it ends at 96.1, from orthogonal maps at 95.6.
    _orthogonal = False
