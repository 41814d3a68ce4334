r"""SeCu: stable cluster discrimination with a lower bound on sizes (Qian, ICCV 2023).

A row goes to :math:`y_i = \arg\max_k \langle z_i, c_k \rangle + \rho_k`, with a dual variable per
cluster that bounds its size from below only,

.. math:: \rho_k \leftarrow \max(0,\; \rho_k + \eta\, (\gamma \pi_k - \bar n_k)),

:math:`\bar n_k` the cluster's share of a batch. Representation and centers learn

.. math:: L_z = CE\big(z^a C^\top / \tau,\; \alpha\, e_y + (1 - \alpha)\, p^b\big), \qquad
          L_c = -\log \frac{e^{z c_y / \tau}}{e^{z c_y / \tau}
                + \sum_{k \ne y} e^{z\, sg[c_k] / \tau}}:

a center is pulled by its own rows, the harder the more, and pushed by none, which keeps it stable.
Adapted to frozen embeddings: the adapter of `representation`, a nearest neighbor as the second
view, one head of k clusters in place of ten, centers that start at k-means: the best of several
k-means++ seedings, because the published hundreds of epochs leave the start behind and ten epochs
end where they began (stackoverflow: random starts of 70.1 and 70.9 ended at 70.4 and 71.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fmcluster.functional.losses import soft_cross_entropy
from fmcluster.heads.families.representation import AdapterHead, PairObjective, Representation
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.prior import PriorTarget
from fmcluster.heads.training.views import Batch
from fmcluster.partition.kmeans import plus_plus_centroids
from fmcluster.utils import distributed
from fmcluster.utils.validation import check_range
from fmcluster.vectors.fit_data import HeadData

# The paper's weight of the one-hot label against the other view's prediction.
ONE_HOT_SHARE = 0.2


def dual_step(dual: Tensor, found: Tensor, least: Tensor, rate: float) -> Tensor:
    """Return the dual variables (K,) after clusters had shares `found` where `least` is asked."""
    return (dual + rate * (least - found)).clamp_min(0)


@dataclass(eq=False, repr=False, kw_only=True)
class SeCuObjective(PairObjective):
    """Cluster discrimination with detached negatives."""

    prior: PriorTarget
    temperature: float
    lower_bound: float
    dual_rate: float

    def __post_init__(self) -> None:
        self.register_buffer("dual", torch.zeros(len(self.network.readout.centroids)))

    def start(self, data: TrainData) -> None:
        super().start(data)
        self.network.cluster(data, seed=data.seed, kmeans=plus_plus_centroids)
        self.network.readout.scale.fill_(1 / self.temperature)

    def before_epoch(self, epoch: int, data: TrainData) -> None:
        if self.prior.needs_shares:
            self.prior.align(data.mean(lambda xs: self.network(xs).softmax(dim=1)))
        self.least = self.lower_bound * self.prior.target.to(data.device)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        a, b = self.views(batch)
        centers = F.normalize(self.network.readout.centroids, dim=1)
        with torch.no_grad():
            cosines = b @ centers.T
            y = (cosines + self.dual).argmax(dim=1)
            hot = F.one_hot(y, len(centers)).float()
            share = distributed.mean_over_ranks(hot.mean(dim=0))
            self.dual.copy_(dual_step(self.dual, share, self.least, self.dual_rate))
            soft = (cosines / self.temperature).softmax(dim=1)
            target = ONE_HOT_SHARE * hot + (1 - ONE_HOT_SHARE) * soft
        represent = soft_cross_entropy(a @ centers.detach().T / self.temperature, target).mean()
        scores = a.detach() @ centers.T / self.temperature
        pulled = torch.where(hot > 0, scores, scores.detach())
        center = F.cross_entropy(pulled, y)
        return {"loss": represent + center, "representation": represent, "center": center}


@dataclass(eq=False, repr=False, kw_only=True)
class SeCuHead(AdapterHead):
    """Stable cluster discrimination.

    Parameters
    ----------
    temperature : float
        The paper's 0.05.
    lower_bound : float
        Least size of a cluster, as a share of its prior (the paper's gamma).
    dual_rate : float
        Step of the dual variables (eta).
    cluster_prior : "uniform", "estimate" or array (k,)
        What the bound is a share of; the paper: uniform.
    """

    name = "secu"
    stage = "discriminate"

    temperature: float = 0.05
    # Of the bound: 0 lets clusters die, 1 makes all sizes the prior. Of the rate: more swings.
    lower_bound: float = 0.9
    dual_rate: float = 0.1
    cluster_prior: Any = "uniform"

    def _objective(self, network: Representation, data: HeadData) -> PairObjective:
        check_range(self.temperature, "temperature", low=0, open_low=True)
        check_range(self.lower_bound, "lower_bound", low=0, high=1)
        prior = PriorTarget.resolve(self.cluster_prior, data)
        return SeCuObjective(
            network,
            prior=prior,
            temperature=self.temperature,
            lower_bound=self.lower_bound,
            dual_rate=self.dual_rate,
        )

    def _read_out(self, objective: Any, data: HeadData, rows: TrainData) -> None:
        """Leave the centers as they were trained."""
