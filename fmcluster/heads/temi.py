r"""TEMI: exploring the limits of deep image clustering with pretrained models (BMVC 2023).

H heads train side by side, each a student and a teacher that follows it slowly. For a row x and a
random one x' of its nearest neighbors,

.. math:: L = -\frac1{2H} \sum_h E\big[ w(x, x')\,(PMI_h(x, x') + PMI_h(x', x)) \big], \quad
          PMI_h(x, x') = \log \sum_k \frac{(q^s_h(k|x)\, q^t_h(k|x'))^\beta}{\bar q^t_h(k)},

with :math:`w(x,x') = \frac1H \sum_h \sum_k q^t_h(k|x) q^t_h(k|x')` and :math:`\bar q^t` a running
mean of the teacher's output. The head of lowest loss is kept, and its teacher predicts.

Dividing by :math:`\bar q^t` pulls to balanced sizes; with a prior :math:`\pi` it is divided by
:math:`\bar q^t / (K \pi)` instead, which pulls to :math:`\pi`. All heads are one matrix product per
layer.
"""

from __future__ import annotations

import copy
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fmcluster.functional.losses import pmi
from fmcluster.heads.networks.layers import JointInput
from fmcluster.heads.training import draws
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.head import TrainedHead
from fmcluster.heads.training.objective import Objective
from fmcluster.heads.training.prior import PriorTarget
from fmcluster.heads.training.views import Batch
from fmcluster.heads.training.warm_start import start_labels, warm_start
from fmcluster.utils import distributed
from fmcluster.utils.validation import check_range
from fmcluster.vectors.fit_data import HeadData

# The paper's, of student and teacher alike.
TEMPERATURE = 0.1
# The paper's: about ten batches make the running mean of the clusters' shares.
MARGINAL_MOMENTUM = 0.9


