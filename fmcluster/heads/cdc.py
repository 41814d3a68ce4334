r"""CDC: calibrated deep clustering (ICLR 2025), on frozen embeddings.

Two heads of one shape, Linear - BatchNorm - ReLU - Linear, start from the same prototypes. The
clustering head learns pseudo-labels that the calibration head chose,

.. math:: L_{clu} = CE(z^{clu}(x^s_i), \arg\max_k p^{cal}_{ik}), \quad i \in \bigcup_k S_k,

where :math:`S_k` holds the :math:`n_k = \lfloor N \pi_k \bar c_k \rfloor` rows of largest
:math:`p^{cal}_{\cdot k}` and :math:`\bar c_k` is the mean confidence of the first
:math:`N \pi_k` of them: few rows while confidence is low, all when it is one. The calibration head
learns what a row's mini-cluster and neighbors believe on average,

.. math:: L_{cal} = -\frac1N \sum_i \sum_k t_{ik} \log p^{cal}_{ik}
          + w\, KL\big(\bar p^{cal} \,\|\, \pi\big), \quad t_i = \tfrac12 (t^{mini}_i + t^{knn}_i),

so that it is confident only where the rows around agree. With a uniform :math:`\pi` this is the
paper's entropy term up to a constant. As the embeddings do not change, mini-clusters are computed
once, targets once an epoch, and no row is part of its own target. Probabilities are the
calibration head's.

The paper trains from one k-means start, and the luck of that start is a part of the confidence
that nothing in the method can see: k-means from another seed moves a third of the rows of a
long-tailed set. So several starts are trained on one trunk, each as the paper has it, and their
calibrated probabilities are averaged under one naming of the clusters; ``n_starts=1`` is the paper.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fmcluster.functional.losses import kl_to_prior, labeled_cross_entropy
from fmcluster.heads.networks.dual import SAMPLE_ROWS, CDCNetwork, DualHead, over_blocks
from fmcluster.heads.networks.layers import UnitInput
from fmcluster.heads.networks.prototypes import prototypes, spread, standardize_rows
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.head import TrainedHead
from fmcluster.heads.training.objective import Objective
from fmcluster.heads.training.prior import PriorTarget
from fmcluster.heads.training.views import Batch
from fmcluster.heads.training.warm_start import start_labels
from fmcluster.partition.kmeans import MINI_ROUNDS, spherical_kmeans
from fmcluster.utils import distributed
from fmcluster.utils.validation import check_in, check_range
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.rows import BLOCK_ROWS

ORTHOGONALIZE = ("both", "last", "none")
OUTPUTS = ("calibration", "clustering")
# Enough rows for a mean, few enough to lie inside one class; the paper's hold 2 to 25.
ROWS_PER_MINI_CLUSTER = 25
# Time of the k-means that finds them.
MAX_MINI_CLUSTERS = 4_096
# Probabilities of all rows that take more are computed in turns, and kept in two bytes.
KEPT_BYTES = 2**30


def calibrated_selection(proba: Tensor, shares: Tensor) -> Tensor:
    """Return which rows (N,) teach: for each class its most probable, as its confidence allows.

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
    for k, share in enumerate(shares.tolist()):
        first = proba[:, k].topk(min(max(1, round(n_rows * share)), n_rows)).indices
        n_kept = int(len(first) * float(confidence[first].mean()))
        chosen[first[:n_kept]] = True
    return chosen


