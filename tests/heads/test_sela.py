from __future__ import annotations

import numpy as np
import pytest
import torch
from head_contract import accuracy, hold_to_contract, hold_to_sklearn

from fmcluster.functional.ot import sinkhorn
from fmcluster.heads import make_head
from fmcluster.heads.families.transport import CosineNetwork, TransportObjective
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.prior import PriorTarget
from fmcluster.heads.training.views import Views
from fmcluster.vectors.rows import Rows

SMALL = {"epochs": 4, "batch_size": 64}


def test_contract(blobs, tmp_path):
    data = blobs(n=240, k=4)
    head = hold_to_contract("sela", data.x, tmp_path, n_clusters=4, **SMALL)
    assert accuracy(head, data.y) > 0.98
    assert [record["assigned"] for record in head.history_] == pytest.approx([1.0] * 4, abs=1e-3)


def test_scikit_learn_checks():
    hold_to_sklearn("sela", epochs=1)


def test_uniform_prior_evens_out_what_is_not_even(blobs):
    data = blobs(sizes=[200, 40], d=8, spread=0.5)
    even = make_head("sela", n_clusters=2, random_state=0, **SMALL).fit(data.x)
    given = make_head("sela", n_clusters=2, cluster_prior=[5 / 6, 1 / 6], random_state=0, **SMALL)
    given.fit(data.x)
    assert np.bincount(even.labels_).max() < np.bincount(given.labels_).max()
    np.testing.assert_allclose(np.sort(given.cluster_prior_), [1 / 6, 5 / 6], atol=1e-6)


@pytest.mark.parametrize(("rho", "kept"), [(1.0, 3), (0.4, 4)])
def test_k_potentials_give_the_shares_of_any_row(blobs, rho, kept):
    data = TrainData([Rows(blobs(n=90, k=3, d=8, spread=0.5).x)], None, 3, seed=0)
    network, even = CosineNetwork([8], 3), torch.full((3,), 1 / 3)
    prior = PriorTarget(even, even, True)
    objective = TransportObjective(network, prior=prior, epsilon=0.1, col_penalty=1.0)
    objective.rho = rho
    objective.start(data)
    objective.before_epoch(0, data)
    assert objective.potential.shape == (kept,)  # one more for what is left out
    scores = network(data.sample(90)).detach().log_softmax(dim=1)
    plan = sinkhorn(scores, epsilon=0.1, rho=rho, col_penalty=1.0, tol=1e-3).plan
    with torch.no_grad():
        network.head.prototypes.add_(1.0)  # training goes on, the epoch's plan does not move
    rows = torch.tensor([5, 1, 77])
    found = objective.target(Views(data, seed=0).batch(rows))
    torch.testing.assert_close(found, 90 * plan[rows], atol=1e-4, rtol=0)


def test_epsilon_must_be_positive(blobs):
    with pytest.raises(ValueError, match="epsilon=0"):
        make_head("sela", n_clusters=2, epsilon=0).fit(blobs().x)
