"""A warm start: a network learns a given partition before its own objective begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fmcluster.heads.training.data import TrainData
from fmcluster.partition.candidates import start_partition
from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import check_in
from fmcluster.vectors.fit_data import HeadData

INITS = ("paper", "partition")
# Time against how well the partition is learned; the objective's own steps are hundreds more.
STEPS = 150
# As in the training that follows: of fewer rows a step is noisier, of more it takes longer.
BATCH_ROWS = 1_024
# Labels are wrong for a part of the rows: without smoothing the start is too confident to leave.
SMOOTHING = 0.1


def start_labels(init: str, data: HeadData) -> NDArray[np.int64] | None:
    """Return the partition (n,) that a head learns first; None where `init` is "paper"."""
    check_in(init, INITS, "init")
    return start_partition(data) if init == "partition" else None


@torch.enable_grad()
def warm_start(
    logits: Callable[[list[Tensor]], Tensor],
    parameters: Iterable[nn.Parameter],
    labels: NDArray[np.int64],
    data: TrainData,
) -> None:
    """Fit ``logits(rows) -> (..., B, K)`` to `labels` (n,) by label-smoothed cross-entropy.

    Label smoothing keeps the start soft enough for the objective to move rows after it.
    """
    # Adam's own rate: higher is unsteady, lower needs more than these steps.
    optimizer = torch.optim.Adam(list(parameters), lr=1e-3, foreach=True)
    generator = torch.Generator().manual_seed(seed_of(data.seed, "warm start"))
    targets = torch.from_numpy(labels).to(data.device)
    size = min(BATCH_ROWS, data.n_rows)
    for _ in range(STEPS):
        rows = torch.randint(data.n_rows, (size,), generator=generator)
        z = logits(data.take(rows))
        y = targets[rows.to(data.device)].expand(z.shape[:-1])
        loss = F.cross_entropy(z.flatten(0, -2), y.flatten(), label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
