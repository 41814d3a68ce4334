"""What a head tells the training loop: its `Objective`, `Schedule` and run-time `TrainOptions`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn

from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.views import Batch
from fmcluster.utils.validation import check_counts


@dataclass(frozen=True)
class TrainOptions:
    """Run-time options, apart from the method: where, how precisely, what to keep.

    Attributes
    ----------
    device : str, optional
        Default: what Accelerate gives this process.
    mixed_precision : {"no", "fp16", "bf16"}
        Autocast of forward passes.
    gradient_accumulation : int
        Batches per optimizer step.
    checkpoint_dir : str, optional
        Where each epoch's state is kept; a run with the same settings resumes from it.
    log_with : str or list, optional
        Accelerate trackers ("tensorboard", "wandb", ...).
    log_dir : str, optional
        Where ``history.jsonl`` and tracker files go.
    """

    device: str | None = None
    mixed_precision: str = "no"
    gradient_accumulation: int = 1
    checkpoint_dir: str | None = None
    log_with: Any = None
    log_dir: str | None = None

    def __post_init__(self) -> None:
        check_counts(self)


@dataclass(frozen=True)
class Schedule:
    """The optimization that a paper prescribes.

    Attributes
    ----------
    epochs, batch_size : int
        Passes over the rows; rows per step over all processes together.
    learning_rate, weight_decay, momentum : float
        Of the optimizer.
    optimizer : {"adam", "adamw", "sgd"}
        Which one.
    warmup_epochs : int
        Linear increase of the rate at the start.
    cosine : bool
        Decrease to a hundredth of the rate along a half cosine.
    max_grad_norm : float, optional
        Gradients are clipped to this length.
    patience : int, optional
        Stop after so many epochs without a better label-free criterion.
    min_steps : int
        Epochs are added until at least so many steps are taken (but no more than there are rows):
        on a few thousand rows a paper's number of epochs is a handful of steps.
    """

    epochs: int
    # As the heads' own; 1e-3 is Adam's default, 0.9 the usual momentum.
    batch_size: int = 1024
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    weight_decay: float = 0.0
    momentum: float = 0.9
    warmup_epochs: int = 0
    cosine: bool = False
    max_grad_norm: float | None = None
    patience: int | None = None
    min_steps: int = 0


class Objective(nn.Module):
    """What a head supplies to the loop: subclass and fill in.

    Those that hold what they are given, and nothing else, are dataclasses.
    """

    def __new__(cls, *args: Any, **given: Any) -> Self:
        made = super().__new__(cls)
        nn.Module.__init__(made)  # a dataclass sets its fields without
        return made

    def start(self, data: TrainData) -> None:
        """Initialize the modules from the data (warm start, input scale)."""

    def before_epoch(self, epoch: int, data: TrainData) -> None:
        """Refresh what is computed from all rows: targets, priors, assignments."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch; the entry "loss" is differentiated."""
        raise NotImplementedError

    def labeled_loss(self, xs: list[Tensor], target: Tensor) -> Tensor:
        """Return the cross-entropy of rows, one array a space, whose classes (l,) a person said.

        The loop adds it to the loss of every step, where the data has such rows.
        """
        raise NotImplementedError

    def after_step(self) -> None:
        """Update what follows the weights: a teacher, a memory."""

    def criterion(self, data: TrainData) -> float | None:
        """Return the label-free criterion, smaller is better; None: the epoch's mean loss."""
        return None

    def trainable(self) -> Sequence[Any]:
        """Return parameters or parameter groups for the optimizer."""
        return [p for p in self.parameters() if p.requires_grad]
