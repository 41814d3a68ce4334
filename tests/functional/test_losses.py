"""Losses on hand-computed cases, against torch, and their gradients in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from fmcluster.functional import losses as L


@pytest.fixture
def p():
    z = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return z.softmax(dim=1)


def test_entropy_of_known_distributions():
    table = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    expected = torch.tensor([math.log(2), 0.0, math.log(3)])
    torch.testing.assert_close(L.entropy(table), expected, atol=1e-6, rtol=0)


def test_kl_to_an_even_prior_is_log_k_minus_entropy(p):
    even = torch.full((3,), 1 / 3, dtype=torch.float64)
    torch.testing.assert_close(L.kl_to_prior(p, even), math.log(3) - L.entropy(p))
    torch.testing.assert_close(L.kl_to_prior(p, p), torch.zeros(6, dtype=torch.float64))


def test_consistency_by_hand_and_a_value_a_head(p):
    a = torch.tensor([[0.8, 0.2], [0.5, 0.5]])
    b = torch.tensor([[0.6, 0.4], [1.0, 0.0]])
    expected = -(math.log(0.8 * 0.6 + 0.2 * 0.4) + math.log(0.5)) / 2
    assert float(L.consistency(a, b)) == pytest.approx(expected, rel=1e-6)
    heads = torch.stack([p, p.flip(0)], dim=1)
    both = L.consistency(heads, heads)
    assert both.shape == (2,)
    torch.testing.assert_close(both[0], L.consistency(p, p))


def test_collapse_has_the_loss_it_should():
    # All rows in one cluster: consistency is perfect, and only the size term objects.
    one = torch.eye(3)[torch.zeros(5, dtype=torch.long)]
    assert float(L.consistency(one, one)) == pytest.approx(0.0, abs=1e-6)
    even = torch.full((3,), 1 / 3)
    assert float(L.kl_to_prior(one.mean(0), even)) == pytest.approx(math.log(3), rel=1e-5)


def test_cross_entropies_equal_torch(p):
    z, y = p.log() * 2, torch.tensor([0, 1, 2, 0, 1, 2])
    torch.testing.assert_close(L.soft_cross_entropy(z, p), F.cross_entropy(z, p, reduction="none"))
    expected = F.cross_entropy(z, y, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(L.smoothed_cross_entropy(z, y, 0.1), expected)


def test_the_loss_of_labeled_rows_is_one_mean_a_head(p):
    z, y = p.log() * 2, torch.tensor([0, 1, 2, 0, 1, 2])
    torch.testing.assert_close(L.labeled_cross_entropy(z, y), F.cross_entropy(z, y))
    both = L.labeled_cross_entropy(torch.stack([z, z.flip(0)], dim=1), y)
    assert both.shape == (2,)
    torch.testing.assert_close(both[1], F.cross_entropy(z.flip(0), y))


def test_focal_is_cross_entropy_at_zero_and_forgives_the_sure_above(p):
    z, y = p.log(), torch.tensor([0, 1, 2, 0, 1, 2])
    plain = F.cross_entropy(z, y, reduction="none")
    torch.testing.assert_close(L.focal(z, y, 0.0), plain)
    sure = p.gather(1, y[:, None]).squeeze(1)
    torch.testing.assert_close(L.focal(z, y, 2.0), (1 - sure) ** 2 * plain)


def test_l1_norm():
    assert float(L.l1_norm(torch.tensor([[1.0, -2.0, 3.0]]))) == 2.0


def test_pmi_is_zero_for_independence_and_log_k_for_agreement():
    marginal = torch.full((1, 1, 4), 0.25)
    flat = torch.full((2, 1, 4), 0.25)
    torch.testing.assert_close(L.pmi(flat, flat, marginal), torch.zeros(2, 1))
    hard = torch.eye(4)[:2, None]
    torch.testing.assert_close(L.pmi(hard, hard, marginal), torch.full((2, 1), math.log(4)))


def test_nt_xent_falls_as_pairs_come_together():
    rng = torch.Generator().manual_seed(0)
    a, noise = torch.randn(8, 5, generator=rng), torch.randn(8, 5, generator=rng)
    values = [float(L.nt_xent(a, a + s * noise, 0.5)) for s in (0.0, 0.5, 2.0)]
    assert values == sorted(values)


@pytest.mark.parametrize("name", ["consistency", "kl", "soft", "focal", "pmi"])
def test_gradients(name, p):
    z = p.log().clone().requires_grad_()
    other, y = p.flip(0), torch.tensor([0, 1, 2, 0, 1, 2])
    functions = {
        "consistency": lambda z: L.consistency(z.softmax(1), other),
        "kl": lambda z: L.kl_to_prior(z.softmax(1).mean(0), other[0]),
        "soft": lambda z: L.soft_cross_entropy(z, other).sum(),
        "focal": lambda z: L.focal(z, y, 2.0).sum(),
        "pmi": lambda z: L.pmi(
            z.softmax(1)[:, None], other[:, None], other.mean(0)[None, None], beta=0.6
        ).sum(),
    }
    assert torch.autograd.gradcheck(functions[name], (z,))
