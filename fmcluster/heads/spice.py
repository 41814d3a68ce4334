r"""SPICE: semantic pseudo-labels for clustering (Niu et al., IEEE TIP 2022).

*Self* stage, once an epoch: the most confident half of a cluster's quota gives its center in the
embedding, the quota of rows nearest to the center get its label,

.. math:: \mu_k = \mathrm{mean}\{x_i : i \in \mathrm{top}_{N \pi_k / 2}(p_{\cdot k})\}, \qquad
          S_k = \mathrm{top}_{N \pi_k}(\langle x_i, \mu_k \rangle),

and teach strong views by cross-entropy. *Semi* stage: rows are reliable where they are confident
and nearly all of their neighbors share their label; these are labels, and the other rows learn as
in FixMatch, their weak view's label where it is confident teaching their strong one.

Adapted to frozen embeddings: a cosine head that starts at the k-means centroids in place of ten
random ones; quotas over all rows in place of a batch of 5,000, by a prior that need not be uniform;
a row claimed by two clusters goes to the nearer center; clusters are weighted in place of cut to
the smallest.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmcluster.heads.families.transport import CosineNetwork
from fmcluster.heads.scan import MINIMUM_SHARE
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.head import TrainedHead
from fmcluster.heads.training.objective import Objective, Schedule
from fmcluster.heads.training.prior import PriorTarget
from fmcluster.heads.training.views import Batch
from fmcluster.utils.validation import check_range
from fmcluster.vectors.fit_data import HeadData

# FixMatch's own threshold (Sohn et al., NeurIPS 2020).
FIXMATCH_CONFIDENCE = 0.95


def semantic_labels(proba: Tensor, x: Tensor, shares: Tensor, center_ratio: float) -> Tensor:
    """Return labels (N,) of the rows near the clusters' centers, -1 for the others.

    Parameters
    ----------
    proba : Tensor (N, K)
        Present probabilities.
    x : Tensor (N, d)
        Unit embeddings.
    shares : Tensor (K,)
        Quota of each cluster, as a share of the rows.
    center_ratio : float
        Share of the quota, most confident first, that makes the center.
    """
    n, k = proba.shape
    quota = (shares * n).round().long().clamp(1, n)
    centers = []
    for cluster in range(k):
        size = max(1, int(center_ratio * int(quota[cluster])))
        centers.append(F.normalize(x[proba[:, cluster].topk(size).indices].mean(dim=0), dim=0))
    cosines = x @ torch.stack(centers).T
    claimed = torch.full_like(cosines, float("-inf"))
    for cluster in range(k):
        rows = cosines[:, cluster].topk(int(quota[cluster])).indices
        claimed[rows, cluster] = cosines[rows, cluster]
    best, labels = claimed.max(dim=1)
    return torch.where(best > float("-inf"), labels, -1)


def reliable_rows(
    proba: Tensor, neighbors: Tensor, *, agreement: float, confidence: float
) -> Tensor:
    """Return which rows (N,) are confident and agree with their neighbors (N, m).

    Where fewer than `MINIMUM_SHARE` of a cluster are, its best by the product of both join.
    """
    top, labels = proba.max(dim=1)
    agree = (labels[neighbors.long()] == labels[:, None]).float().mean(dim=1)
    chosen = (agree >= agreement) & (top >= confidence)
    for cluster in labels.unique():
        inside = torch.nonzero(labels == cluster).flatten()
        needed = max(1, int(MINIMUM_SHARE * len(inside)))
        if int(chosen[inside].sum()) < needed:
            chosen[inside[(agree * top)[inside].topk(needed).indices]] = True
    return chosen


def balanced_weight(labels: Tensor, shares: Tensor) -> Tensor:
    """Return a weight (K,) by which labeled rows count as `shares` says; -1 is no label."""
    size = torch.bincount(labels[labels >= 0], minlength=len(shares)).float()
    weight = torch.where(size > 0, shares / size.clamp_min(1), 0.0)
    return weight * size.sum() / (weight * size).sum().clamp_min(1e-12)


@dataclass(eq=False, repr=False)
class SPICESelfObjective(Objective):
    """Strong views learn the labels of centers."""

    network: CosineNetwork
    _: KW_ONLY
    prior: PriorTarget
    center_ratio: float

    def start(self, data: TrainData) -> None:
        self.network.start(data)
        self.x = data.map(lambda xs: F.normalize(self.network.input(xs), dim=1))

    def before_epoch(self, epoch: int, data: TrainData) -> None:
        proba = data.map(lambda xs: self.network(xs).softmax(dim=1))
        if self.prior.needs_shares:
            self.prior.align(proba.mean(dim=0))
        shares = self.prior.target.cpu()
        labels = semantic_labels(proba, self.x, shares, self.center_ratio)
        self.weight = balanced_weight(labels, shares).to(data.device)
        self.labels = labels.to(data.device)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        y = self.labels[batch.rows]
        has = (y >= 0).float()
        losses = F.cross_entropy(self.network(batch.strong()), y.clamp_min(0), reduction="none")
        weight = has * self.weight[y.clamp_min(0)]
        return {"loss": (losses * weight).sum() / has.sum().clamp_min(1), "labeled": has.mean()}


@dataclass(eq=False, repr=False)
class SPICESemiObjective(Objective):
    """Reliable rows are labels, the others learn as in FixMatch."""

    network: nn.Module
    _: KW_ONLY
    prior: PriorTarget
    agreement: float
    confidence: float

    def start(self, data: TrainData) -> None:
        proba = data.map(lambda xs: self.network(xs).softmax(dim=1))
        neighbors = data.neighbor_tensor
        if neighbors is None:
            neighbors = torch.arange(data.n_rows)[:, None]
        chosen = reliable_rows(
            proba, neighbors.cpu(), agreement=self.agreement, confidence=self.confidence
        )
        labels = torch.where(chosen, proba.argmax(dim=1), -1)
        self.weight = balanced_weight(labels, self.prior.target.cpu()).to(data.device)
        self.labels = labels.to(data.device)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        y = self.labels[batch.rows]
        has = (y >= 0).float()
        with torch.no_grad():
            top, guess = self.network(batch.weak()).softmax(dim=1).max(dim=1)
        confident = (1 - has) * (top >= FIXMATCH_CONFIDENCE)
        target = torch.where(y >= 0, y, guess)
        losses = F.cross_entropy(self.network(batch.strong()), target, reduction="none")
        loss = ((has * self.weight[target] + confident) * losses).sum() / (
            has + confident
        ).sum().clamp_min(1)
        return {"loss": loss, "reliable": has.mean(), "confident": confident.mean()}


@dataclass(eq=False, repr=False, kw_only=True)
class SPICEHead(TrainedHead):
    """Semantic pseudo-labels, then reliable ones.

    Parameters
    ----------
    n_neighbors : int
        Neighbors whose labels must agree (the paper: 100).
    center_ratio : float
        Share of a quota that makes a center.
    agreement, confidence : float
        What makes a row reliable.
    cluster_prior : "uniform", "estimate" or array (k,)
        Quotas; the paper: uniform.
    epochs, semi_epochs : int
        Length of the two stages; 0 leaves the second out.
    """

    name = "spice"
    fits_one_cluster = True

    # Under the paper's 100, which reach out of small clusters.
    n_neighbors: int = 20
    center_ratio: float = 0.5
    # Higher keeps fewer and surer rows to teach with, lower lets errors teach.
    agreement: float = 0.95
    confidence: float = 0.99
    cluster_prior: Any = "uniform"
    # Time: the second stage only sharpens the first, at a tenth of its rate.
    epochs: int = 15
    semi_epochs: int = 5

    def _network(self, dims: list[int], n_clusters: int) -> nn.Module:
        return CosineNetwork(dims, n_clusters)

    def _train(self, data: HeadData, rows: TrainData) -> nn.Module:
        check_range(self.center_ratio, "center_ratio", low=0, high=1, open_low=True)
        prior = PriorTarget.resolve(self.cluster_prior, data)
        network = self._fresh(data)
        objective = SPICESelfObjective(network, prior=prior, center_ratio=self.center_ratio)
        self._stage("self", objective, rows, self._schedule())
        if self.semi_epochs:
            semi = SPICESemiObjective(
                network, prior=prior, agreement=self.agreement, confidence=self.confidence
            )
            # As in SCAN: labels of its own only sharpen it.
            schedule = Schedule(self.semi_epochs, self.batch_size, self.learning_rate / 10)
            self._stage("semi", semi, rows, schedule)
        self.cluster_prior_ = prior.shares(network, rows)
        return network
