from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fmcluster.heads import _split_linear
from fmcluster.heads._split_linear import SplitLinear, shared_by_threads


def network():
    torch.manual_seed(0)
    return nn.Sequential(SplitLinear(6, 5), nn.ReLU(), SplitLinear(5, 1))


def gradients(net, x):
    y = net(x)
    y.pow(2).sum().backward()
    return [y.detach(), *(p.grad for p in net.parameters())]


@pytest.mark.parametrize("n_threads", [1, 2])
def test_products_and_gradients_are_those_of_a_linear_layer(n_threads):
    net, x = network(), torch.randn(7, 6)
    expected = gradients(copy.deepcopy(net), x)
    with shared_by_threads(net, n_threads):
        found = gradients(net, x)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_gradient_reaches_the_input():
    net, x = network(), torch.randn(7, 6, requires_grad=True)
    net(x).sum().backward()
    expected, x.grad = x.grad.clone(), None
    with shared_by_threads(net, 2):
        net(x).sum().backward()
    torch.testing.assert_close(x.grad, expected)


def test_threads_do_not_change_a_bit(monkeypatch):
    monkeypatch.setattr(_split_linear, "SPAN", 4)
    trained = []
    for n_threads in (1, 2):
        torch.manual_seed(1)
        net = nn.Sequential(SplitLinear(60, 50), nn.ReLU(), SplitLinear(50, 7))
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        with shared_by_threads(net, n_threads):
            for _ in range(20):
                optimizer.zero_grad()
                net(torch.randn(32, 60)).pow(2).sum().backward()
                optimizer.step()
        trained.append(torch.cat([p.detach().ravel() for p in net.parameters()]))
    assert torch.equal(*trained)


@pytest.mark.parametrize(("one", "two", "kept"), [(1, 9, 1), (9, 1, 2)])
def test_the_faster_way_is_kept_and_tried_again(monkeypatch, one, two, kept):
    monkeypatch.setattr(_split_linear, "SPAN", 2)
    monkeypatch.setattr(_split_linear, "SPANS_KEPT", 2)
    seconds = [one, one, two, two, *[1] * 8]
    clock = iter(np.cumsum([part for call in seconds for part in (0, call)]).tolist())
    monkeypatch.setattr(_split_linear.time, "perf_counter", lambda: next(clock))
    used = []

    class Pool:
        def submit(self, job):
            used[-1] = 2
            return SimpleNamespace(result=job)

    runner = _split_linear._Runner(Pool())
    for _ in seconds:
        used.append(1)
        runner([lambda: None, lambda: None])
    assert used == [1, 1, 2, 2, *[kept] * 4, 1, 1, 2, 2]


def test_outside_the_block_and_in_float64_it_is_a_linear_layer():
    net = network()
    with shared_by_threads(net, 2):
        assert net.double()(torch.randn(3, 6, dtype=torch.float64)).dtype == torch.float64
    assert all(layer.run is None for layer in net if isinstance(layer, SplitLinear))
    assert set(net.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
