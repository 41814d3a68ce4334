r"""TURTLE: let go of your labels with unsupervised transfer (Gadetsky et al., ICML 2024).

A labeling :math:`\tau_\theta(x) = \frac1V \sum_v softmax(\theta_v \phi_v(x))` over V embedding
spaces is sought which linear probes, fitted to it, reproduce best:

.. math:: \min_\theta \sum_v CE\big(w_v^* \phi_v(x), \tau_\theta(x)\big)
          + \gamma \sum_v KL\big(\overline{softmax(\theta_v \phi_v)} \,\|\, \pi\big),

where :math:`w_v^*` is a fresh probe after M steps of Adam on
:math:`CE(w_v \phi_v(x), \tau_\theta(x))`. The gradient is first-order: only through :math:`\tau`
where it is the target. With a uniform :math:`\pi` the second term is the paper's entropy up to a
constant. The probe's gradient is written out, so that an inner step is two matrix products.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fmcluster.functional.losses import kl_to_prior
from fmcluster.heads.networks.layers import InputScale
from fmcluster.heads.training import draws
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.head import TrainedHead
from fmcluster.heads.training.objective import Objective
from fmcluster.heads.training.prior import PriorTarget
from fmcluster.heads.training.views import Batch
from fmcluster.heads.training.warm_start import start_labels, warm_start
from fmcluster.utils import distributed
from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import check_range
from fmcluster.vectors.fit_data import HeadData

# Of Adam, as in its paper (Kingma & Ba, 2015).
BETAS, EPSILON = (0.9, 0.999), 1e-8


@torch.no_grad()
def fit_probe(
    x: Tensor, target: Tensor, *, n_steps: int, learning_rate: float, generator: torch.Generator
) -> Tensor:
    """Return the logits (B, K) of a fresh linear probe after `n_steps` of Adam.

    Parameters
    ----------
    x : Tensor (B, d)
        Rows of one space.
    target : Tensor (B, K)
        Soft labels that the probe is fitted to.
    n_steps, learning_rate
        Of Adam on the mean cross-entropy.
    generator : torch.Generator
        Start of the probe: uniform in plus or minus one over the root of d, as `nn.Linear`.
    """
    n_dims, k = x.shape[1], target.shape[1]
    bound = n_dims**-0.5
    start = (2 * torch.rand(n_dims + 1, k, generator=generator) - 1) * bound
    weight = start.to(x.device)
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    gradient = torch.empty_like(weight)
    for step in range(1, n_steps + 1):
        error = (torch.addmm(weight[-1], x, weight[:-1]).softmax(dim=1) - target) / len(x)
        gradient[:-1] = x.T @ error
        gradient[-1] = error.sum(dim=0)
        gradient = distributed.mean_over_ranks(gradient)
        first.lerp_(gradient, 1 - BETAS[0])
        second.lerp_(gradient.square(), 1 - BETAS[1])
        scale = (second / (1 - BETAS[1] ** step)).sqrt_().add_(EPSILON)
        weight -= learning_rate / (1 - BETAS[0] ** step) * first / scale
    return torch.addmm(weight[-1], x, weight[:-1])


class TaskEncoder(nn.Module):
    """The labeling: one weight-normalized linear layer per space, their softmaxes averaged."""

    def __init__(self, dims: list[int], n_clusters: int, *, normed: bool = True) -> None:
        super().__init__()
        self.scales = nn.ModuleList([InputScale(d) for d in dims])
        layers = [draws.linear(d, n_clusters) for d in dims]
        if normed:
            layers = [nn.utils.parametrizations.weight_norm(layer) for layer in layers]
        self.linear = nn.ModuleList(layers)

    def plain(self) -> TaskEncoder:
        """Return a copy with the normalization folded into the weights: what predicts."""
        dims = [linear.in_features for linear in self.linear]
        copied = TaskEncoder(dims, self.linear[0].out_features, normed=False)
        state = {key: value for key, value in self.state_dict().items() if "parametriz" not in key}
        for number, linear in enumerate(self.linear):
            state[f"linear.{number}.weight"] = linear.weight.detach().clone()
        copied.load_state_dict(state)
        return copied

    def each(self, scaled: list[Tensor]) -> list[Tensor]:
        """Return the probabilities (B, K) in each space, of scaled rows."""
        return [linear(x).softmax(dim=1) for linear, x in zip(self.linear, scaled, strict=True)]

    def scaled(self, xs: list[Tensor]) -> list[Tensor]:
        """Return every space's rows at unit variance."""
        return [scale(x) for scale, x in zip(self.scales, xs, strict=True)]

    def forward(self, xs: list[Tensor]) -> Tensor:
        """Return log-probabilities (B, K)."""
        return torch.stack(self.each(self.scaled(xs))).mean(dim=0).clamp_min(1e-30).log()


