"""`TrainedHead`: the part that all trained heads share, between the estimator and the loop.

A family's file supplies an objective and a schedule; here they are joined with rows, neighbors,
the prior on cluster sizes and the network that predicts.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fmcluster.heads.base import ClusterHead
from fmcluster.heads.config import plain_params
from fmcluster.heads.training import draws
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.determinism import ONE_TRAINING, one_thread
from fmcluster.heads.training.loop import train
from fmcluster.heads.training.objective import Objective, Schedule, TrainOptions
from fmcluster.utils import distributed
from fmcluster.vectors.fit_data import HeadData

# Predictions of fewer multiplications are done before a GPU is awake.
GPU_WORK = 2**28


@dataclass(eq=False, repr=False, kw_only=True)
class TrainedHead(ClusterHead):
    """A head with a network trained by `training.loop.train`.

    Parameters
    ----------
    n_neighbors : int
        Nearest neighbors to draw a second view of a row from; 0 builds no graph.
    epochs : int
        Passes over the rows.
    batch_size : int
        Rows per step, of all processes together.
    learning_rate : float
        Of Adam.
    options : TrainOptions, optional
        Device, precision, checkpoints: whatever does not belong to the method.

    Attributes
    ----------
    network_ : torch.nn.Module
        Maps a list of spaces' rows to logits (m, k); kept in float64 on the CPU, so that a row's
        answer does not depend on the rows beside it.
    history_ : list of dict
        Losses of each epoch, stage after stage.
    """

    fits_one_cluster = False

    # Fewer are purer pairs, more of them differ more from the row itself.
    n_neighbors: int = 10
    # Time; heads whose losses settle later have more.
    epochs: int = 20
    # Fewer rows make noisier shares of clusters, more rows fewer steps an epoch.
    batch_size: int = 1024
    # Adam's own default: higher is unsteady, lower needs more epochs.
    learning_rate: Any = 1e-3
    options: TrainOptions | None = None

    # -- what a family supplies -------------------------------------------------------------

    def _network(self, dims: list[int], n_clusters: int) -> nn.Module:
        """Return a fresh inference network: list of (m, d_v) -> logits (m, k)."""
        raise NotImplementedError

    def _train(self, data: HeadData, rows: TrainData) -> nn.Module:
        """Run the family's stages and return the trained inference network."""
        raise NotImplementedError

    # -- shared -----------------------------------------------------------------------------

    def _fit(self, data: HeadData) -> None:
        options = self.options or TrainOptions()
        device = distributed.device(options.device or _default_device())
        neighbors = data.graph(self.n_neighbors).indices if self.n_neighbors else None
        rows = TrainData(
            data.spaces,
            neighbors,
            data.n_clusters,
            data.seed("train"),
            device=device,
            answers=data.answers,
        )
        self.history_: list[dict[str, Any]] = []
        with ONE_TRAINING, draws.drawn_from(data.seed("network")):
            network = self._train(data, rows)
        self.network_ = network.cpu().eval().requires_grad_(False).double()

    def _fresh(self, data: HeadData) -> Any:
        """Return the network of the data's spaces and clusters, untrained."""
        return self._network([space.n_dims for space in data.spaces], data.n_clusters)

    def _schedule(self, **more: Any) -> Schedule:
        return Schedule(self.epochs, self.batch_size, self.learning_rate, **more)

    def _stage(
        self,
        name: str,
        objective: Objective,
        rows: TrainData,
        schedule: Schedule,
        *,
        without: Sequence[str] = (),
    ) -> Objective:
        """Run one stage of training; its loss curve joins `history_`.

        A checkpoint is resumed by a head with the same arguments and rows; arguments named in
        `without` have no part in this stage.
        """
        options = self.options or TrainOptions()
        if options.checkpoint_dir:
            options = replace(options, checkpoint_dir=f"{options.checkpoint_dir}/{name}")
        if schedule.epochs > 0:
            curve = train(
                objective,
                rows,
                schedule,
                options=options,
                settings={
                    "head": self.name,
                    "stage": name,
                    "seed": rows.seed,
                    "shape": [space.shape for space in rows.spaces],
                    "n_clusters": rows.n_clusters,
                    **_labels(rows),
                    "params": {
                        key: value
                        for key, value in plain_params(self).items()
                        if key not in (*without, "random_state")
                    },
                },
            )
            self.history_ += [{"stage": name, **record} for record in curve]
        else:
            objective.to(rows.device)
            with one_thread(rows.device):
                objective.start(rows)
        return objective.eval()

    def _proba(self, xs: list[NDArray[np.float32]]) -> NDArray[np.floating]:
        device, network = torch.device("cpu"), self.network_
        gpu = distributed.gpu()
        if gpu is not None and len(xs[0]) * _size(network) >= GPU_WORK:
            # A copy: other threads may ask it for other rows, and it is saved as it is.
            device, network = gpu, copy.deepcopy(network).to(gpu)
        with torch.no_grad(), one_thread(device):
            tensors = [torch.from_numpy(np.asarray(x, np.float64)).to(device) for x in xs]
            return network(tensors).softmax(dim=1).cpu().numpy()

    def _state(self) -> dict[str, NDArray[Any]]:
        arrays = {key: value.cpu() for key, value in self.network_.state_dict().items()}
        arrays = {k: v.float() if v.is_floating_point() else v for k, v in arrays.items()}
        n_outputs = np.array([self._n_outputs()])
        return {**{key: value.numpy() for key, value in arrays.items()}, "n_outputs": n_outputs}

    def _n_outputs(self) -> int:
        with torch.no_grad():
            probe = [torch.zeros(1, d, dtype=torch.float64) for d in self.space_dims_]
            return int(self.network_(probe).shape[1])

    def _load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        n_outputs = int(arrays.pop("n_outputs")[0])
        network = self._network(self.space_dims_, n_outputs)
        network.load_state_dict({key: torch.from_numpy(np.array(v)) for key, v in arrays.items()})
        self.network_ = network.eval().requires_grad_(False).double()


def _size(network: nn.Module) -> int:
    return sum(weights.numel() for weights in network.parameters())


def _labels(rows: TrainData) -> dict[str, Any]:
    """Return what a checkpoint must agree with where rows have classes."""
    if rows.fixed is None:
        return {}
    return {"labels": [rows.fixed.rows.tolist(), rows.fixed.target.tolist()]}


def _default_device() -> str | None:
    """Return "cpu" where no accelerator is there, without waking Accelerate's state."""
    if distributed.is_launched() or torch.cuda.is_available():
        return None
    return "cpu"
