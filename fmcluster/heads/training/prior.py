"""The prior on cluster sizes as heads use it: an argument, aligned with clusters while training.

`cluster_prior` is "uniform", "estimate" (sizes estimated without labels from the data's own
linkage structure) or an array. A head's clusters have no names, so a prior that is not uniform is
given out by rank: the largest share to the cluster that is largest now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fmcluster.heads.training.data import TrainData
from fmcluster.utils.validation import check_in, check_prior
from fmcluster.vectors.fit_data import HeadData

PRIORS = ("auto", "uniform", "estimate")


def resolve_prior(cluster_prior: Any, data: HeadData) -> NDArray[np.float64]:
    """Return the shares (k,) that `cluster_prior` asks for, largest first unless uniform.

    Raises
    ------
    ValueError
        An array of the wrong length, with zeros, or not summing to one; an unknown word.
    """
    k = data.n_clusters
    if not isinstance(cluster_prior, str):
        return np.sort(check_prior(cluster_prior, k))[::-1]
    check_in(cluster_prior, PRIORS, "cluster_prior")
    if cluster_prior == "uniform":
        return np.full(k, 1 / k)
    from fmcluster.partition.estimates.sizes import estimate_sizes

    shares = np.sort(np.asarray(estimate_sizes(data), dtype=np.float64))[::-1]
    # No cluster is given less than a tenth of a balanced share: none is to die of its prior.
    shares = np.maximum(shares, 0.1 / k)
    return shares / shares.sum()


@dataclass
class PriorTarget:
    """The shares a balancing term pulls to.

    Attributes
    ----------
    sorted_shares : Tensor (k,)
        Largest first.
    target : Tensor (n_heads, k) or (k,)
        The same shares, given out to the clusters of each head.
    """

    sorted_shares: Tensor
    target: Tensor
    is_uniform: bool

    @classmethod
    def resolve(cls, cluster_prior: Any, data: HeadData, *, n_heads: int | None = None) -> Any:
        """Make the target of a head from its `cluster_prior` argument."""
        shares = torch.from_numpy(resolve_prior(cluster_prior, data).copy()).float()
        target = shares if n_heads is None else shares.repeat(n_heads, 1)
        return cls(shares, target, bool((shares - shares[0]).abs().max() < 1e-6))

    @property
    def needs_shares(self) -> bool:
        """Return whether `align` has anything to do."""
        return not self.is_uniform

    def align(self, shares: Tensor) -> None:
        """Give the shares out by rank of the clusters' present shares (..., k)."""
        order = shares.argsort(dim=-1, descending=True)
        source = self.sorted_shares.to(shares.device).expand_as(shares)
        self.target = torch.empty_like(shares).scatter_(-1, order, source)

    def shares(self, network: nn.Module, rows: TrainData) -> Any:
        """Return the prior given out to the clusters as they are at the end; None if uniform.

        It is read off the trained network, not off the last epoch's target, which a run that was
        resumed after its last epoch does not have.
        """
        if self.is_uniform:
            return None
        sizes = rows.mean(lambda xs: network(xs).softmax(dim=-1))
        given = torch.empty_like(sizes)
        given[sizes.argsort(descending=True)] = self.sorted_shares.to(sizes)
        return given.double().numpy()
