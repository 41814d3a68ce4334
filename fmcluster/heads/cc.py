r"""CC: contrastive clustering of instances and of clusters (Li et al., AAAI 2021).

With views a, b, unit representations z and assignments p (B, K):

.. math:: L = \mathrm{NT\text{-}Xent}_{\tau_I}(z^a, z^b)
          + \mathrm{NT\text{-}Xent}_{\tau_C}(p^{a\top}, p^{b\top})
          + KL(\bar p^a \| \pi) + KL(\bar p^b \| \pi)

The second term contrasts the K columns, a cluster's assignments over the batch; with a uniform
:math:`\pi` the last two are the paper's entropy of the cluster sizes. Adapted to frozen
embeddings: the adapter of `representation`, a cosine cluster head that starts at the centroids of
k-means from the best of several k-means++ seedings, a nearest neighbor as the second view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fmcluster.functional.losses import kl_to_prior, nt_xent
from fmcluster.heads.families.representation import AdapterHead, PairObjective, Representation
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.prior import PriorTarget
from fmcluster.heads.training.views import Batch
from fmcluster.partition.kmeans import plus_plus_centroids
from fmcluster.utils import distributed
from fmcluster.utils.validation import check_range
from fmcluster.vectors.fit_data import HeadData


@dataclass(eq=False, repr=False, kw_only=True)
class CCObjective(PairObjective):
    """Instance and cluster contrast with a size term."""

    prior: PriorTarget
    instance_temperature: float
    cluster_temperature: float

    def start(self, data: TrainData) -> None:
        super().start(data)
        self.network.cluster(data, seed=data.seed, kmeans=plus_plus_centroids)

    def before_epoch(self, epoch: int, data: TrainData) -> None:
        if self.prior.needs_shares:
            self.prior.align(data.mean(lambda xs: self.network(xs).softmax(dim=1)))
        self.target = self.prior.target.to(data.device)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        a, b = self.views(batch)
        p, q = (self.network.readout(z).softmax(dim=1) for z in (a, b))
        instance = nt_xent(a, b, self.instance_temperature)
        cluster = nt_xent(p.T, q.T, self.cluster_temperature)
        size = sum(
            kl_to_prior(distributed.mean_over_ranks(v.mean(dim=0)), self.target) for v in (p, q)
        )
        return {
            "loss": instance + cluster + size,
            "instance": instance,
            "cluster": cluster,
            "size_divergence": size,
        }


@dataclass(eq=False, repr=False, kw_only=True)
class CCHead(AdapterHead):
    """Contrastive clustering.

    Parameters
    ----------
    instance_temperature, cluster_temperature : float
        The paper's 0.5 and 1.
    cluster_prior : "uniform", "estimate" or array (k,)
        Sizes that the last terms pull to; the paper: uniform.
    epochs, batch_size, learning_rate
        Of Adam; a batch should hold at least 20 rows per cluster, or columns are noise.
    """

    name = "cc"

    instance_temperature: float = 0.5
    cluster_temperature: float = 1.0
    cluster_prior: Any = "uniform"
    # At 20 rows per cluster, enough for 50 clusters.
    batch_size: int = 1024

    def _objective(self, network: Representation, data: HeadData) -> PairObjective:
        check_range(self.instance_temperature, "instance_temperature", low=0, open_low=True)
        check_range(self.cluster_temperature, "cluster_temperature", low=0, open_low=True)
        prior = PriorTarget.resolve(self.cluster_prior, data)
        return CCObjective(
            network,
            prior=prior,
            instance_temperature=self.instance_temperature,
            cluster_temperature=self.cluster_temperature,
        )

    def _read_out(self, objective: Any, data: HeadData, rows: TrainData) -> None:
        self.cluster_prior_ = objective.prior.shares(objective.network, rows)
