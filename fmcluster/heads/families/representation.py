"""What the heads that learn a representation share: an adapter, a readout, `transform`.

The published methods train an image network. On frozen embeddings its place is taken by an
*adapter*: a linear map that starts at the principal components, plus a hidden layer that starts at
zero. So training starts from the embedding's own geometry, and what a loss adds is seen at once.
Two augmented images become a row's weak view and one of its nearest neighbors (or two cached
views, where the store has them).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional as F

from fmcluster.heads.networks.layers import JointInput
from fmcluster.heads.training import draws
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.determinism import one_thread
from fmcluster.heads.training.head import TrainedHead
from fmcluster.heads.training.objective import Objective
from fmcluster.heads.training.views import Batch
from fmcluster.partition.kmeans import N_INIT, ROUNDS, median_margin, spherical_kmeans
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.pca import PCAMap
from fmcluster.vectors.rows import BLOCK_ROWS

# Width of the nonlinear part, which starts at zero: twice the default `n_out`.
HIDDEN = 256
# From unit rows (n, d), a number of clusters, `max_iter` and `seed` to centroids (k, d).
KMeans = Callable[..., NDArray[np.float32]]
best_of_four: KMeans = partial(spherical_kmeans, n_init=N_INIT)


class Adapter(nn.Module):
    """``z = normalize(W x + V relu(U x))``: (B, d) -> unit rows (B, n_out)."""

    def __init__(self, n_dims: int, n_out: int) -> None:
        super().__init__()
        self.linear = draws.linear(n_dims, n_out, bias=False)
        self.hidden = draws.linear(n_dims, HIDDEN)
        self.out = draws.linear(HIDDEN, n_out)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Start at the principal components of rows ``x`` (n, d)."""
        found = torch.from_numpy(PCAMap.fit(x.cpu().numpy(), self.linear.out_features).components)
        self.linear.weight.zero_()
        self.linear.weight[: len(found)] = found.to(self.linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.linear(x) + self.out(self.hidden(x).relu()), dim=1)


class Readout(nn.Module):
    """Logits ``scale * cos(z, centroid)`` (B, K); centroids are parameters where trained."""

    def __init__(self, n_dims: int, n_clusters: int) -> None:
        super().__init__()
        self.centroids = nn.Parameter(F.normalize(draws.normal(n_clusters, n_dims), dim=1))
        self.register_buffer("scale", torch.tensor(10.0))  # until `fit` measures it

    @torch.no_grad()
    def fit(self, z: Tensor, *, seed: int, kmeans: KMeans = best_of_four) -> Tensor:
        """Set centroids by spherical k-means of rows `z` (n, d); return the labels (n,)."""
        k = len(self.centroids)
        rows = np.ascontiguousarray(z.cpu().numpy(), np.float32)
        found = kmeans(rows, k, max_iter=ROUNDS, seed=seed)
        self.centroids.copy_(torch.from_numpy(found.copy()))
        cosines = rows @ found.T
        self.scale.fill_(1 / median_margin(cosines))
        return torch.from_numpy(cosines.argmax(axis=1))

    def forward(self, z: Tensor) -> Tensor:
        return self.scale * (z @ F.normalize(self.centroids, dim=1).T)


class Representation(nn.Module):
    """Spaces -> representation -> logits.

    Parameters
    ----------
    dims : sequence of int
        Dimensions of each space.
    n_out : int
        Dimensions of the representation, at most those of the spaces together.
    n_clusters : int
        Number of clusters.
    """

    def __init__(self, dims: Sequence[int], n_out: int, n_clusters: int) -> None:
        super().__init__()
        self.input = JointInput(dims)
        self.n_out = min(n_out, self.input.n_dims)
        self.adapter = Adapter(self.input.n_dims, self.n_out)
        self.readout = Readout(self.n_out, n_clusters)

    def start(self, data: TrainData) -> None:
        """Take input scale and principal components from the data."""
        sample = data.sample()
        self.input.fit(sample)
        self.adapter.fit(self.input(sample))

    def embed(self, xs: Sequence[Tensor]) -> Tensor:
        """Return unit rows (B, n_out)."""
        return self.adapter(self.input(xs))

    def forward(self, xs: Sequence[Tensor]) -> Tensor:
        return self.readout(self.embed(xs))

    def cluster(self, data: TrainData, *, seed: int, kmeans: KMeans = best_of_four) -> Tensor:
        """Set the readout by k-means of all rows; return their labels."""
        return self.readout.fit(data.map(self.embed), seed=seed, kmeans=kmeans)


@dataclass(eq=False, repr=False)
class PairObjective(Objective):
    """Base of objectives on two views of a row."""

    network: Representation

    def start(self, data: TrainData) -> None:
        self.network.start(data)
        self.neighbors = data.neighbor_tensor

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the representations of two views of each row."""
        return self.network.embed(batch.weak()), self.network.embed(batch.neighbor()[1])


@dataclass(eq=False, repr=False, kw_only=True)
class RepresentationHead(TransformerMixin, TrainedHead):
    """A trained head whose representation other heads can use.

    Parameters
    ----------
    n_out : int
        Dimensions of the representation.
    """

    fits_one_cluster = True

    n_out: int | None = None

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # float32, whatever comes in
        return tags

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the learned representation of rows of `X`: (m, n_out) float32.

        Any other head takes it as its input.
        """
        check_is_fitted(self, "columns_")
        spaces = self._open(X, reset=False)
        parts = []
        with torch.no_grad(), one_thread(torch.device("cpu")):
            for start in range(0, spaces[0].n_rows, BLOCK_ROWS):
                xs = [
                    torch.from_numpy(np.asarray(space[start : start + BLOCK_ROWS], np.float64))
                    for space in spaces
                ]
                parts.append(self.network_.embed(xs).float().numpy())
        return np.concatenate(parts)

    def fit_transform(self, X: Any, y: Any = None) -> NDArray[np.float32]:
        """Fit, and return the representation of the training rows."""
        return self.fit(X).transform(X)


@dataclass(eq=False, repr=False, kw_only=True)
class AdapterHead(RepresentationHead):
    """Base of the heads that train an adapter on pairs of views and read clusters off it."""

    stage: ClassVar[str] = "contrast"

    # As SimCLR's projection; fewer dimensions crowd many clusters.
    n_out: int = 128
    # Time; long training moves rows further from what the encoder said.
    epochs: int = 10
    # Negatives of a row: fewer are a noisier contrast, more cost their square in cosines.
    batch_size: int = 512
    # Under Adam's usual 1e-3: an adapter begins at what the encoder says and should stay near it.
    learning_rate: float = 3e-4

    def _objective(self, network: Representation, data: HeadData) -> PairObjective:
        raise NotImplementedError

    def _read_out(self, objective: Any, data: HeadData, rows: TrainData) -> None:
        """Give the trained representation its clusters: by k-means, unless they were trained."""
        objective.network.cluster(rows, seed=data.seed("kmeans"))

    def _network(self, dims: list[int], n_clusters: int) -> nn.Module:
        return Representation(dims, self.n_out, n_clusters)

    def _train(self, data: HeadData, rows: TrainData) -> nn.Module:
        network = self._fresh(data)
        objective = self._objective(network, data)
        self._stage(self.stage, objective, rows, self._schedule())
        self._read_out(objective, data, rows)
        return network
