from __future__ import annotations

import numpy as np
import pytest
from head_contract import accuracy, hold_to_contract, hold_to_sklearn

from fmcluster.heads import make_head

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


def test_epsilon_must_be_positive(blobs):
    with pytest.raises(ValueError, match="epsilon=0"):
        make_head("sela", n_clusters=2, epsilon=0).fit(blobs().x)
