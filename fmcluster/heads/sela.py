r"""SeLa: self-labelling by equal partition (Asano et al., ICLR 2020).

Alternate, once an epoch, a transport plan over all rows and a cross-entropy to it:

.. math:: \max_Q \langle Q, \log p \rangle + \varepsilon H(Q)
          \;\; \text{s.t.} \;\; Q 1 = \tfrac1N 1, \; Q^\top 1 = \pi, \qquad
          L = -\sum_{ik} Q_{ik} \log p_{ik},

with :math:`\varepsilon = 1/25` as published and :math:`\pi` uniform. Adapted to frozen embeddings:
a cosine head that starts at the k-means centroids; the loss is taken on a weak view and on a
nearest neighbour; sizes may follow another prior.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fmcluster.heads.families.transport import CosineNetwork, TransportHead, TransportObjective
from fmcluster.heads.training.objective import TrainOptions
from fmcluster.heads.training.prior import PriorTarget
from fmcluster.utils.validation import check_range
from fmcluster.vectors.fit_data import HeadData


class SeLaHead(TransportHead):
    """Self-labelling with exact cluster sizes.

    Parameters
    ----------
    n_clusters : int or "auto"
        Number of clusters.
    n_neighbors : int
        Nearest neighbours to draw a second view from.
    cluster_prior : "uniform", "estimate" or array (k,)
        Sizes of the clusters; the paper: uniform.
    epsilon : float
        Entropy weight of the plan.
    epochs, batch_size, learning_rate
        Of Adam.
    random_state, options
        Seed; run-time options (`TrainOptions`).
    """

    name = "sela"

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        n_neighbors: int = 10,
        cluster_prior: Any = "uniform",
        epsilon: float = 0.04,
        epochs: int = 20,
        batch_size: int = 1024,
        learning_rate: float = 1e-3,
        random_state: Any = None,
        options: TrainOptions | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_neighbors = n_neighbors
        self.cluster_prior = cluster_prior
        self.epsilon = epsilon
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state
        self.options = options

    def _objective(
        self, network: CosineNetwork, prior: PriorTarget, data: HeadData
    ) -> TransportObjective:
        check_range(self.epsilon, "epsilon", low=0, open_low=True)
        return TransportObjective(network, prior=prior, epsilon=self.epsilon, col_penalty=np.inf)
