r"""SCAN: semantic clustering by adopting nearest neighbors (Van Gansbeke et al., ECCV 2020).

Clustering step, over rows i and a random one j of their nearest neighbors:

.. math:: L = -\frac1B \sum_i \log \langle p_i, p_j \rangle
          + \lambda\, KL\big(\tfrac1B \sum_i p_i \,\|\, \pi\big)

with :math:`\lambda = 5`; a uniform :math:`\pi` makes the second term the paper's entropy, up to a
constant. Ten heads train side by side and the one with the lowest consistency minus entropy is
kept. Self-labeling: rows above a confidence are pseudo-labels for a cross-entropy on a strong
view. Adapted to frozen embeddings: linear heads on rows brought to unit variance (the paper's own
choice for ImageNet), views as in `fmcluster.heads.training.views`.

The over-confidence baselines of the calibrated-clustering literature act on the self-labeling
loss: label smoothing, focal loss, and the L1 norm of the logits.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fmcluster.functional.losses import (
    consistency,
    entropy,
    focal,
    kl_to_prior,
    l1_norm,
    labeled_cross_entropy,
    smoothed_cross_entropy,
)
from fmcluster.heads.networks.layers import Heads, JointInput
from fmcluster.heads.training import draws
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.head import TrainedHead
from fmcluster.heads.training.objective import Objective, Schedule
from fmcluster.heads.training.prior import PriorTarget
from fmcluster.heads.training.views import Batch
from fmcluster.utils import distributed
from fmcluster.utils.validation import check_in, check_range
from fmcluster.vectors.fit_data import HeadData

REGULARIZERS = ("none", "label_smoothing", "focal", "l1")
# Arguments without a part in the clustering step: its checkpoint serves all of their values.
SELF_LABELING = ("self_label_epochs", "threshold", "regularizer", "regularizer_strength")
# At least this share of each cluster teaches, however few pass the thresholds: a cluster that
# teaches no row at all loses its rows to the others.
MINIMUM_SHARE = 0.2
# `torch.quantile` refuses more at once.
QUANTILE_ROWS = 2**24


@dataclass(eq=False, repr=False)
class SCANObjective(Objective):
    """The clustering step for `n_heads` linear heads at once."""

    dims: list[int]
    n_clusters: int
    _: KW_ONLY
    n_heads: int
    weight: float
    prior: PriorTarget

    def __post_init__(self) -> None:
        self.input = JointInput(self.dims)
        self.heads = Heads(self.input.n_dims, self.n_clusters, self.n_heads)

    def start(self, data: TrainData) -> None:
        self.input.fit(data.sample())

    def before_epoch(self, epoch: int, data: TrainData) -> None:
        if self.prior.needs_shares:
            shares = data.map(lambda xs: self.proba(xs).mean(dim=0, keepdim=True)).mean(dim=0)
            self.prior.align(shares.to(data.device))

    def logits(self, xs: list[Tensor]) -> Tensor:
        return self.heads(self.input(xs))

    def proba(self, xs: list[Tensor]) -> Tensor:
        return self.logits(xs).softmax(dim=-1)

    def labeled_loss(self, xs: list[Tensor], target: Tensor) -> Tensor:
        # As heavy as the size term, which it contradicts wherever classes are of other sizes.
        return self.weight * labeled_cross_entropy(self.logits(xs), target).sum()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        p = self.proba(batch.x)
        q = self.proba(batch.neighbor()[1])
        agree = consistency(p, q)
        even = kl_to_prior(distributed.mean_over_ranks(p.mean(dim=0)), self.prior.target)
        # Heads are independent: the sum gives each the gradient it would have alone.
        loss = (agree + self.weight * even).sum()
        return {"loss": loss, "consistency": agree.mean(), "size_divergence": even.mean()}

    @torch.no_grad()
    def best_head(self, data: TrainData) -> int:
        """Return the head with the lowest consistency minus entropy, and loss of labeled rows."""
        neighbors = data.neighbor_tensor
        agree, mass = 0.0, 0.0
        for where, xs in data.blocks():
            p = self.proba(xs)
            q = p if neighbors is None else self.proba(data.take(neighbors[where, 0].long()))
            agree = agree + consistency(p, q) * len(p) / data.n_rows
            mass = mass + p.mean(dim=0) * len(p) / data.n_rows
        score = agree - entropy(torch.as_tensor(mass))
        if data.fixed is not None:
            logits = self.logits(data.take(data.fixed.rows))
            score = score + labeled_cross_entropy(logits, data.fixed.target)
        return int(score.argmin())

    def network(self, head: int) -> nn.Module:
        """Return the inference network of one head."""
        n_heads, n_clusters = self.heads.shape
        single = draws.linear(self.input.n_dims, n_clusters)
        weight = self.heads.linear.weight.detach().view(n_heads, n_clusters, -1)[head]
        bias = self.heads.linear.bias.detach().view(n_heads, n_clusters)[head]
        single.load_state_dict({"weight": weight, "bias": bias})
        return nn.Sequential(self.input, single)


def top(proba: Tensor) -> Tensor:
    """Return the largest of each row of `proba` (b, k) and its column, (b, 2)."""
    values, columns = proba.max(dim=1)
    return torch.stack([values, columns.to(values)], dim=1)


@dataclass(eq=False, repr=False)
class SelfLabelObjective(Objective):
    """Self-labeling: confident rows teach their strong views."""

    network: nn.Module
    _: KW_ONLY
    threshold: float
    regularizer: str
    strength: float

    def before_epoch(self, epoch: int, data: TrainData) -> None:
        # Two numbers per row are kept, not its k probabilities.
        found = data.map(lambda xs: top(self.network(xs).softmax(dim=1)))
        confidence, labels = found[:, 0].contiguous(), found[:, 1].long()
        limits = torch.full((data.n_clusters,), self.threshold)
        for cluster in labels.unique():
            inside = confidence[labels == cluster]
            inside = inside[:: 1 + len(inside) // QUANTILE_ROWS]
            limits[cluster] = min(self.threshold, float(inside.quantile(1 - MINIMUM_SHARE)))
        self.chosen = (confidence >= limits[labels]).to(data.device)
        if data.fixed is not None:
            self.chosen[data.fixed.rows.to(data.device)] = True
            labels[data.fixed.rows] = data.fixed.target.cpu()
        self.targets = labels.to(data.device)
        counts = torch.bincount(labels[self.chosen.cpu()], minlength=data.n_clusters)
        self.class_weight = torch.where(counts > 0, counts.sum() / counts.clamp_min(1), 0.0)
        self.class_weight = (self.class_weight / (counts > 0).sum()).to(data.device)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        rows = batch.rows.to(self.targets.device)
        chosen, y = self.chosen[rows].float(), self.targets[rows]
        logits = self.network(batch.strong())
        if self.regularizer == "label_smoothing":
            losses = smoothed_cross_entropy(logits, y, self.strength)
        elif self.regularizer == "focal":
            losses = focal(logits, y, self.strength)
        else:
            losses = smoothed_cross_entropy(logits, y, 0.0)
            if self.regularizer == "l1":
                losses = losses + self.strength * l1_norm(logits)
        weight = chosen * self.class_weight[y]
        loss = (losses * weight).sum() / distributed.mean_over_ranks(weight.sum()).clamp_min(1e-8)
        return {"loss": loss, "share_labeled": chosen.mean()}

    def labeled_loss(self, xs: list[Tensor], target: Tensor) -> Tensor:
        return labeled_cross_entropy(self.network(xs), target)


@dataclass(eq=False, repr=False, kw_only=True)
class SCANHead(TrainedHead):
    """SCAN with its self-labeling step.

    Parameters
    ----------
    n_neighbors : int
        Nearest neighbors to draw a pair from (the paper: 20 to 50).
    n_heads : int
        Heads trained side by side, the best by the label-free criterion is kept.
    entropy_weight : float
        The paper's lambda.
    cluster_prior : "uniform", "estimate" or array (k,)
        Sizes that the second term pulls to; the paper: uniform.
    epochs, self_label_epochs : int
        Length of the two steps; 0 leaves self-labeling out.
    min_steps : int
        Optimizer steps of the clustering step at least, a quarter of it for self-labeling: on
        few rows more epochs are run.
    threshold : float
        Confidence above which a row labels itself; where fewer than a fifth of a cluster pass, its
        most confident fifth does.
    regularizer : {"none", "label_smoothing", "focal", "l1"}
        Over-confidence baseline on the self-labeling loss.
    regularizer_strength : float, optional
        Smoothing 0.1, focal gamma 2, or L1 weight 0.01 by default.
    """

    name = "scan"
    takes_answers = ("labels",)

    # The paper's neighbors and entropy weight: further ones are of other classes sooner, and with
    # less weight clusters die out. Each head may end in a poor optimum: of more the best is better.
    n_neighbors: int = 20
    n_heads: int = 10
    entropy_weight: float = 5.0
    cluster_prior: Any = "uniform"
    # Time. Labels of its own come after the clustering and only sharpen it: fewer epochs.
    epochs: int = 50
    self_label_epochs: int = 20
    # Heads begin at random: on few rows the epochs are a handful of steps.
    min_steps: int = 800
    # The paper's: lower teaches errors, higher teaches rows that are learned already.
    threshold: float = 0.99
    regularizer: str = "none"
    regularizer_strength: float | None = None

    def _network(self, dims: list[int], n_clusters: int) -> nn.Module:
        joint = JointInput(dims)
        return nn.Sequential(joint, draws.linear(joint.n_dims, n_clusters))

    def _train(self, data: HeadData, rows: TrainData) -> nn.Module:
        check_in(self.regularizer, REGULARIZERS, "regularizer")
        check_range(self.threshold, "threshold", low=0, high=1)
        dims = [space.n_dims for space in data.spaces]
        prior = PriorTarget.resolve(self.cluster_prior, data, n_heads=self.n_heads)
        objective = SCANObjective(
            dims, data.n_clusters, n_heads=self.n_heads, weight=self.entropy_weight, prior=prior
        )
        schedule = self._schedule(min_steps=self.min_steps)
        self._stage("cluster", objective, rows, schedule, without=SELF_LABELING)
        best = objective.best_head(rows)
        network = objective.network(best)
        self.cluster_prior_ = prior.shares(network, rows)
        if self.self_label_epochs:
            # Smoothing and focusing of the papers that propose them; an L1 far below the loss.
            strength = {"label_smoothing": 0.1, "focal": 2.0, "l1": 0.01}.get(self.regularizer, 0.0)
            if self.regularizer_strength is not None:
                strength = self.regularizer_strength
            labeled = SelfLabelObjective(
                network, threshold=self.threshold, regularizer=self.regularizer, strength=strength
            )
            # Labels of its own only sharpen it: a tenth of the rate, a quarter of the steps.
            schedule = Schedule(
                self.self_label_epochs,
                self.batch_size,
                self.learning_rate / 10,
                min_steps=self.min_steps // 4,
            )
            self._stage(f"self-label-{self.regularizer}", labeled, rows, schedule)
        return network
