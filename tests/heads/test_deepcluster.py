from __future__ import annotations

import torch
from head_contract import hold_to_sklearn
from representation import hold_to_representation
from torch.nn import functional as F

from fmcluster.heads.deepcluster import lloyd

SMALL = {"epochs": 3, "batch_size": 64, "n_out": 8}


def test_contract(blobs, tmp_path):
    hold_to_representation("deepcluster", blobs(n=240, k=4), tmp_path, **SMALL)


def test_scikit_learn_checks():
    hold_to_sklearn("deepcluster", epochs=1)


def test_lloyd_never_lowers_the_objective(blobs):
    z = torch.from_numpy(blobs(n=200, k=5, spread=0.5).x)
    centroids = z[:5].clone()
    before = 0.0
    for _ in range(6):
        after = float((z @ centroids.T).max(dim=1).values.sum())
        assert after >= before - 1e-4
        before = after
        centroids, _ = lloyd(z, centroids, n_rounds=1)


def test_an_empty_cluster_takes_half_of_the_largest(blobs):
    z = torch.from_numpy(blobs(n=200, k=2, spread=0.2).x)
    start = torch.stack([z[0], -z.mean(dim=0)])
    start = F.normalize(torch.cat([start, start[1:] * 0.99]), dim=1)
    _, labels = lloyd(z, start)
    assert len(labels.unique()) == 3


def test_clusters_keep_their_numbers(blobs):
    data = blobs(n=200, k=3)
    z = torch.from_numpy(data.x)
    centroids, first = lloyd(z, F.normalize(torch.stack([z[data.y == c][0] for c in range(3)])))
    _, second = lloyd(z, centroids)
    assert torch.equal(first, second)
    assert (first.numpy() == data.y).mean() > 0.99
