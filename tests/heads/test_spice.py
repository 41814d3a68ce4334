from __future__ import annotations

import numpy as np
import pytest
import torch
from head_contract import accuracy, hold_to_contract, hold_to_sklearn
from torch.nn import functional as F

from fmcluster.heads import make_head
from fmcluster.heads.spice import balanced_weight, reliable_rows, semantic_labels

SMALL = {"epochs": 3, "semi_epochs": 2, "batch_size": 64}


def test_contract(blobs, tmp_path):
    data = blobs(n=240, k=4)
    head = hold_to_contract("spice", data.x, tmp_path, n_clusters=4, **SMALL)
    assert accuracy(head, data.y) > 0.98
    assert [record["stage"] for record in head.history_] == ["self"] * 3 + ["semi"] * 2


def test_scikit_learn_checks():
    hold_to_sklearn("spice", epochs=1, semi_epochs=1)


def test_semantic_labels_fill_the_quota_of_each_center(blobs):
    data = blobs(n=100, k=2, d=6)
    x = torch.from_numpy(data.x)
    proba = torch.from_numpy(np.where(data.y[:, None] == [0, 1], 0.9, 0.1)).float()
    labels = semantic_labels(proba, x, torch.tensor([0.5, 0.3]), 0.5).numpy()
    assert (labels[data.y == 0] == 0).all()
    assert (labels == 1).sum() == 30
    assert ((labels == -1) <= (data.y == 1)).all()


def test_a_row_claimed_twice_goes_to_the_nearer_center():
    x = F.normalize(torch.tensor([[1.0, 0], [0.9, 0.4], [0, 1.0]]), dim=1)
    proba = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]])
    labels = semantic_labels(proba, x, torch.tensor([0.67, 0.67]), 0.5)
    assert labels.tolist() == [0, 0, 1]


def test_reliable_rows_agree_with_their_neighbors():
    proba = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0.6, 0.4], [0, 1], [0, 1]])
    neighbors = torch.tensor([[1, 2], [0, 2], [0, 1], [4, 5], [5, 5], [4, 4]])
    found = reliable_rows(proba, neighbors, agreement=0.95, confidence=0.99)
    assert found.tolist() == [True, True, True, False, True, True]


def test_every_cluster_has_some_reliable_rows():
    proba = torch.tensor([[0.6, 0.4]] * 10 + [[0.4, 0.6]] * 10)
    neighbors = torch.arange(20)[:, None]
    found = reliable_rows(proba, neighbors, agreement=0.95, confidence=0.99)
    assert int(found[:10].sum()) == 2
    assert int(found[10:].sum()) == 2


def test_balanced_weight_makes_sizes_the_prior():
    labels = torch.tensor([0] * 6 + [1] * 2 + [-1] * 4)
    weight = balanced_weight(labels, torch.tensor([0.5, 0.5]))
    mass = torch.tensor([6.0, 2.0]) * weight
    assert float(mass[0]) == pytest.approx(float(mass[1]))
    assert float(mass.sum()) == pytest.approx(8)


def test_center_ratio_is_checked(blobs):
    with pytest.raises(ValueError, match="center_ratio=2"):
        make_head("spice", n_clusters=2, center_ratio=2).fit(blobs().x)
