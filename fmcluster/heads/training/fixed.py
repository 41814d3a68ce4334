"""Rows whose class a person said, as training holds them: in targets, in the loss, at the start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from fmcluster.functional.labels.answers import RowAnswers
from fmcluster.heads.training import draws
from fmcluster.partition.seeded import classes_first

# Labeled rows of a step: as good as all of them for a gradient, and a part of the step's time.
ROWS_PER_STEP = 256


@dataclass(frozen=True)
class FixedRows:
    """Rows with a class; class c is cluster c.

    Attributes
    ----------
    rows : Tensor (l,) int64
        Row numbers, on the CPU.
    target : Tensor (l,) int64
        Their classes 0..n_classes-1, on the training's device.
    n_classes : int
    """

    rows: Tensor
    target: Tensor
    n_classes: int

    @classmethod
    def of(cls, answers: RowAnswers | None, device: torch.device) -> Self | None:
        """Return the labeled rows of `answers`; None where there are none."""
        if answers is None or len(answers.rows) == 0:
            return None
        target = torch.from_numpy(answers.target).to(device)
        return cls(torch.from_numpy(answers.rows), target, answers.n_classes)

    def some(self) -> tuple[Tensor, Tensor]:
        """Return rows and classes for a step: all, or a random part from the open stream."""
        if len(self.rows) <= ROWS_PER_STEP:
            return self.rows, self.target
        pick = torch.randperm(len(self.rows), generator=draws.generator())[:ROWS_PER_STEP]
        return self.rows[pick], self.target[pick.to(self.target.device)]

    def per_row(self, n_rows: int) -> Tensor:
        """Return the class of each of all rows (n,), on the device; -1 where it is not known."""
        classes = torch.full((n_rows,), -1, device=self.target.device)
        classes[self.rows.to(classes.device)] = self.target
        return classes

    def first(self, centroids: Tensor, known: Tensor) -> Tensor:
        """Return unit centroids (k, d) in the order of the classes, by the unit rows (l, d)."""
        found = classes_first(
            centroids.cpu().numpy(), known.cpu().numpy(), self.target.cpu().numpy(), self.n_classes
        )
        return torch.from_numpy(found).to(centroids.device)
