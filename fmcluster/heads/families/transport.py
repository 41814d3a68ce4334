"""A cosine head that starts at the k-means centroids: what the pseudo-label families train."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torch.nn import functional as F

from fmcluster.functional.losses import labeled_cross_entropy, soft_cross_entropy
from fmcluster.functional.ot import SinkhornResult, sinkhorn
from fmcluster.heads.networks.layers import CosineHead, JointInput
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.head import TrainedHead
from fmcluster.heads.training.objective import Objective
from fmcluster.heads.training.prior import PriorTarget
from fmcluster.heads.training.views import Batch
from fmcluster.partition.kmeans import N_INIT, spherical_kmeans
from fmcluster.utils import distributed
from fmcluster.vectors.fit_data import HeadData

# Rows of the k-means that prototypes start at: its time and memory, however many rows there are.
SAMPLE_ROWS = 200_000
# Log-probability of all other clusters for a row whose class is known: out of a neighbor's reach.
FAR = -30.0
# By what share the marginals of a plan may be off: it is made anew every epoch.
PLAN_TOLERANCE = 1e-3
# Passes over the rows at most: a plan that has not come so near is taken as it is.
PLAN_PASSES = 200


class CosineNetwork(nn.Module):
    """Spaces -> logits: ten times the cosines to prototypes."""

    def __init__(self, dims: Sequence[int], n_clusters: int) -> None:
        super().__init__()
        self.input = JointInput(dims)
        self.head = CosineHead(self.input.n_dims, n_clusters)

    @torch.no_grad()
    def start(self, data: TrainData) -> None:
        """Take the input scale from the data and prototypes from spherical k-means."""
        self.input.fit(data.sample())
        sample = F.normalize(self.input(data.sample(SAMPLE_ROWS)), dim=1).cpu().numpy()
        k = data.n_clusters
        found = spherical_kmeans(sample, k, n_init=N_INIT, seed=data.seed % 2**31)
        start = torch.from_numpy(found.copy())
        if data.fixed is not None:
            known = F.normalize(self.input(data.take(data.fixed.rows)), dim=1)
            start = data.fixed.first(start, known)
        self.head.prototypes.copy_(start)

    def forward(self, xs: Sequence[Tensor]) -> Tensor:
        return self.head(self.input(xs))


@dataclass(eq=False, repr=False)
class TransportObjective(Objective):
    """Cross-entropy of a neighbor's view to the row's share of the plan.

    Parameters
    ----------
    network : CosineNetwork
        What is trained.
    prior : PriorTarget
        Column marginal, given out by rank of the clusters' present shares.
    epsilon, col_penalty, rho : float
        Of `sinkhorn`, on log-probabilities.
    """

    network: CosineNetwork
    _: KW_ONLY
    prior: PriorTarget
    epsilon: float
    col_penalty: float
    rho: float = 1.0

    def start(self, data: TrainData) -> None:
        self.network.start(data)
        self.classes = None if data.fixed is None else data.fixed.per_row(data.n_rows)

    def before_epoch(self, epoch: int, data: TrainData) -> None:
        # Not modules: neither trained, nor sent, nor part of a checkpoint.
        self.then = {key: value.clone() for key, value in self.network.state_dict().items()}
        if self.prior.needs_shares:
            self.prior.align(data.mean(lambda xs: self.scores(xs).exp()))
        own = distributed.my_block(data.n_rows)
        scores = torch.empty(len(own), data.n_clusters, device=data.device)
        with torch.no_grad():
            for where, xs in data.blocks(rows=own):
                scores[where.start - own.start : where.stop - own.start] = self.scores(xs)
        if self.classes is not None:
            classes = self.classes[own.start : own.stop]
            known = classes >= 0
            scores[known] = FAR * (1 - F.one_hot(classes[known], data.n_clusters).to(scores))
        self.learn(scores, data)

    def scores(self, xs: list[Tensor]) -> Tensor:
        """Return log-probabilities (m, k) under the weights at the start of the epoch."""
        logits = torch.func.functional_call(self.network, self.then, (xs,))
        return logits.log_softmax(dim=1)

    def learn(self, scores: Tensor, data: TrainData) -> None:
        """Solve the plan of all rows; this process has the scores (m, k) of its own."""
        found = self.solve(scores)
        potential = torch.as_tensor(found.col_potential)
        if found.virtual_potential is not None:
            potential = torch.cat([potential, potential.new_tensor([found.virtual_potential])])
        self.potential = potential.to(data.device)

    def solve(self, scores: Tensor) -> SinkhornResult:
        """Return the plan of all processes' rows, of which this one holds its own."""
        # A plan at tolerance 1e-3 teaches no worse than an exact one.
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            return sinkhorn(
                scores,
                col_marginal=self.prior.target.cpu().double().numpy(),
                epsilon=self.epsilon,
                rho=self.rho,
                col_penalty=self.col_penalty,
                tol=PLAN_TOLERANCE,
                max_iter=PLAN_PASSES,
                reduce=distributed.sum_over_ranks,
            )

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """Return the batch's rows (B, k) of the plan times n; they sum to their assigned share."""
        with torch.autocast(self.potential.device.type, enabled=False):
            scores = self.scores(batch.x)
        k = scores.shape[1]
        # The virtual cluster of a partial plan comes last and has score zero.
        padded = F.pad(scores, (0, len(self.potential) - k)) + self.potential
        return (padded / self.epsilon).softmax(dim=1)[:, :k]

    def held(self, target: Tensor, batch: Batch) -> Tensor:
        """Return the targets (B, k), of rows whose class a person said that class alone."""
        if self.classes is None:
            return target
        classes = self.classes[batch.rows.to(self.classes.device)]
        certain = F.one_hot(classes.clamp_min(0), target.shape[1]).to(target)
        return torch.where((classes >= 0)[:, None], certain, target)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        target = self.held(self.target(batch), batch)
        own = soft_cross_entropy(self.network(batch.weak()), target)
        near = soft_cross_entropy(self.network(batch.neighbor()[1]), target)
        mass = target.sum(dim=1)
        total = distributed.mean_over_ranks(mass.sum()).clamp_min(1e-6)
        return {"loss": (own + near).sum() / (2 * total), "assigned": mass.mean()}

    def labeled_loss(self, xs: list[Tensor], target: Tensor) -> Tensor:
        return labeled_cross_entropy(self.network(xs), target)


@dataclass(eq=False, repr=False, kw_only=True)
class TransportHead(TrainedHead):
    """Base of the heads that learn from a transport plan.

    Parameters
    ----------
    cluster_prior : "uniform", "estimate" or array (k,)
        Sizes of the clusters in the plan; the papers: uniform.
    """

    fits_one_cluster = True

    cluster_prior: Any = "uniform"

    def _network(self, dims: list[int], n_clusters: int) -> nn.Module:
        return CosineNetwork(dims, n_clusters)

    def _objective(self, network: CosineNetwork, prior: PriorTarget) -> TransportObjective:
        raise NotImplementedError

    def _train(self, data: HeadData, rows: TrainData) -> nn.Module:
        prior = PriorTarget.resolve(self.cluster_prior, data)
        network = self._fresh(data)
        objective = self._objective(network, prior)
        self._stage("transport", objective, rows, self._schedule())
        self.cluster_prior_ = prior.shares(network, rows)
        return network
