from __future__ import annotations

import copy
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fmcluster.heads.training import halves as _halves
from fmcluster.heads.training.halves import Runner, by_halves, two_threads


def network(*sizes):
    torch.manual_seed(0)
    first, second, third = sizes
    return nn.Sequential(nn.Linear(first, second), nn.ReLU(), nn.Linear(second, third))


def outputs(net, x, run):
    return by_halves([net[:2], net[2:]], x, run)


def gradients(net, x, run):
    hidden, out = outputs(net, x, run)
    (out.pow(2).sum() + hidden.sum()).backward()
    return [hidden.detach(), out.detach(), *(p.grad for p in net.parameters())]


@pytest.mark.parametrize("n_rows", [2, 7, 8])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_outputs_and_gradients_are_those_of_the_whole_batch(n_rows, n_threads):
    net, x = network(6, 5, 1), torch.randn(n_rows, 6)
    expected = gradients(copy.deepcopy(net), x, None)
    with two_threads(n_threads) as run:
        found = gradients(net, x, run)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_an_output_that_the_loss_leaves_out_gives_no_gradient():
    net, x = network(6, 5, 1), torch.randn(7, 6)
    expected, net2 = [], copy.deepcopy(net)
    for one, run in ((net2, None), (net, Runner(None))):
        outputs(one, x, run)[1].sum().backward()
        expected.append(torch.cat([p.grad.ravel() for p in one.parameters()]))
    torch.testing.assert_close(*expected)


def test_threads_do_not_change_a_bit(monkeypatch):
    monkeypatch.setattr(_halves, "SPAN", 4)
    trained = []
    for n_threads in (1, 2):
        net = network(60, 50, 7)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        torch.manual_seed(1)
        with two_threads(n_threads) as run:
            for _ in range(20):
                optimizer.zero_grad()
                gradients(net, torch.randn(33, 60), run)
                optimizer.step()
        trained.append(torch.cat([p.detach().ravel() for p in net.parameters()]))
    assert torch.equal(*trained)


@pytest.mark.parametrize(("one", "two", "kept"), [(1, 9, 1), (9, 1, 2)])
def test_the_faster_way_is_kept_and_tried_again(monkeypatch, one, two, kept):
    monkeypatch.setattr(_halves, "SPAN", 2)
    monkeypatch.setattr(_halves, "SPANS_KEPT", 2)
    seconds = [one, one, two, two, *[1] * 8]
    clock = iter(np.cumsum([part for call in seconds for part in (0, call)]).tolist())
    monkeypatch.setattr(_halves.time, "perf_counter", lambda: next(clock))
    used = []

    class Pool:
        def submit(self, job):
            used[-1] = 2
            return SimpleNamespace(result=job)

    run = Runner(Pool())
    for i in range(len(seconds)):
        used.append(1)
        done = []
        run([partial(done.append, i), partial(done.append, -i)])
        assert sorted(done) == [-i, i]
    assert used == [1, 1, 2, 2, *[kept] * 4, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "x", [torch.ones(1, 6), torch.ones(4, 6, dtype=torch.float64)], ids=["one row", "float64"]
)
def test_what_is_not_cut_is_computed_as_it_stands(x):
    def never(jobs):
        raise AssertionError

    net = network(6, 5, 1).to(x.dtype)
    hidden, out = outputs(net, x, never)
    assert hidden.shape == (len(x), 5)
    assert torch.equal(out, net(x))
