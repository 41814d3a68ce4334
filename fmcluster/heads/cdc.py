r"""CDC: calibrated deep clustering (ICLR 2025), on frozen embeddings.

Two heads of one shape, Linear - BatchNorm - ReLU - Linear, start from the same prototypes. The
clustering head learns pseudo-labels that the calibration head chose,

.. math:: L_{clu} = CE(z^{clu}(x^s_i), \arg\max_k p^{cal}_{ik}), \quad i \in \bigcup_k S_k,

where :math:`S_k` holds the :math:`n_k = \lfloor N \pi_k \bar c_k \rfloor` rows of largest
:math:`p^{cal}_{\cdot k}` and :math:`\bar c_k` is the mean confidence of the first
:math:`N \pi_k` of them: few rows while confidence is low, all when it is one. The calibration head
learns what a row's region believes on average,

.. math:: L_{cal} = -\frac1N \sum_i \sum_k t_{ik} \log p^{cal}_{ik}
          + w\, KL\big(\bar p^{cal} \,\|\, \pi\big), \quad t_i = \tfrac12 (t^{mini}_i + t^{knn}_i),

so that it is sure only where a whole region agrees. With a uniform :math:`\pi` this is the paper's
entropy term up to a constant. As the embeddings do not change, mini-clusters are computed once,
targets once an epoch, and no row is part of its own target. Probabilities are the calibration
head's.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fmcluster import distributed
from fmcluster._validation import check_in, check_range
from fmcluster.functional.losses import kl_to_prior, soft_cross_entropy
from fmcluster.heads._prior import PriorTarget
from fmcluster.heads.base import HeadData
from fmcluster.heads.kmeans import spherical_kmeans
from fmcluster.heads.networks import BatchNorm, UnitInput
from fmcluster.heads.prototypes import prototypes, spread, standardise_rows
from fmcluster.heads.trained import TrainedHead
from fmcluster.heads.trainer import Objective, Schedule, TrainData, TrainOptions
from fmcluster.heads.views import Batch

INITS = ("paper", "partition")
OUTPUTS = ("calibration", "clustering")
ROWS_A_MINI_CLUSTER = 25
MAX_MINI_CLUSTERS = 4_096


def calibrated_selection(proba: Tensor, shares: Tensor) -> Tensor:
    """Return which rows (N,) teach: for each class its most probable, as many as it is sure of.

    Parameters
    ----------
    proba : Tensor (N, K)
        The calibration head's probabilities.
    shares : Tensor (K,)
        Prior share of each class; class k can choose at most ``N * shares[k]`` rows.
    """
    n_rows = len(proba)
    confidence = proba.max(dim=1).values
    chosen = torch.zeros(n_rows, dtype=torch.bool)
    order = proba.argsort(dim=0, descending=True, stable=True)
    for k, share in enumerate(shares.tolist()):
        first = order[: max(1, round(n_rows * share)), k]
        n_kept = int(len(first) * float(confidence[first].mean()))
        chosen[first[:n_kept]] = True
    return chosen


def region_means(proba: Tensor, regions: Tensor, neighbours: Tensor | None) -> Tensor:
    """Return each row's target (N, K): its mini-cluster's and its neighbours' mean, itself out.

    Parameters
    ----------
    proba : Tensor (N, K)
        The clustering head's probabilities.
    regions : Tensor (N,) int64
        Mini-cluster of each row.
    neighbours : Tensor (N, k) int64, optional
        Nearest neighbours of each row.
    """
    n_regions = int(regions.max()) + 1
    total = torch.zeros(n_regions, proba.shape[1]).index_add_(0, regions, proba)
    size = torch.bincount(regions, minlength=n_regions)[regions][:, None].float()
    others = (total[regions] - proba) / (size - 1).clamp_min(1)
    alone = (size <= 1).squeeze(1)
    if neighbours is None:
        others[alone] = proba[alone]
        return others.clamp_min(0)
    near = torch.zeros_like(proba)
    for column in neighbours.unbind(1):
        near += proba[column]
    near /= neighbours.shape[1]
    others[alone] = near[alone]
    return (0.5 * (others + near)).clamp_min(0)


def new_head(n_inputs: int, hidden: int, n_clusters: int) -> nn.Sequential:
    """Return the one shape of both heads."""
    return nn.Sequential(
        nn.Linear(n_inputs, hidden), BatchNorm(hidden), nn.ReLU(), nn.Linear(hidden, n_clusters)
    )


class CDCObjective(Objective):
    """Both heads, trained together on frozen rows."""

    def __init__(
        self,
        dims: list[int],
        n_clusters: int,
        *,
        hidden: int,
        prior: PriorTarget,
        start_labels: NDArray[np.int64] | None,
        n_mini_clusters: int | None,
        balance_weight: float,
        spread_steps: int,
    ) -> None:
        super().__init__()
        self.input = UnitInput(dims)
        self.clustering = new_head(self.input.n_dims, hidden, n_clusters)
        self.calibration = new_head(self.input.n_dims, hidden, n_clusters)
        self.prior = prior
        self.start_labels = start_labels
        self.n_mini_clusters = n_mini_clusters
        self.balance_weight = balance_weight
        self.spread_steps = spread_steps

    @torch.no_grad()
    def start(self, data: TrainData) -> None:
        """Set both layers of both heads from prototypes, and find the mini-clusters."""
        first, norm, _, last = self.calibration
        x = data.map(lambda xs: standardise_rows(self.input(xs)))
        seed = data.seed % 2**31
        first.weight.copy_(
            spread(prototypes(x, len(first.weight), seed=seed), n_steps=self.spread_steps)
        )
        raw = data.map(lambda xs: first(self.input(xs)) - first.bias)
        norm.running_mean.copy_(raw.mean(dim=0))
        norm.running_var.copy_(raw.var(dim=0).clamp_min(1e-6))
        first.bias.zero_()
        hidden = data.map(lambda xs: self.calibration[:3](self.input(xs)))
        unit = standardise_rows(hidden)
        if self.start_labels is None:
            centres = prototypes(unit, data.n_clusters, seed=seed, n_init=4)
        else:
            labels = torch.from_numpy(self.start_labels)
            centres = torch.zeros(data.n_clusters, unit.shape[1]).index_add_(0, labels, unit)
            centres = nn.functional.normalize(centres, dim=1)
        last.weight.copy_(spread(centres, n_steps=self.spread_steps))
        last.bias.zero_()
        self.clustering.load_state_dict(copy.deepcopy(self.calibration.state_dict()))
        n_regions = self.n_mini_clusters or int(
            np.clip(data.n_rows / ROWS_A_MINI_CLUSTER, 4 * data.n_clusters, MAX_MINI_CLUSTERS)
        )
        n_regions = max(1, min(n_regions, data.n_rows // 2))
        rows = x.numpy()
        centroids = spherical_kmeans(rows, n_regions, max_iter=10, seed=seed + 1)
        self.regions = torch.from_numpy(np.argmax(rows @ centroids.T, axis=1))

    @torch.no_grad()
    def before_epoch(self, epoch: int, data: TrainData) -> None:
        self.eval()
        weak = data.map(lambda xs: self.calibration(self.input(xs)).softmax(dim=1))
        believed = data.map(lambda xs: self.clustering(self.input(xs)).softmax(dim=1))
        self.train()
        if self.prior.needs_shares:
            self.prior.align(weak.mean(dim=0))
        self.chosen = calibrated_selection(weak, self.prior.target.cpu()).to(data.device)
        self.labels = weak.argmax(dim=1).to(data.device)
        neighbours = data.neighbour_tensor
        targets = region_means(believed, self.regions, neighbours)
        self.targets = targets.to(data.device)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        rows = batch.rows.to(self.targets.device)
        chosen = self.chosen[rows].float()
        z = self.clustering(self.input(batch.strong()))
        losses = nn.functional.cross_entropy(z, self.labels[rows], reduction="none")
        clustering = (losses * chosen).sum() / chosen.sum().clamp_min(1)
        z = self.calibration(self.input(batch.x))
        fit = soft_cross_entropy(z, self.targets[rows]).mean()
        mean = distributed.mean_over_ranks(z.softmax(dim=1).mean(dim=0))
        even = kl_to_prior(mean, self.prior.target.to(mean.device))
        loss = clustering + fit + self.balance_weight * even
        return {
            "loss": loss,
            "clustering": clustering,
            "calibration": fit,
            "size_divergence": even,
            "share_labelled": chosen.mean(),
        }


class CDCHead(TrainedHead):
    name = "cdc"

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        n_neighbors: int = 10,
        hidden: int = 512,
        init: str = "paper",
        cluster_prior: Any = "uniform",
        n_mini_clusters: int | None = None,
        balance_weight: float = 1.0,
        spread_steps: int = 200,
        epochs: int = 30,
        batch_size: int = 1024,
        learning_rate: float = 1e-3,
        output: str = "calibration",
        random_state: Any = None,
        options: TrainOptions | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_neighbors = n_neighbors
        self.hidden = hidden
        self.init = init
        self.cluster_prior = cluster_prior
        self.n_mini_clusters = n_mini_clusters
        self.balance_weight = balance_weight
        self.spread_steps = spread_steps
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.output = output
        self.random_state = random_state
        self.options = options

    def _network(self, dims: list[int], n_clusters: int) -> nn.Module:
        joint = UnitInput(dims)
        return nn.Sequential(joint, new_head(joint.n_dims, self.hidden, n_clusters))

    def _train(self, data: HeadData, rows: TrainData) -> nn.Module:
        check_in(self.init, INITS, "init")
        check_in(self.output, OUTPUTS, "output")
        check_range(self.hidden, "hidden", low=1)
        start_labels = None
        if self.init == "partition":
            from fmcluster.heads.partitions import start_partition

            start_labels = start_partition(data)
        prior = PriorTarget.resolve(self.cluster_prior, data)
        objective = CDCObjective(
            [space.n_dims for space in data.spaces],
            data.n_clusters,
            hidden=self.hidden,
            prior=prior,
            start_labels=start_labels,
            n_mini_clusters=self.n_mini_clusters,
            balance_weight=self.balance_weight,
            spread_steps=self.spread_steps,
        )
        schedule = Schedule(self.epochs, self.batch_size, self.learning_rate, cosine=True)
        self._stage("heads", objective, rows, schedule)
        self.cluster_prior_ = prior.shares(objective, rows)
        self._obj = objective
        head = objective.calibration if self.output == "calibration" else objective.clustering
        return nn.Sequential(objective.input, head)
