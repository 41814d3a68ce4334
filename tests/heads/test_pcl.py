from __future__ import annotations

import pytest
import torch
from head_contract import hold_to_sklearn
from representation import hold_to_representation
from torch.nn import functional as F

from fmcluster.heads.pcl import concentration

SMALL = {"epochs": 3, "batch_size": 64, "n_out": 8, "warmup_epochs": 1}


def test_contract(blobs, tmp_path):
    head = hold_to_representation("pcl", blobs(n=240, k=4), tmp_path, **SMALL)
    curve = [record["prototype"] for record in head.history_]
    assert curve[0] == 0
    assert min(curve[1:]) > 0


def test_scikit_learn_checks():
    hold_to_sklearn("pcl", epochs=1, warmup_epochs=0)


def test_concentration_has_the_asked_mean_and_orders_by_looseness():
    generator = torch.Generator().manual_seed(0)
    centroids = torch.eye(3)
    labels = torch.arange(3).repeat_interleave(50)
    spread = torch.tensor([0.05, 0.2, 0.8])[labels][:, None]
    z = F.normalize(centroids[labels] + spread * torch.randn(150, 3, generator=generator), dim=1)
    phi = concentration(z, centroids, labels, 0.2)
    assert float(phi.mean()) == pytest.approx(0.2)
    assert phi[0] < phi[1] < phi[2]


def test_a_prototype_of_one_row_is_not_taken_for_a_tight_one():
    centroids = torch.eye(3)
    labels = torch.tensor([0, 1, 1, 1, 2, 2, 2])
    z = centroids[labels].clone()
    z[1:] += 0.1
    phi = concentration(z, centroids, labels, 0.2)
    assert phi[0] == phi.max()
