from __future__ import annotations

import numpy as np
import pytest
import torch
from head_contract import hold_to_sklearn
from representation import hold_to_representation

from fmcluster.heads import make_head
from fmcluster.heads.families.representation import Representation
from fmcluster.heads.secu import SeCuObjective, dual_step
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.prior import PriorTarget
from fmcluster.heads.training.views import Views
from fmcluster.vectors.rows import Rows

SMALL = {"epochs": 3, "batch_size": 64, "n_out": 8}


def started(x, k, *, seed=0, **given):
    """Return an objective with even sizes that has seen the rows, and these."""
    rows = TrainData([Rows(x)], None, k, seed)
    uniform = torch.full((k,), 1 / k)
    objective = SeCuObjective(
        Representation([x.shape[1]], 8, k),
        prior=PriorTarget(uniform, uniform, True),
        lower_bound=0.9,
        **given,
    )
    objective.start(rows)
    return objective, rows


def test_contract(blobs, tmp_path):
    hold_to_representation("secu", blobs(n=240, k=4), tmp_path, **SMALL)


def test_scikit_learn_checks():
    hold_to_sklearn("secu", epochs=1)


def test_dual_rises_for_small_clusters_only():
    dual = dual_step(
        torch.tensor([0.0, 0.0, 0.5]),
        torch.tensor([0.1, 0.8, 0.1]),
        torch.full((3,), 0.3),
        1.0,
    )
    np.testing.assert_allclose(dual, [0.2, 0.0, 0.7], atol=1e-6)


def test_centers_are_not_pushed_by_rows_of_other_clusters(blobs):
    objective, rows = started(blobs(n=40, k=2, d=8).x, 2, temperature=1.0, dual_rate=0.0)
    objective.before_epoch(0, rows)
    labels = objective.network(rows.take(torch.arange(40))).argmax(dim=1)
    alone = torch.nonzero(labels == 0).flatten()
    objective(Views(rows, seed=0).batch(alone))["loss"].backward()
    gradient = objective.network.readout.centroids.grad
    assert gradient[0].abs().sum() > 0
    assert gradient[1].abs().sum() == 0


@pytest.mark.parametrize("seed", range(3))
def test_each_planted_cluster_is_found_before_training(blobs, seed):
    data = blobs(n=400, k=10, d=16, spread=0.05)
    objective, rows = started(data.x, 10, seed=seed, temperature=0.05, dual_rate=0.1)
    labels = objective.network(rows.take(torch.arange(400))).argmax(dim=1).tolist()
    assert len(set(zip(labels, data.y.tolist(), strict=True))) == 10


def test_lower_bound_keeps_small_clusters_alive(blobs):
    data = blobs(sizes=[150, 20], d=8)
    head = make_head("secu", n_clusters=3, random_state=0, **SMALL).fit(data.x)
    assert head.n_clusters_ == 3
