"""TURTLE: the written-out probe equals torch's, several spaces, planted clusters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from head_contract import accuracy, hold_to_contract, hold_to_sklearn
from torch.nn import functional as F

from fmcluster.heads import make_head
from fmcluster.heads.turtle import TaskEncoder, fit_probe

QUICK = {"n_clusters": 4, "epochs": 100, "min_steps": 0, "learning_rate": 0.01}


def test_probe_equals_autograd_and_torch_adam():
    rng = torch.Generator().manual_seed(0)
    x, target = torch.randn(30, 6, generator=rng), torch.randn(30, 4, generator=rng).softmax(1)
    found = fit_probe(
        x, target, n_steps=7, learning_rate=0.05, generator=torch.Generator().manual_seed(5)
    )
    start = 2 * torch.rand(7, 4, generator=torch.Generator().manual_seed(5)) - 1
    weight = torch.nn.Parameter(start * 6**-0.5)
    adam = torch.optim.Adam([weight], lr=0.05)
    for _ in range(7):
        logits = x @ weight[:-1] + weight[-1]
        adam.zero_grad()
        F.cross_entropy(logits, target).backward()
        adam.step()
    torch.testing.assert_close(found, (x @ weight[:-1] + weight[-1]).detach(), atol=1e-5, rtol=1e-4)


def test_labeling_is_the_mean_of_the_spaces():
    torch.manual_seed(0)
    task = TaskEncoder([5, 3], 4)
    xs = [torch.randn(6, 5), torch.randn(6, 3)]
    each = task.each(task.scaled(xs))
    torch.testing.assert_close(task(xs).exp(), (each[0] + each[1]) / 2)


@pytest.mark.parametrize("init", ["paper", "partition"])
def test_planted_clusters_are_found(blobs, tmp_path, init):
    x, y = blobs(n=240, k=4, d=16)
    head = hold_to_contract("turtle", x, tmp_path, **{**QUICK, "init": init})
    assert accuracy(head, y) > 0.95


def test_a_second_space_helps_where_the_first_cannot_tell(blobs):
    x, y = blobs(n=300, k=4, d=16, spread=0.1)
    # The first space merges clusters 2 and 3, the second merges 0 and 1.
    left, right = x.copy(), x.copy()
    left[y == 3] = x[y == 2][np.arange((y == 3).sum()) % (y == 2).sum()]
    right[y == 1] = x[y == 0][np.arange((y == 1).sum()) % (y == 0).sum()]
    one = make_head("turtle", random_state=0, **QUICK).fit(left)
    both = make_head("turtle", random_state=0, **QUICK).fit([left, right])
    assert accuracy(both, y) > accuracy(one, y)


def test_length_of_the_rows_does_not_matter(blobs):
    x, _ = blobs(n=120, k=4, d=16)
    labels = [
        make_head("turtle", random_state=0, **QUICK).fit(scale * x).labels_ for scale in (1, 64)
    ]
    np.testing.assert_array_equal(*labels)


def test_unknown_words_are_named(blobs):
    x, _ = blobs(n=40, k=4, d=8)
    with pytest.raises(ValueError, match="init"):
        make_head("turtle", **{**QUICK, "init": "random"}).fit(x)
    with pytest.raises(ValueError, match="inner_steps"):
        make_head("turtle", inner_steps=0, **QUICK).fit(x)


def test_scikit_learn_checks():
    hold_to_sklearn("turtle", epochs=1, min_steps=3)
