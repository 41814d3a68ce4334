r"""SeLa: self-labeling by equal partition (Asano et al., ICLR 2020).

Alternate, once an epoch, a transport plan over all rows and a cross-entropy to it:

.. math:: \max_Q \langle Q, \log p \rangle + \varepsilon H(Q)
          \;\; \text{s.t.} \;\; Q 1 = \tfrac1N 1, \; Q^\top 1 = \pi, \qquad
          L = -\sum_{ik} Q_{ik} \log p_{ik},

with :math:`\varepsilon = 1/25` as published and :math:`\pi` uniform. Adapted to frozen embeddings:
a cosine head that starts at the k-means centroids; the loss is taken on a weak view and on a
nearest neighbor; sizes may follow another prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fmcluster.heads.families.transport import CosineNetwork, TransportHead, TransportObjective
from fmcluster.heads.training.prior import PriorTarget
from fmcluster.utils.validation import check_range


@dataclass(eq=False, repr=False, kw_only=True)
class SeLaHead(TransportHead):
    """Self-labeling with exact cluster sizes.

    Parameters
    ----------
    epsilon : float
        Entropy weight of the plan.
    """

    name = "sela"

    # One over the paper's lambda of 25; smaller is a harder plan that takes more passes.
    epsilon: float = 0.04

    def _objective(self, network: CosineNetwork, prior: PriorTarget) -> TransportObjective:
        check_range(self.epsilon, "epsilon", low=0, open_low=True)
        return TransportObjective(network, prior=prior, epsilon=self.epsilon, col_penalty=np.inf)
