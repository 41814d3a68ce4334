r"""P2OT (Zhang et al., ICLR 2024) and SP2OT (2024): progressive partial optimal transport.

Each epoch a plan of mass :math:`\rho`, which grows to one, takes the most confident rows first and
lets cluster sizes differ at a price:

.. math:: \min_Q \langle Q, -\log p \rangle - \varepsilon H(Q)
          + \lambda\, KL(Q^\top 1 \,\|\, \rho\, \pi)
          \;\; \text{s.t.} \;\; Q 1 \le \tfrac1N 1, \; 1^\top Q 1 = \rho,

:math:`\rho_t = \rho_0 + (1 - \rho_0)\, e^{-5 (1 - t/T)^2}`, :math:`\lambda = 1`,
:math:`\varepsilon = 0.1`. A row's mass weighs its cross-entropy. SP2OT adds a reward for neighbors
that share a cluster, :math:`-\mu \langle S, Q Q^\top \rangle`, linearized at the last plan: the
scores become :math:`\log p + \mu\, (S + S^\top) Q`, solved a few times over.

Adapted to frozen embeddings: a cosine head that starts at the k-means centroids, one plan over all
rows in place of a bank, a nearest neighbor as the second view; S is the neighbor graph with rows
summing to one and Q has rows of mass up to one, so that mu has the unit of the scores; mu decays
with :math:`1 - \rho` as published.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from fmcluster.functional.products import sparse_product
from fmcluster.heads.families.transport import CosineNetwork, TransportHead, TransportObjective
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.prior import PriorTarget
from fmcluster.heads.training.views import Batch
from fmcluster.utils import distributed
from fmcluster.utils.validation import check_range
from fmcluster.vectors.rows import BLOCK_ROWS

# Each is a plan over all rows: time of an epoch against a reward linearized nearer its plan.
MAJORIZATION_STEPS = 3


def ramp(progress: float, rho: float) -> float:
    """Return the mass at `progress` in [0, 1]: a sigmoid-shaped rise from `rho` to one."""
    # Five in the exponent is the usual sigmoid ramp-up (Laine & Aila, ICLR 2017).
    return rho + (1 - rho) * math.exp(-5 * (1 - progress) ** 2)


@dataclass(eq=False, repr=False, kw_only=True)
class P2OTObjective(TransportObjective):
    """A partial plan whose mass grows."""

    epochs: int

    def __post_init__(self) -> None:
        self.start_rho = self.rho

    def before_epoch(self, epoch: int, data: TrainData) -> None:
        self.rho = min(1.0, ramp(epoch / max(self.epochs - 1, 1), self.start_rho))
        super().before_epoch(epoch, data)


class SP2OTObjective(P2OTObjective):
    """The same with the semantic reward on the neighbor graph."""

    semantic_weight: float = 1.0

    def start(self, data: TrainData) -> None:
        super().start(data)
        table = data.neighbors
        if table is None:
            raise ValueError("sp2ot needs a neighbor graph: n_neighbors must be at least 1")
        n, k = table.shape
        half = np.full(n * k, 0.5 / k, np.float32)
        graph = csr_matrix((half, table.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
        own = distributed.my_block(n)
        self.graph = (graph + graph.T.tocsr())[own.start : own.stop]

    def learn(self, scores: Tensor, data: TrainData) -> None:
        weight = self.semantic_weight * (1 - self.rho)
        self.shares: Tensor | None = None
        if weight <= 1e-3:  # as good as none, and a plan per step is saved
            super().learn(scores, data)
            return
        # The reward reads the shares of neighbors, wherever they are: all are kept, and sent.
        n_rows, p = data.n_rows, scores.cpu().numpy()
        gpu = None if data.device.type == "cpu" else data.device
        shares = distributed.join_blocks(np.exp(p), n_rows)
        for _ in range(MAJORIZATION_STEPS):
            work = sparse_product(self.graph, shares, gpu)
            work *= weight
            work += p
            found = self.solve(torch.from_numpy(work).to(data.device))
            for at in range(0, len(work), BLOCK_ROWS):
                part = slice(at, at + BLOCK_ROWS)
                work[part] = found.plan_rows(part).cpu() * n_rows  # in the place of their scores
            shares = distributed.join_blocks(work, n_rows)
        self.shares = torch.from_numpy(shares).to(data.device)

    def target(self, batch: Batch) -> Tensor:
        return super().target(batch) if self.shares is None else self.shares[batch.rows]


@dataclass(eq=False, repr=False, kw_only=True)
class P2OTHead(TransportHead):
    """Progressive partial optimal transport.

    Parameters
    ----------
    epsilon, col_penalty : float
        Entropy weight of the plan and the price (lambda) of other sizes.
    rho : float in (0, 1]
        Mass of the first plan.
    """

    name = "p2ot"
    takes_answers = ("labels",)

    # The paper's three. A larger epsilon softens the plan, a larger penalty brings sizes nearer to
    # the prior, a larger rho takes more rows from the first epoch on.
    epsilon: float = 0.1
    col_penalty: float = 1.0
    rho: float = 0.1

    _kind: ClassVar[type[P2OTObjective]] = P2OTObjective

    def _objective(self, network: CosineNetwork, prior: PriorTarget) -> P2OTObjective:
        check_range(self.epsilon, "epsilon", low=0, open_low=True)
        check_range(self.rho, "rho", low=0, high=1, open_low=True)
        if not self.col_penalty > 0:
            raise ValueError(f"col_penalty={self.col_penalty} must be positive (inf: exact sizes)")
        return self._kind(
            network,
            prior=prior,
            epsilon=self.epsilon,
            col_penalty=float(self.col_penalty),
            rho=self.rho,
            epochs=self.epochs,
        )


@dataclass(eq=False, repr=False, kw_only=True)
class SP2OTHead(P2OTHead):
    """P2OT with the semantic reward: neighbors share a cluster.

    Parameters
    ----------
    semantic_weight : float
        mu of the first plan.
    """

    name = "sp2ot"

    # Higher lets neighbors outvote the row, lower leaves P2OT; it fades as the mass grows.
    semantic_weight: float = 0.3

    _kind = SP2OTObjective

    def _objective(self, network: CosineNetwork, prior: PriorTarget) -> P2OTObjective:
        check_range(self.semantic_weight, "semantic_weight", low=0)
        objective = super()._objective(network, prior)
        objective.semantic_weight = self.semantic_weight
        return objective
