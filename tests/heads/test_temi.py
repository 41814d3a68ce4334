"""TEMI: batched heads equal single ones, the teacher follows, and planted clusters are found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from head_contract import accuracy, hold_to_contract, hold_to_sklearn

from fmcluster.heads import make_head
from fmcluster.heads.temi import ProjectionHeads, TEMIObjective
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.prior import PriorTarget
from fmcluster.heads.training.views import Views
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.rows import Rows

QUICK = {
    "n_clusters": 4,
    "hidden": 32,
    "bottleneck": 16,
    "n_heads": 3,
    "n_neighbors": 10,
    "batch_size": 64,
    "epochs": 30,
    "min_steps": 0,
    "teacher_momentum": 0.9,
}


def test_batched_heads_equal_each_head_alone():
    torch.manual_seed(0)
    heads = ProjectionHeads(8, 5, 3, hidden=16, bottleneck=6)
    x = torch.randn(7, 8)
    every = heads(x)
    assert every.shape == (3, 7, 5)
    for h in range(3):
        torch.testing.assert_close(heads.single(h)(x)[0], every[h])


def test_logits_are_cosines_over_the_temperature():
    torch.manual_seed(0)
    heads = ProjectionHeads(8, 5, 2, hidden=16, bottleneck=6)
    assert float(heads(100 * torch.randn(50, 8)).abs().max()) <= 10 + 1e-4


def objective_of(blobs, **params):
    x, _ = blobs(n=60, k=3, d=8)
    data = HeadData([Rows(x)], 3, 0)
    rows = TrainData(data.spaces, data.graph(5).indices, 3, seed=0)
    prior = PriorTarget.resolve(params.pop("cluster_prior", "uniform"), data, n_heads=2)
    settings = {"n_heads": 2, "hidden": 16, "bottleneck": 8, "beta": 0.6, "momentum": 0.75}
    torch.manual_seed(0)
    objective = TEMIObjective([8], 3, **{**settings, **params}, prior=prior)
    objective.start(rows)
    return objective, rows


def test_teacher_moves_a_quarter_of_the_way_and_has_no_gradient(blobs):
    objective, rows = objective_of(blobs)
    losses = objective(Views(rows, seed=0).batch(torch.arange(40)))
    losses["loss"].backward()
    assert all(p.grad is None for p in objective.teacher.parameters())
    before = objective.teacher.last.clone()
    with torch.no_grad():
        objective.student.last += 1.0
    objective.after_step()
    torch.testing.assert_close(objective.teacher.last, before + 0.25)


def test_marginal_is_a_running_mean_that_sums_to_one(blobs):
    objective, rows = objective_of(blobs)
    objective(Views(rows, seed=0).batch(torch.arange(60)))
    torch.testing.assert_close(objective.marginal.sum(dim=1), torch.ones(2))
    assert not torch.equal(objective.marginal, torch.full((2, 3), 1 / 3))


def test_last_layer_is_frozen_in_the_first_epoch(blobs):
    objective, rows = objective_of(blobs)
    for epoch, frozen in ((0, True), (1, False)):
        objective.before_epoch(epoch, rows)
        objective.zero_grad()
        objective(Views(rows, seed=0).batch(torch.arange(60)))["loss"].backward()
        assert (objective.student.last.grad is None) is frozen


def test_uneven_prior_changes_the_loss_and_an_even_array_does_not(blobs):
    values = []
    for prior in ("uniform", np.full(3, 1 / 3), np.array([0.8, 0.1, 0.1])):
        objective, rows = objective_of(blobs, cluster_prior=prior)
        objective.before_epoch(1, rows)
        values.append(float(objective(Views(rows, seed=0).batch(torch.arange(60)))["loss"]))
    assert values[0] == pytest.approx(values[1])
    assert values[0] != pytest.approx(values[2])


@pytest.mark.parametrize("init", ["paper", "partition"])
def test_planted_clusters_are_found(blobs, tmp_path, init):
    x, y = blobs(n=240, k=4, d=16)
    head = hold_to_contract("temi", x, tmp_path, **{**QUICK, "init": init})
    assert accuracy(head, y) > (0.7 if init == "paper" else 0.95)


def test_unknown_words_are_named(blobs):
    x, _ = blobs(n=40, k=4, d=8)
    with pytest.raises(ValueError, match="init"):
        make_head("temi", **{**QUICK, "init": "random"}).fit(x)
    with pytest.raises(ValueError, match="beta"):
        make_head("temi", **{**QUICK, "beta": -1.0}).fit(x)


def test_scikit_learn_checks():
    quick = {"epochs": 1, "min_steps": 2, "hidden": 8, "bottleneck": 4, "n_heads": 2}
    hold_to_sklearn("temi", **quick)
