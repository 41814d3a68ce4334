from __future__ import annotations

import numpy as np
import pytest
from head_contract import hold_to_sklearn
from representation import hold_to_representation

from fmcluster.heads import make_head

SMALL = {"epochs": 3, "batch_size": 120, "n_out": 8}


def test_contract(blobs, tmp_path):
    head = hold_to_representation("cc", blobs(n=240, k=4), tmp_path, **SMALL)
    assert {"instance", "cluster", "size_divergence"} <= set(head.history_[0])


def test_scikit_learn_checks():
    hold_to_sklearn("cc", epochs=1)


def test_even_sizes_cost_nothing(blobs):
    head = make_head("cc", n_clusters=4, random_state=0, **SMALL).fit(blobs(n=240, k=4).x)
    assert head.history_[-1]["size_divergence"] < 0.1


def test_given_prior_is_given_out_by_rank(blobs):
    data = blobs(sizes=[180, 60], d=8)
    prior = np.array([0.25, 0.75])
    head = make_head("cc", n_clusters=2, cluster_prior=prior, random_state=0, **SMALL)
    head.fit(data.x)
    sizes = np.bincount(head.labels_) / len(data.x)
    np.testing.assert_allclose(head.cluster_prior_, np.where(sizes > 0.5, 0.75, 0.25), atol=1e-6)


def test_wrong_prior_is_refused(blobs):
    with pytest.raises(ValueError, match="sum to 1"):
        make_head("cc", n_clusters=2, cluster_prior=[0.5, 0.6]).fit(blobs().x)