@dataclass(eq=False, repr=False)
class TURTLEObjective(Objective):
    """The outer problem; the inner probes are fitted inside `forward`."""

    dims: list[int]
    n_clusters: int
    _: KW_ONLY
    entropy_weight: float
    inner_steps: int
    inner_learning_rate: float
    prior: PriorTarget
    start_labels: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        self.task = TaskEncoder(self.dims, self.n_clusters)
        self.generator = torch.Generator()

    def start(self, data: TrainData) -> None:
        """Scale each space; learn the start partition, if there is one."""
        for scale, x in zip(self.task.scales, data.sample(), strict=True):
            scale.fit(x)
        if self.start_labels is not None:
            warm_start(self.task, self.task.linear.parameters(), self.start_labels, data)

    def before_epoch(self, epoch: int, data: TrainData) -> None:
        """Seed the epoch's probes; give out the prior."""
        self.generator.manual_seed(seed_of(data.seed, "probe", epoch))
        if self.prior.needs_shares:
            shares = data.mean(lambda xs: self.task(xs).exp())
            self.prior.align(shares.to(data.device))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        scaled = self.task.scaled(batch.x)
        each = self.task.each(scaled)
        tau = torch.stack(each).mean(dim=0)
        fit = tau.new_zeros(())
        for x in scaled:
            logits = fit_probe(
                x,
                tau.detach(),
                n_steps=self.inner_steps,
                learning_rate=self.inner_learning_rate,
                generator=self.generator,
            )
            fit = fit - (tau * logits.log_softmax(dim=1)).sum(dim=1).mean()
        target = self.prior.target.to(tau.device)
        even = sum(kl_to_prior(distributed.mean_over_ranks(p.mean(dim=0)), target) for p in each)
        return {"loss": fit + self.entropy_weight * even, "probe": fit, "size_divergence": even}


@dataclass(eq=False, repr=False, kw_only=True)
class TURTLEHead(TrainedHead):
    """TURTLE: the labeling that linear probes reproduce best, over one or several spaces.

    Parameters
    ----------
    entropy_weight : float
        The paper's gamma.
    inner_steps, inner_learning_rate
        Adam steps of each fresh probe, and their rate.
    init : {"paper", "partition"}
        A random labeling, or one that first learns the best-scored label-free partition.
    cluster_prior : "uniform", "estimate" or array (k,)
        Sizes that the second term pulls to; the paper: uniform.
    epochs, min_steps : int
        Passes over the rows; epochs are added until `min_steps` outer steps are taken (the paper:
        6000, most of them after the labels have settled).
    batch_size, learning_rate
        Rows of an outer step (the paper: 10,000); of Adam.
    """

    name = "turtle"

    # The paper's weight, steps and rate: less weight lets clusters die, more makes sizes the prior.
    entropy_weight: float = 10.0
    inner_steps: int = 10
    inner_learning_rate: float = 1e-3
    init: str = "paper"
    cluster_prior: Any = "uniform"
    # Time; by a few hundred steps labels have settled.
    epochs: int = 50
    min_steps: int = 300
    # The paper's: of fewer rows a probe fits anything, and every labeling looks good.
    batch_size: int = 10_000
    n_neighbors: int = 0

    def _network(self, dims: list[int], n_clusters: int) -> nn.Module:
        return TaskEncoder(dims, n_clusters, normed=False)

    def _train(self, data: HeadData, rows: TrainData) -> nn.Module:
        check_range(self.inner_steps, "inner_steps", low=1)
        prior = PriorTarget.resolve(self.cluster_prior, data)
        objective = TURTLEObjective(
            [space.n_dims for space in data.spaces],
            data.n_clusters,
            entropy_weight=self.entropy_weight,
            inner_steps=self.inner_steps,
            inner_learning_rate=self.inner_learning_rate,
            prior=prior,
            start_labels=start_labels(self.init, data),
        )
        self._stage("task", objective, rows, self._schedule(min_steps=self.min_steps))
        network = objective.task.plain()
        self.cluster_prior_ = prior.shares(network, rows)
        return network
