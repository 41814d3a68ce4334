from __future__ import annotations

import numpy as np
import pytest
import torch
from head_contract import hold_to_sklearn
from representation import hold_to_representation

from fmcluster.heads import make_head
from fmcluster.heads.idfd import decorrelation

SMALL = {"epochs": 3, "batch_size": 64, "n_out": 8}


def test_contract(blobs, tmp_path):
    head = hold_to_representation("idfd", blobs(n=240, k=4), tmp_path, **SMALL)
    assert {"instance", "feature"} <= set(head.history_[0])


def test_scikit_learn_checks():
    hold_to_sklearn("idfd", epochs=1)


def test_decorrelation_is_least_for_orthogonal_columns():
    z = torch.eye(4)
    apart = -np.log(np.exp(0.5) / (np.exp(0.5) + 3))
    assert float(decorrelation(z, 2.0)) == pytest.approx(apart, abs=1e-6)
    assert float(decorrelation(torch.ones(4, 4), 2.0)) == pytest.approx(np.log(4), abs=1e-6)


def test_decorrelation_does_not_depend_on_the_scale_of_columns():
    z = torch.randn(20, 5)
    scaled = z * torch.tensor([1.0, 2, 3, 4, 5])
    assert float(decorrelation(z, 2.0)) == pytest.approx(float(decorrelation(scaled, 2.0)))


def test_columns_come_apart_in_training(blobs):
    x = blobs(n=200, k=3, d=12).x
    head = make_head("idfd", n_clusters=3, random_state=0, epochs=15, batch_size=100, n_out=8)
    history = head.fit(x).history_
    assert history[-1]["feature"] < history[0]["feature"]
