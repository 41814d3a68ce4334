"""Rows whose class a person said, in training."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from fmcluster.functional.labels.answers import RowAnswers
from fmcluster.heads.training import draws
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.fixed import ROWS_PER_STEP, FixedRows
from fmcluster.heads.training.loop import train
from fmcluster.heads.training.objective import Objective, Schedule
from fmcluster.vectors.rows import Rows

CPU = torch.device("cpu")


def test_no_labels_are_none():
    assert FixedRows.of(None, CPU) is None
    none = np.empty(0, np.int64)
    assert FixedRows.of(RowAnswers(none, none, 0), CPU) is None


def test_each_row_has_its_class_or_none():
    fixed = FixedRows.of(RowAnswers(np.array([4, 1]), np.array([0, 2]), 3), CPU)
    assert fixed.per_row(6).tolist() == [-1, 2, -1, -1, 0, -1]


def test_a_step_has_all_labeled_rows_or_so_many_at_random():
    few = FixedRows.of(RowAnswers(np.arange(5), np.arange(5) % 2, 2), CPU)
    assert few.some()[0].tolist() == [0, 1, 2, 3, 4]
    n = 3 * ROWS_PER_STEP
    many = FixedRows.of(RowAnswers(np.arange(n), np.arange(n) % 7, 7), CPU)
    with draws.drawn_from(1):
        rows, target = many.some()
        again = many.some()[0]
    assert len(rows.unique()) == ROWS_PER_STEP
    assert (target == rows % 7).all()
    assert rows.tolist() != again.tolist()
    with draws.drawn_from(1):
        assert many.some()[0].tolist() == rows.tolist()


class Labeled(Objective):
    """Nothing but the loss of labeled rows."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, batch):
        return {"loss": 0 * self.linear(batch.x[0]).sum() + 3}

    def labeled_loss(self, xs, target):
        return nn.functional.cross_entropy(self.linear(xs[0]), target)


def test_the_loop_adds_the_loss_of_labeled_rows():
    x = np.float32([[1, 0], [0, 1], [1, 1], [2, 1]])
    answers = RowAnswers(np.array([0, 1]), np.array([1, 0]), 2)
    objective = Labeled()
    data = TrainData([Rows(x)], None, 2, seed=0, answers=answers)
    history = train(objective, data, Schedule(40, batch_size=4, learning_rate=0.1))
    assert all(np.isclose(record["loss"], 3 + record["labeled"]) for record in history)
    assert history[-1]["labeled"] < 0.2 * history[0]["labeled"]
    assert objective.linear(torch.from_numpy(x[:2])).argmax(dim=1).tolist() == [1, 0]
    plain = train(Labeled(), TrainData([Rows(x)], None, 2, seed=0), Schedule(1, batch_size=4))
    assert "labeled" not in plain[0]
