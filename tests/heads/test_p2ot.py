from __future__ import annotations

import numpy as np
import pytest
import torch
from head_contract import accuracy, hold_to_contract, hold_to_sklearn

from fmcluster.heads import make_head
from fmcluster.heads.families.transport import CosineNetwork
from fmcluster.heads.p2ot import SP2OTObjective, ramp
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.prior import PriorTarget
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import Rows

SMALL = {"epochs": 4, "batch_size": 64}


@pytest.mark.parametrize("name", ["p2ot", "sp2ot"])
def test_contract(blobs, tmp_path, name):
    data = blobs(n=240, k=4)
    head = hold_to_contract(name, data.x, tmp_path, n_clusters=4, **SMALL)
    assert accuracy(head, data.y) > 0.98
    mass = [record["assigned"] for record in head.history_]
    np.testing.assert_allclose(mass[0], ramp(0, 0.1), atol=0.1)
    assert mass == sorted(mass)
    assert mass[-1] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", ["p2ot", "sp2ot"])
def test_scikit_learn_checks(name):
    hold_to_sklearn(name, epochs=1)


def test_ramp_rises_from_rho_to_one():
    values = [ramp(t, 0.1) for t in np.linspace(0, 1, 11)]
    assert values == sorted(values)
    assert values[-1] == 1
    assert values[0] == pytest.approx(0.1 + 0.9 * np.exp(-5))


def test_neighbors_sway_an_undecided_row(blobs):
    data = blobs(n=60, k=2, d=8)
    rows = TrainData([Rows(data.x)], KNNGraph.build(data.x, k=5).indices, 2, 0)
    even = torch.full((2,), 0.5)
    objective = SP2OTObjective(
        CosineNetwork([8], 2),
        prior=PriorTarget(even, even, True),
        epsilon=0.1,
        col_penalty=1.0,
        rho=0.5,
        epochs=2,
    )
    objective.start(rows)
    objective.rho = 0.5
    proba = torch.from_numpy(np.where(data.y[:, None] == [0, 1], 0.9, 0.1))
    proba[0] = 0.5
    objective.learn(proba.log().float(), rows)
    target = objective.shares
    assert int(target[0].argmax()) == data.y[0]
    assert float(target.sum() / 60) == pytest.approx(0.5, abs=1e-3)
    assert float(target.sum(dim=1).max()) <= 1 + 1e-3


@pytest.mark.parametrize("rho", [0, 1.5, -0.1])
def test_mass_outside_its_range_is_refused(blobs, rho):
    with pytest.raises(ValueError, match=f"rho={rho}"):
        make_head("p2ot", n_clusters=2, rho=rho).fit(blobs().x)


def test_price_must_be_positive(blobs):
    with pytest.raises(ValueError, match="col_penalty=0"):
        make_head("p2ot", n_clusters=2, col_penalty=0).fit(blobs().x)
