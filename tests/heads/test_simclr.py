from __future__ import annotations

import numpy as np
import pytest
import torch
from head_contract import hold_to_sklearn
from representation import hold_to_representation
from torch.nn import functional as F

from fmcluster.functional.losses import nt_xent, unit_nt_xent
from fmcluster.heads import make_head
from fmcluster.heads.families.representation import Adapter, Representation
from fmcluster.heads.simclr import neighbor_pairs

SMALL = {"epochs": 3, "batch_size": 64, "n_out": 8}


def test_contract(blobs, tmp_path):
    head = hold_to_representation("simclr", blobs(n=240, k=4), tmp_path, **SMALL)
    assert head.transform(blobs().x[:1]).shape == (1, 8)


def test_scikit_learn_checks():
    hold_to_sklearn("simclr", epochs=1)


def test_contrast_without_exclusions_is_nt_xent():
    a, b = F.normalize(torch.randn(6, 5), dim=1), F.normalize(torch.randn(6, 5), dim=1)
    assert float(unit_nt_xent(a, b, 0.3)) == pytest.approx(float(nt_xent(a, b, 0.3)), abs=1e-5)


def test_excluded_pairs_do_not_repel():
    a, b = F.normalize(torch.randn(4, 5), dim=1), F.normalize(torch.randn(4, 5), dim=1)
    everything = torch.ones(4, 4, dtype=torch.bool)
    assert float(unit_nt_xent(a, b, 0.2, everything)) == pytest.approx(0, abs=1e-6)
    one = torch.zeros(4, 4, dtype=torch.bool)
    one[0, 1] = one[1, 0] = True
    assert float(unit_nt_xent(a, b, 0.2, one)) < float(unit_nt_xent(a, b, 0.2))


def test_neighbor_pairs_find_each_other_in_a_batch():
    neighbors = torch.tensor([[1, 2], [0, 3], [4, 0], [4, 1], [2, 3]])
    rows = torch.tensor([3, 0, 1])
    found = neighbor_pairs(rows, neighbors)
    expected = torch.tensor([[0, 0, 1], [0, 0, 1], [1, 1, 0]], dtype=torch.bool)
    assert torch.equal(found, expected)
    assert neighbor_pairs(rows, None) is None


def test_adapter_starts_at_the_principal_components(blobs):
    x = torch.from_numpy(blobs(n=100, d=8).x)
    x = x - x.mean(dim=0)
    adapter = Adapter(8, 8)
    adapter.fit(x)
    cosines = F.normalize(x, dim=1) @ F.normalize(x, dim=1).T
    z = adapter(x)
    np.testing.assert_allclose((z @ z.T).detach(), cosines, atol=1e-4)


def test_representation_is_no_wider_than_its_input():
    assert Representation([6], 128, 3).n_out == 6


def test_unfitted_transform_is_refused(blobs):
    with pytest.raises(Exception, match="not fitted"):
        make_head("simclr").transform(blobs().x)


def test_temperature_must_be_positive(blobs):
    with pytest.raises(ValueError, match="temperature=0"):
        make_head("simclr", n_clusters=2, temperature=0).fit(blobs().x)
