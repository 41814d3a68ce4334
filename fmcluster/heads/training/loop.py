"""The one minibatch loop of every trained head, on Accelerate.

A head supplies an `Objective`: its modules, how it starts, its loss for a batch of rows (with
neighbors and views of them), and what it does between epochs. The loop owns the rest: shuffling,
ranks, mixed precision, gradient accumulation, schedules, checkpoint and resume, early stopping on
the label-free criterion, loss curves to Accelerate's trackers and to JSON lines.

On CPU the loop runs on one thread: the matrices are small, a second thread measured no faster, and
one seed gives the same labels for any thread count that way. On a GPU no step waits for the host
or is waited for: losses stay there, and whether they are finite is seen once an epoch.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fmcluster.heads.training import draws
from fmcluster.heads.training.checkpoint import Checkpoint
from fmcluster.heads.training.data import TrainData, shuffled
from fmcluster.heads.training.determinism import flush_denormals, one_thread
from fmcluster.heads.training.objective import Objective, Schedule, TrainOptions
from fmcluster.heads.training.views import Views
from fmcluster.utils import distributed
from fmcluster.utils.errors import TrainingError
from fmcluster.utils.progress import bar
from fmcluster.utils.random import seed_of
from fmcluster.utils.stopping import check_stopped
from fmcluster.utils.validation import check_in

logger = logging.getLogger(__name__)


def train(
    objective: Objective,
    data: TrainData,
    schedule: Schedule,
    *,
    options: TrainOptions | None = None,
    settings: dict[str, Any] | None = None,
) -> list[dict[str, float]]:
    """Train `objective` in place and return the loss curve, one dict per epoch.

    Parameters
    ----------
    objective : Objective
        Modules and losses.
    data : TrainData
        Rows and neighbors.
    schedule : Schedule
        Epochs, batch size, optimizer.
    options : TrainOptions, optional
        Device, precision, checkpoints, trackers.
    settings : dict, optional
        What a checkpoint must agree with to be resumed.

    Raises
    ------
    TrainingError
        The loss is not finite; epoch and learning rate are named, the last good state is kept.
    """
    options = options or TrainOptions()
    check_in(schedule.optimizer, ("adam", "adamw", "sgd"), "optimizer")
    weights = seed_of(data.seed, "weights")
    with one_thread(data.device), draws.drawn_from(weights) as stream:
        objective.to(data.device)
        objective.start(data)
        return _Loop(objective, data, schedule, options, settings or {}, stream).run()


class _Loop:
    """The state of one run."""

    def __init__(
        self,
        objective: Objective,
        data: TrainData,
        schedule: Schedule,
        options: TrainOptions,
        settings: dict[str, Any],
        stream: draws.Stream,
    ) -> None:
        self.objective, self.data, self.schedule, self.options = objective, data, schedule, options
        self.stream = stream
        self.accelerator = distributed.accelerator(
            data.device,
            mixed_precision=options.mixed_precision,
            gradient_accumulation_steps=options.gradient_accumulation,
            log_with=options.log_with,
            project_dir=options.log_dir,
        )
        optimizer = _optimizer(objective, schedule)
        self.model, self.optimizer = self.accelerator.prepare(objective, optimizer)
        self.base_rates = [group["lr"] for group in optimizer.param_groups]
        self.views = Views(data, seed=seed_of(data.seed, "views"))
        # Steps of equal size that leave out fewer rows than there are steps times processes.
        self.n_steps = max(1, round(data.n_rows / schedule.batch_size))
        self.share = max(2, data.n_rows // self.n_steps // distributed.world_size())
        wanted = min(schedule.min_steps, data.n_rows)
        self.n_epochs = max(schedule.epochs, -(-wanted // self.n_steps))
        self.history: list[dict[str, float]] = []
        # On a GPU to look at a loss is to wait for it.
        self.checks_each_step = data.device.type == "cpu"
        self.checkpoint = None
        if options.checkpoint_dir:
            settings = {**settings, "schedule": repr(schedule), "data": data.digest()}
            self.checkpoint = Checkpoint(Path(options.checkpoint_dir), settings)

    def run(self) -> list[dict[str, float]]:
        first = 0
        if self.checkpoint and (saved := self.checkpoint.load(self.objective, self.optimizer)):
            self.history, first = saved, len(saved)
            logger.info("resuming at epoch %d of %d", first + 1, self.n_epochs)
        if self.options.log_with:
            self.accelerator.init_trackers("fmcluster")
        best, waited = math.inf, 0
        for record in self.history:
            best, waited = _improved(record["criterion"], best, waited)
        with bar(total=self.n_epochs, description="training", unit="epochs") as shown:
            shown.update(first)
            for epoch in range(first, self.n_epochs):
                if self.schedule.patience is not None and waited >= self.schedule.patience:
                    logger.info("stopped after epoch %d: no better criterion", epoch)
                    break
                record = self._epoch(epoch)
                self.history.append(record)
                self._log(record)
                self._save(epoch)
                shown.update(1)
                best, waited = _improved(record["criterion"], best, waited)
        if self.options.log_with:
            self.accelerator.end_training()
        return self.history

    def _epoch(self, epoch: int) -> dict[str, float]:
        self.stream.restart(seed_of(self.data.seed, "epoch", epoch, distributed.rank()))
        self.views.restart(epoch)
        self.objective.train()
        self.objective.before_epoch(epoch, self.data)
        # In the steps alone: a thread that a library starts meanwhile keeps the mode for good.
        with flush_denormals():
            sums = self._steps(epoch)
        totals = distributed.sum_over_ranks(np.array(list(sums.values())))
        scale = 1 / (self.n_steps * distributed.world_size())
        record = dict(zip(sums, (totals * scale).tolist(), strict=True))
        self.objective.eval()
        criterion = self.objective.criterion(self.data)
        record["criterion"] = record["loss"] if criterion is None else float(criterion)
        return {"epoch": epoch, **record}

    def _steps(self, epoch: int) -> dict[str, float]:
        """Take the steps of an epoch and return the sums of its losses."""
        keys: list[str] = []
        kept: list[Tensor] = []
        for step, rows in enumerate(self._batches(epoch)):
            check_stopped()
            self._set_rate(epoch + step / self.n_steps)
            with self.accelerator.accumulate(self.model):
                losses = self._losses(rows)
                keys = list(losses)
                kept.append(torch.stack([_wide(loss) for loss in losses.values()]))
                if self.checks_each_step and not bool(losses["loss"].detach().isfinite()):
                    self._stop_on_nonfinite(epoch, step)
                self.accelerator.backward(losses["loss"])
                if self.schedule.max_grad_norm and self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(
                        self.model.parameters(), self.schedule.max_grad_norm
                    )
                self.optimizer.step()
                self.optimizer.zero_grad()
            self.objective.after_step()
        values = torch.stack(kept).cpu().double().numpy()
        broken = np.flatnonzero(~np.isfinite(values[:, keys.index("loss")]))
        if len(broken):
            self._stop_on_nonfinite(epoch, int(broken[0]))
        # Added in order: a sum by pairs would give other bits than a running one.
        return dict(zip(keys, np.cumsum(values, axis=0)[-1].tolist(), strict=True))

    def _losses(self, rows: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Return the losses of a batch, that of labeled rows among them where there are any."""
        losses: dict[str, Tensor] = self.model(self.views.batch(*rows))
        if self.data.fixed is None:
            return losses
        known, target = self.data.fixed.some()
        with self.accelerator.autocast():
            labeled = self.objective.labeled_loss(self.data.take(known), target)
        return {**losses, "loss": losses["loss"] + labeled, "labeled": labeled}

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this rank's rows of each step, on the device and on the host.

        Every rank draws the same permutation.
        """
        generator = np.random.default_rng(seed_of(self.data.seed, "order", epoch))
        order = torch.from_numpy(shuffled(self.data.spaces, generator))
        moved = order.to(self.data.device)
        for step in range(self.n_steps):
            first = (step * distributed.world_size() + distributed.rank()) * self.share
            if first + self.share <= self.data.n_rows:
                part = slice(first, first + self.share)
                yield moved[part], order[part]
            else:
                # Past the end (fewer rows than two per process) the first rows serve again.
                again = (first + torch.arange(self.share)) % self.data.n_rows
                yield moved[again.to(moved.device)], order[again]

    def _save(self, epoch: int) -> None:
        """Keep this epoch's state unless its last step broke it."""
        if not (self.checkpoint and distributed.is_main()):
            return
        if not bool(torch.stack([p.isfinite().all() for p in self.objective.parameters()]).all()):
            self._stop_on_nonfinite(epoch, self.n_steps - 1)
        self.checkpoint.save(self.objective, self.optimizer, self.history)

    def _set_rate(self, progress: float) -> float:
        schedule, factor = self.schedule, 1.0
        if progress < schedule.warmup_epochs:
            factor = (progress + 1 / self.n_steps) / schedule.warmup_epochs
        elif schedule.cosine:
            done = (progress - schedule.warmup_epochs) / max(
                self.n_epochs - schedule.warmup_epochs, 1
            )
            # Down to a hundredth, not to zero: the last epochs still learn.
            factor = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        return float(self.base_rates[0] * factor)

    def _stop_on_nonfinite(self, epoch: int, step: int) -> None:
        rate = self._set_rate(epoch + step / self.n_steps)
        kept = "; the last good state is in the checkpoint folder" if self.checkpoint else ""
        raise TrainingError(
            f"the loss is not finite at epoch {epoch + 1}, step {step + 1}, learning rate "
            f"{rate:.3g}{kept}: lower the learning rate or check the embeddings' scale"
        )

    def _log(self, record: dict[str, float]) -> None:
        if self.options.log_with:
            self.accelerator.log(record, step=int(record["epoch"]))
        if self.options.log_dir and distributed.is_main():
            folder = Path(self.options.log_dir)
            folder.mkdir(parents=True, exist_ok=True)
            with open(folder / "history.jsonl", "a", encoding="utf-8") as handle:
                handle.write(json.dumps(record) + "\n")


def _wide(loss: Tensor) -> Tensor:
    """Return a loss in eight bytes where its device has them (Apple's has not)."""
    wide = torch.float32 if loss.device.type == "mps" else torch.float64
    return loss.detach().reshape(()).to(wide)


def _optimizer(objective: Objective, schedule: Schedule) -> torch.optim.Optimizer:
    groups = list(objective.trainable())
    rate, decay = schedule.learning_rate, schedule.weight_decay
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=schedule.momentum, weight_decay=decay)
    kind = torch.optim.AdamW if schedule.optimizer == "adamw" else torch.optim.Adam
    # On CPU one pass over the weights instead of ten: a tenth of an autoencoder's step.
    on_cpu = all(p.device.type == "cpu" for p in objective.parameters())
    return kind(groups, lr=rate, weight_decay=decay, fused=on_cpu, foreach=not on_cpu)


def _improved(value: float, best: float, waited: int) -> tuple[float, int]:
    # By a ten-thousandth at least: less is the noise of the views.
    better = value < best - 1e-4 * abs(best if math.isfinite(best) else 1)
    return (value, 0) if better else (best, waited + 1)
