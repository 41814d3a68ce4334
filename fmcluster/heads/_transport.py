"""What `sela`, `p2ot` and `sp2ot` share: pseudo-labels from one global transport plan an epoch.

The published methods solve a plan for each batch or for a bank of recent batches. Embeddings that
are frozen allow one plan over all rows, once an epoch, warm-started from the last.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from fmcluster.functional.losses import soft_cross_entropy
from fmcluster.functional.ot import sinkhorn
from fmcluster.heads._cosine import CosineNetwork
from fmcluster.heads._prior import PriorTarget
from fmcluster.heads.base import HeadData
from fmcluster.heads.trained import TrainedHead
from fmcluster.heads.trainer import Objective, Schedule, TrainData, TrainOptions
from fmcluster.heads.views import Batch


class TransportObjective(Objective):
    """Cross-entropy of a neighbour's view to the row's share of the plan.

    Parameters
    ----------
    network : CosineNetwork
        What is trained.
    prior : PriorTarget
        Column marginal, given out by rank of the clusters' present shares.
    epsilon, col_penalty : float
        Of `sinkhorn`, on log-probabilities.
    """

    def __init__(
        self, network: CosineNetwork, *, prior: PriorTarget, epsilon: float, col_penalty: float
    ) -> None:
        super().__init__()
        self.network = network
        self.prior = prior
        self.epsilon = epsilon
        self.col_penalty = col_penalty
        self.rho = 1.0
        self.last: Any = None

    def start(self, data: TrainData) -> None:
        self.network.start(data)

    def plan(self, scores: Tensor) -> Tensor:
        """Return targets (n, k): the plan times n, rows summing to their assigned share."""
        with warnings.catch_warnings():
            # A plan at tolerance 1e-3 teaches no worse than an exact one.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.last = sinkhorn(
                scores,
                col_marginal=self.prior.target.cpu().double().numpy(),
                epsilon=self.epsilon,
                rho=self.rho,
                col_penalty=self.col_penalty,
                tol=1e-3,
                max_iter=200,
            )
        return torch.as_tensor(self.last.plan) * len(scores)

    def before_epoch(self, epoch: int, data: TrainData) -> None:
        scores = data.map(lambda xs: self.network(xs).log_softmax(dim=1))
        if self.prior.needs_shares:
            self.prior.align(scores.exp().mean(dim=0))
        self.targets = self.plan(scores).float().to(data.device)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        target = self.targets[batch.rows]
        own = soft_cross_entropy(self.network(batch.weak()), target)
        near = soft_cross_entropy(self.network(batch.neighbour()[1]), target)
        mass = target.sum(dim=1)
        loss = (own + near).sum() / (2 * mass.sum().clamp_min(1e-6))
        return {"loss": loss, "assigned": mass.mean()}


class TransportHead(TrainedHead):
    """Base of the heads that learn from a transport plan."""

    min_clusters = 1
    cluster_prior: Any
    epochs: int
    batch_size: int
    learning_rate: float
    options: TrainOptions | None

    def _network(self, dims: list[int], n_clusters: int) -> nn.Module:
        return CosineNetwork(dims, n_clusters)

    def _objective(
        self, network: CosineNetwork, prior: PriorTarget, data: HeadData
    ) -> TransportObjective:
        raise NotImplementedError

    def _train(self, data: HeadData, rows: TrainData) -> nn.Module:
        prior = PriorTarget.resolve(self.cluster_prior, data)
        network = CosineNetwork([space.n_dims for space in data.spaces], data.n_clusters)
        objective = self._objective(network, prior, data)
        schedule = Schedule(self.epochs, self.batch_size, self.learning_rate)
        self._stage("transport", objective, rows, schedule)
        self.cluster_prior_ = prior.shares(network, rows)
        return network