class ProjectionHeads(nn.Module):
    """H DINO heads at once: Linear - GELU - Linear - unit length - unit prototypes.

    Parameters
    ----------
    n_inputs, n_clusters, n_heads : int
        Sizes of input and output, number of heads.
    hidden, bottleneck : int
        Sizes of the two layers between.
    """

    def __init__(
        self, n_inputs: int, n_clusters: int, n_heads: int, *, hidden: int, bottleneck: int
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.first = draws.linear(n_inputs, n_heads * hidden)
        self.second = nn.Parameter(torch.empty(n_heads, hidden, bottleneck))
        self.bias = nn.Parameter(torch.zeros(n_heads, 1, bottleneck))
        self.last = nn.Parameter(torch.empty(n_heads, bottleneck, n_clusters))
        nn.init.zeros_(self.first.bias)
        # The deviation of vision transformers' layers.
        for weight in (self.first.weight, self.second, self.last):
            nn.init.trunc_normal_(weight, std=0.02, generator=draws.generator())

    def forward(self, x: Tensor, *, freeze_last: bool = False) -> Tensor:
        """Return logits (H, B, K) of rows (B, d)."""
        h = F.gelu(self.first(x)).unflatten(1, (self.n_heads, -1)).transpose(0, 1)
        h = F.normalize(torch.baddbmm(self.bias, h, self.second), dim=-1)
        last = F.normalize(self.last, dim=1)
        return torch.bmm(h, last.detach() if freeze_last else last) / TEMPERATURE

    def single(self, head: int) -> ProjectionHeads:
        """Return a copy of one head."""
        one = ProjectionHeads(
            self.first.in_features,
            self.last.shape[2],
            1,
            hidden=self.second.shape[1],
            bottleneck=self.second.shape[2],
        )
        hidden = self.second.shape[1]
        where = slice(head * hidden, (head + 1) * hidden)
        state = {
            "first.weight": self.first.weight[where],
            "first.bias": self.first.bias[where],
            "second": self.second[head : head + 1],
            "bias": self.bias[head : head + 1],
            "last": self.last[head : head + 1],
        }
        one.load_state_dict({key: value.detach().clone() for key, value in state.items()})
        return one


class TEMINetwork(nn.Module):
    """Inference: input scaling and one head, rows -> logits (m, k)."""

    def __init__(self, joint: JointInput, heads: ProjectionHeads) -> None:
        super().__init__()
        self.input = joint
        self.heads = heads

    def forward(self, xs: list[Tensor]) -> Tensor:
        """Return logits (m, k)."""
        return self.heads(self.input(xs))[0]


@dataclass(eq=False, repr=False)
class TEMIObjective(Objective):
    """Students, their teachers, and the weighted pointwise mutual information."""

    dims: list[int]
    n_clusters: int
    _: KW_ONLY
    n_heads: int
    hidden: int
    bottleneck: int
    beta: float
    momentum: float
    prior: PriorTarget
    start_labels: NDArray[np.int64] | None = None
    head_losses: Tensor = field(init=False)
    marginal: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.input = JointInput(self.dims)
        h, k = self.n_heads, self.n_clusters
        self.student = ProjectionHeads(
            self.input.n_dims, k, h, hidden=self.hidden, bottleneck=self.bottleneck
        )
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.epoch = 0
        self.register_buffer("marginal", torch.full((h, k), 1 / k))
        self.register_buffer("head_losses", torch.zeros(h))

    def start(self, data: TrainData) -> None:
        """Scale the input; learn the start partition, if there is one."""
        self.input.fit(data.sample())
        if self.start_labels is not None:
            warm_start(
                lambda xs: self.student(self.input(xs)),
                self.student.parameters(),
                self.start_labels,
                data,
            )
            self.teacher.load_state_dict(self.student.state_dict())

    def before_epoch(self, epoch: int, data: TrainData) -> None:
        """Begin the epoch's sum of losses; give out the prior."""
        self.epoch = epoch
        self.head_losses.zero_()
        if self.prior.needs_shares:
            self.prior.align(self.marginal)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        x = self.input(batch.pairs())
        n = len(x) // 2
        student = self.student(x, freeze_last=self.epoch == 0).softmax(dim=-1)
        with torch.no_grad():
            teacher = self.teacher(x).softmax(dim=-1)
            seen = distributed.mean_over_ranks(teacher.mean(dim=1))
            self.marginal.lerp_(seen, 1 - MARGINAL_MOMENTUM)
            weight = (teacher[:, :n] * teacher[:, n:]).sum(dim=-1).mean(dim=0)
            marginal = self.marginal
            if not self.prior.is_uniform:
                target = self.prior.target.to(marginal.device)
                marginal = marginal / (marginal.shape[1] * target)
        swapped = torch.cat([teacher[:, n:], teacher[:, :n]], dim=1)
        values = pmi(student, swapped, marginal[:, None], beta=self.beta)
        losses = -(values * weight.repeat(2)).mean(dim=1)
        self.head_losses += losses.detach()
        return {"loss": losses.mean(), "pair_weight": weight.mean()}

    @torch.no_grad()
    def after_step(self) -> None:
        pairs = zip(self.teacher.parameters(), self.student.parameters(), strict=True)
        for teacher, student in pairs:
            teacher.lerp_(student, 1 - self.momentum)

    def network(self) -> tuple[TEMINetwork, int]:
        """Return the inference network of the head with the lowest loss, and its number."""
        best = int(self.head_losses.argmin())
        return TEMINetwork(self.input, self.teacher.single(best)), best


@dataclass(eq=False, repr=False, kw_only=True)
class TEMIHead(TrainedHead):
    """TEMI: pairs of neighbors, many heads, slow teachers.

    Parameters
    ----------
    n_neighbors : int
        Nearest neighbors to draw a pair from (the paper: 25 to 50).
    n_heads : int
        Heads trained side by side (the paper: 16); the one with the lowest loss is kept.
    beta : float
        1 is the exact mutual information; the paper's default for up to 200 clusters is 0.6.
    hidden, bottleneck : int
        Sizes of the projection head.
    teacher_momentum : float
        How slowly a teacher follows (the paper: 0.996 over thousands of steps). Where sizes are
        balanced and steps are hundreds, 0.93 gains points, and it loses more where they are not.
    init : {"paper", "partition"}
        Random heads, or heads that first learn the best-scored label-free partition.
    cluster_prior : "uniform", "estimate" or array (k,)
        Sizes that the marginal is divided by; the paper: uniform.
    epochs, min_steps : int
        Passes over the rows (each pass pairs half of them with a neighbor); on few rows epochs
        are added until `min_steps` steps are taken.
    warmup_epochs : int
        Linear increase of the learning rate.
    batch_size, learning_rate
        Rows per step; of AdamW.
    """

    name = "temi"

    # The upper end of the paper's: fewer are purer pairs, more say more than the row itself.
    n_neighbors: int = 50
    # A quarter of the paper's: each more is time, and one is kept.
    n_heads: int = 4
    beta: float = 0.6
    # Of both: wider is time and more to fit, narrower tells fewer clusters apart.
    hidden: int = 512
    bottleneck: int = 256
    teacher_momentum: float = 0.99
    init: str = "paper"
    cluster_prior: Any = "uniform"
    # Time; on few rows the least number of steps counts, as a slow teacher has to get somewhere.
    epochs: int = 30
    min_steps: int = 600
    # A tenth of the epochs: a full rate at once throws random weights about.
    warmup_epochs: int = 3
    # Fewer rows are a noisier share of each cluster, more are fewer steps an epoch.
    batch_size: int = 512

    def _network(self, dims: list[int], n_clusters: int) -> nn.Module:
        joint = JointInput(dims)
        heads = ProjectionHeads(
            joint.n_dims, n_clusters, 1, hidden=self.hidden, bottleneck=self.bottleneck
        )
        return TEMINetwork(joint, heads)

    def _train(self, data: HeadData, rows: TrainData) -> nn.Module:
        check_range(self.beta, "beta", low=0)
        prior = PriorTarget.resolve(self.cluster_prior, data, n_heads=self.n_heads)
        objective = TEMIObjective(
            [space.n_dims for space in data.spaces],
            data.n_clusters,
            n_heads=self.n_heads,
            hidden=self.hidden,
            bottleneck=self.bottleneck,
            beta=self.beta,
            momentum=self.teacher_momentum,
            prior=prior,
            start_labels=start_labels(self.init, data),
        )
        schedule = self._schedule(
            optimizer="adamw",
            weight_decay=1e-4,  # the paper's
            warmup_epochs=self.warmup_epochs,
            min_steps=self.min_steps,
        )
        self._stage("heads", objective, rows, schedule)
        network, best = objective.network()
        self.cluster_prior_ = prior.shares(network, rows)
        return network