class MiniClusterMeans:
    """Targets of rows, made when asked for: their mini-cluster's and their neighbors' mean.

    No row is part of its own target.

    Parameters
    ----------
    proba : Tensor (N, K)
        The clustering head's probabilities, of four or two bytes.
    mini_clusters : Tensor (N,) int64
        Mini-cluster of each row.
    neighbors : Tensor (N, k) integer, optional
        Nearest neighbors of each row.
    """

    def __init__(self, proba: Tensor, mini_clusters: Tensor, neighbors: Tensor | None) -> None:
        self.proba, self.mini_clusters, self.neighbors = proba, mini_clusters, neighbors
        self.sizes = torch.bincount(mini_clusters)
        self.totals = torch.zeros(len(self.sizes), proba.shape[1], device=proba.device)
        for part, p in zip(mini_clusters.split(BLOCK_ROWS), proba.split(BLOCK_ROWS), strict=True):
            self.totals.index_add_(0, part, p.float())

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return the targets (B, K) of rows (B,)."""
        own, mini = self.proba[rows].float(), self.mini_clusters[rows]
        size = self.sizes[mini]
        others = (self.totals[mini] - own) / (size[:, None].float() - 1).clamp_min(1)
        if self.neighbors is None:
            return torch.where(size[:, None] <= 1, own, others).clamp_min(0)
        near = torch.zeros_like(own)
        for column in self.neighbors[rows].unbind(1):
            near += self.proba[column]
        near /= self.neighbors.shape[1]
        return (0.5 * (torch.where(size[:, None] <= 1, near, others) + near)).clamp_min(0)


@dataclass(eq=False, repr=False)
class CDCObjective(Objective):
    """Both heads, trained together on frozen rows."""

    dims: list[int]
    n_clusters: int
    _: KW_ONLY
    n_starts: int
    hidden: int
    prior: PriorTarget
    start_labels: NDArray[np.int64] | None
    n_mini_clusters: int | None
    balance_weight: float
    orthogonalise: str

    def __post_init__(self) -> None:
        self.input = UnitInput(self.dims)
        sizes = self.input.n_dims, self.hidden, self.n_clusters, self.n_starts
        self.clustering, self.calibration = DualHead(*sizes), DualHead(*sizes)

    @torch.no_grad()
    def start(self, data: TrainData) -> None:
        """Set both layers of both heads from prototypes, and find the mini-clusters."""
        seed = data.seed % 2**31
        rows = data.sample(SAMPLE_ROWS)
        x = over_blocks(self._unit, rows)
        head = self.calibration
        centers = prototypes(x, len(head.first.weight), seed=seed)
        head.first.weight.copy_(spread(centers) if self.orthogonalise == "both" else centers)
        head.first.bias.zero_()
        raw = over_blocks(lambda xs: head.first(self.input(xs)).cpu(), rows)
        # The paper leaves these at 0 and 1; the data's own keep the start the same in training
        # mode, where the batch's statistics rule.
        head.norm.running_mean.copy_(raw.mean(dim=0))
        head.norm.running_var.copy_(raw.var(dim=0).clamp_min(1e-6))
        unit = self._hidden(raw.to(data.device))
        head.last.linear.weight.copy_(torch.cat(self._last_layers(unit, data, seed + 100)))
        head.last.linear.bias.zero_()
        self.clustering.load_state_dict(head.state_dict())
        self.mini_clusters = self._mini_clusters(x.numpy(), data, seed + 1)

    def _unit(self, xs: list[Tensor]) -> Tensor:
        return standardize_rows(self.input(xs)).cpu()

    def _hidden(self, raw: Tensor) -> Tensor:
        """Return unit rows of the space in which last layers start, of the first layer's output."""
        return standardize_rows(self.calibration.norm.eval()(raw).relu().cpu())

    def _last_layers(self, unit: Tensor, data: TrainData, seed: int) -> list[Tensor]:
        """Return the prototypes (K, hidden) of every start."""
        n_starts, n_clusters = self.clustering.last.shape
        if self.start_labels is not None:
            labels = torch.from_numpy(self.start_labels)[data.sampled(SAMPLE_ROWS)]
            sums = torch.zeros(n_clusters, unit.shape[1]).index_add_(0, labels, unit)
            found = [nn.functional.normalize(sums, dim=1)] * n_starts
        else:
            # Twice as many, the better half by k-means' own objective: bad optima are left out.
            n_tried = max(4, 2 * n_starts)
            tried = [prototypes(unit, n_clusters, seed=seed + i) for i in range(n_tried)]
            fit = [float((unit @ centers.T).max(dim=1).values.mean()) for centers in tried]
            best = sorted(range(len(tried)), key=lambda i: -fit[i])[:n_starts]
            found = [tried[i] for i in best]
        if data.fixed is not None:
            known = self._hidden(self.calibration.first(self.input(data.take(data.fixed.rows))))
            found = [data.fixed.first(centers, known) for centers in found]
        return found if self.orthogonalise == "none" else [spread(centers) for centers in found]

    def _mini_clusters(self, rows: NDArray[np.float32], data: TrainData, seed: int) -> Tensor:
        """Return the mini-cluster (N,) of each row; they are made from the rows given."""
        # Four a cluster at least, or a mini-cluster holds rows of several.
        asked = self.n_mini_clusters or int(
            np.clip(data.n_rows / ROWS_PER_MINI_CLUSTER, 4 * data.n_clusters, MAX_MINI_CLUSTERS)
        )
        n_mini = max(1, min(asked, len(rows) // 2))
        centroids = torch.from_numpy(
            spherical_kmeans(rows, n_mini, max_iter=MINI_ROUNDS, seed=seed)
        )
        return data.map(lambda xs: (self._unit(xs) @ centroids.T).argmax(dim=1), torch.int64)

    @torch.no_grad()
    def before_epoch(self, epoch: int, data: TrainData) -> None:
        """Choose the pseudo-labels and compute the calibration head's targets from all rows."""
        self.eval()
        n, (n_heads, k) = data.n_rows, self.clustering.last.shape
        if self.prior.needs_shares:
            self.prior.align(data.mean(lambda xs: self.calibration(self.input(xs)).softmax(dim=-1)))
        chosen, labels = torch.empty(n, n_heads), torch.empty(n, n_heads, dtype=torch.int64)
        # As many starts at a time as the memory holds: a class picks its rows among all rows.
        at_once = max(1, min(n_heads, KEPT_BYTES // (4 * n * k)))
        for heads in torch.arange(n_heads, device=data.device).split(at_once):
            p = data.map(partial(self._calibrated, heads=heads))
            for at, h in enumerate(heads.tolist()):
                shares = self.prior.target[h].cpu()
                chosen[:, h] = calibrated_selection(p[:, at], shares).float()
                labels[:, h] = p[:, at].argmax(dim=-1)
        if data.fixed is not None:
            chosen[data.fixed.rows] = 1
            labels[data.fixed.rows] = data.fixed.target.cpu()[:, None]
        self.chosen, self.labels = chosen.to(data.device), labels.to(data.device)
        # Four bytes a probability in float32.
        wide = torch.float32 if 4 * n * n_heads * k <= KEPT_BYTES else torch.float16
        believed = data.map(
            lambda xs: self.clustering(self.input(xs)).softmax(dim=-1).flatten(1), wide
        )
        if data.fixed is not None:
            certain = nn.functional.one_hot(data.fixed.target.cpu(), k).to(wide)
            believed[data.fixed.rows] = certain.repeat(1, n_heads)
        self.train()
        near = data.neighbor_tensor
        near = None if near is None else near.to(data.device)
        device = data.device
        self.targets = MiniClusterMeans(believed.to(device), self.mini_clusters.to(device), near)

    def _calibrated(self, xs: list[Tensor], heads: Tensor) -> Tensor:
        return self.calibration.some(self.input(xs), heads).softmax(dim=-1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        rows = batch.rows.to(self.labels.device)
        chosen, labels = self.chosen[rows], self.labels[rows]
        z = self.clustering(self.input(batch.strong()))
        losses = nn.functional.cross_entropy(z.movedim(1, -1), labels, reduction="none")
        n_chosen = distributed.mean_over_ranks(chosen.sum()).clamp_min(1)
        clustering = (losses * chosen).sum() / n_chosen
        log_p = self.calibration(self.input(batch.x)).log_softmax(dim=-1)
        targets = self.targets[rows].view_as(log_p)
        fit = -(targets * log_p).sum(dim=-1).mean()
        mean = distributed.mean_over_ranks(log_p.exp().mean(dim=0))
        even = kl_to_prior(mean, self.prior.target.to(mean.device)).mean()
        return {
            "loss": clustering + fit + self.balance_weight * even,
            "clustering": clustering,
            "calibration": fit,
            "size_divergence": even,
            "share_labeled": chosen.mean(),
        }

    def labeled_loss(self, xs: list[Tensor], target: Tensor) -> Tensor:
        loss = torch.zeros((), device=target.device)
        for head in (self.clustering, self.calibration):
            # Statistics of all rows: the labeled ones are no random sample.
            head.norm.eval()
            loss = loss + labeled_cross_entropy(head(self.input(xs)), target).mean()
            head.norm.train(self.training)
        return loss


@dataclass(eq=False, repr=False, kw_only=True)
class CDCHead(TrainedHead):
    """CDC: a clustering head and a calibration head that choose each other's labels.

    Parameters
    ----------
    n_neighbors : int
        Neighbors whose mean is half of a row's target, and that its strong views mix with.
    n_starts : int
        Pairs of last layers trained from different k-means starts and averaged; the paper: 1.
    hidden : int
        Prototypes of the first layer.
    init : {"paper", "partition"}
        Last layers from k-means in the hidden space, or from the best-scored label-free partition.
    orthogonalise : {"last", "both", "none"}
        Which layers' prototypes are spread apart. The paper: both; on the signed rows of a text
        encoder, spreading 512 centroids in 384 dimensions undoes them.
    cluster_prior : "uniform", "estimate" or array (k,)
        Sizes in selection and in the balancing term; the paper: uniform.
    n_mini_clusters : int, optional
        Of the targets; by default one per 25 rows, at least four per cluster.
    balance_weight : float
        Weight of the balancing term.
    epochs, min_steps : int
        Passes over the rows; on few rows epochs are added until `min_steps` steps are taken.
    output : {"calibration", "clustering"}
        Whose probabilities are given.
    """

    name = "cdc"
    takes_answers = ("labels",)
    self_calibrated = True

    # More even out the chance of k-means starts; each is a pair of layers to train.
    n_starts: int = 8
    # Fewer tell too little apart; more are time, and cannot be spread in few dimensions.
    hidden: int = 512
    init: str = "paper"
    orthogonalise: str = "last"
    cluster_prior: Any = "uniform"
    n_mini_clusters: int | None = None
    balance_weight: float = 1.0
    # Layers begin at prototypes, so tens of steps do; heads that begin at random take hundreds.
    min_steps: int = 60
    output: str = "calibration"

    def _network(self, dims: list[int], n_clusters: int) -> nn.Module:
        joint = UnitInput(dims)
        return CDCNetwork(joint, DualHead(joint.n_dims, self.hidden, n_clusters, self.n_starts))

    def _train(self, data: HeadData, rows: TrainData) -> nn.Module:
        check_in(self.orthogonalise, ORTHOGONALIZE, "orthogonalise")
        check_in(self.output, OUTPUTS, "output")
        check_range(self.hidden, "hidden", low=1)
        check_range(self.n_starts, "n_starts", low=1)
        prior = PriorTarget.resolve(self.cluster_prior, data, n_heads=self.n_starts)
        objective = CDCObjective(
            [space.n_dims for space in data.spaces],
            data.n_clusters,
            n_starts=self.n_starts,
            hidden=self.hidden,
            prior=prior,
            start_labels=start_labels(self.init, data),
            n_mini_clusters=self.n_mini_clusters,
            balance_weight=self.balance_weight,
            orthogonalise=self.orthogonalise,
        )
        schedule = self._schedule(cosine=True, min_steps=self.min_steps)
        self._stage("heads", objective, rows, schedule)
        head = objective.calibration if self.output == "calibration" else objective.clustering
        network = CDCNetwork(objective.input, head).eval()
        network.align(rows)
        return network
