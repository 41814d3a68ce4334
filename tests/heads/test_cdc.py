"""CDC: selection, targets, prototypes, and what the head reaches on planted clusters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from head_contract import accuracy, hold_to_contract, hold_to_sklearn

from fmcluster.functional.consensus import align_columns
from fmcluster.heads import make_head
from fmcluster.heads.cdc import MiniClusterMeans, calibrated_selection
from fmcluster.heads.networks.prototypes import prototypes, spread, standardize_rows

QUICK = {"n_clusters": 4, "hidden": 32, "n_starts": 3, "epochs": 4, "min_steps": 20}


def test_selection_takes_as_many_as_the_mean_confidence_of_the_first_share():
    # Class 0: its two best rows have confidence 0.9 and 0.7 -> floor(2 * 0.8) = 1 row, the best.
    proba = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.0, 1.0], [0.0, 1.0]])
    chosen = calibrated_selection(proba, torch.tensor([0.5, 0.5]))
    assert chosen.tolist() == [True, False, True, True]


def test_selection_of_a_sure_head_is_everything_and_follows_the_prior():
    proba = torch.eye(2)[torch.tensor([0, 0, 0, 1])]
    assert calibrated_selection(proba, torch.tensor([0.75, 0.25])).all()
    fewer = calibrated_selection(proba[:, :1].expand(4, 2), torch.tensor([0.5, 0.5]))
    assert fewer.sum() == 2


def test_mini_cluster_targets_by_hand_leave_the_row_itself_out():
    proba = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    mini = torch.tensor([0, 0, 1])
    rows = torch.arange(3)
    found = MiniClusterMeans(proba, mini, None)[rows]
    # Rows 0 and 1 see each other; row 2 is alone in its mini-cluster and keeps its own.
    torch.testing.assert_close(found, torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]))
    near = torch.tensor([[2], [2], [0]])
    found = MiniClusterMeans(proba, mini, near)[rows]
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75], [0.75, 0.25], [1.0, 0.0]]))
    torch.testing.assert_close(found.sum(dim=1), torch.ones(3))
    halved = MiniClusterMeans(proba.half(), mini, near)[rows[1:]]
    torch.testing.assert_close(halved, found[1:])


def test_standardized_rows():
    x = torch.randn(5, 9, generator=torch.Generator().manual_seed(0)) + 3
    z = standardize_rows(x)
    torch.testing.assert_close(z.mean(dim=1), torch.zeros(5), atol=1e-6, rtol=0)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(5))
    flat = standardize_rows(torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(flat, torch.tensor([[0.6, 0.8]]))


def test_prototypes_are_unit_rows_and_filled_up_where_rows_are_few():
    x = torch.nn.functional.normalize(torch.randn(6, 4), dim=1)
    found = prototypes(x, 10, seed=0)
    assert found.shape == (10, 4)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(10), atol=1e-5, rtol=0)


def test_spreading_lets_each_prototype_recognize_itself():
    base = torch.rand(1, 16)
    crowded = torch.nn.functional.normalize(base + 0.2 * torch.rand(5, 16), dim=1)

    def cosines(w):
        w = torch.nn.functional.normalize(w, dim=1)
        return float((w @ w.T - torch.eye(5)).max())

    assert cosines(spread(crowded)) < cosines(crowded) - 0.1
    assert torch.equal(spread(crowded, n_steps=0), crowded)


def test_columns_of_permuted_partitions_are_aligned():
    rng = np.random.default_rng(0)
    base = rng.dirichlet(np.full(5, 0.1), size=200)
    orders = [rng.permutation(5) for _ in range(4)]
    stacked = np.stack([base[:, order] for order in orders], axis=1)
    found = align_columns(stacked)
    aligned = [stacked[:, h, found[h]] for h in range(4)]
    for part in aligned[1:]:
        np.testing.assert_array_equal(part, aligned[0])


@pytest.mark.parametrize("init", ["paper", "partition"])
@pytest.mark.parametrize("n_starts", [1, 3])
def test_planted_clusters_are_found(blobs, tmp_path, init, n_starts):
    x, y = blobs(n=240, k=4, d=16)
    params = {**QUICK, "init": init, "n_starts": n_starts}
    head = hold_to_contract("cdc", x, tmp_path, **params)
    assert accuracy(head, y) > (0.95 if init == "partition" or n_starts > 1 else 0.7)
    assert {"clustering", "calibration", "share_labeled"} <= set(head.history_[0])


def test_calibration_head_is_less_sure_than_the_clustering_head(blobs):
    x, _ = blobs(n=600, k=4, d=16, spread=0.45)
    sure = {}
    for output in ("calibration", "clustering"):
        head = make_head("cdc", random_state=0, output=output, **{**QUICK, "epochs": 12}).fit(x)
        sure[output] = head.predict_proba(x).max(axis=1).mean()
    assert sure["calibration"] < sure["clustering"]


def test_a_prior_is_followed_on_a_long_tail(blobs):
    x, y = blobs(d=16, sizes=[200, 60, 25, 15], spread=0.3)
    prior = np.array([200, 60, 25, 15]) / 300
    told = make_head("cdc", random_state=0, cluster_prior=prior, **QUICK).fit(x)
    even = make_head("cdc", random_state=0, **QUICK).fit(x)
    assert accuracy(told, y) >= accuracy(even, y)
    assert told.cluster_prior_.max() >= even.cluster_prior_.max()


@pytest.mark.parametrize(
    ("argument", "value"), [("init", "random"), ("output", "mean"), ("orthogonalise", "all")]
)
def test_unknown_words_are_named(blobs, argument, value):
    x, _ = blobs(n=40, k=4, d=8)
    with pytest.raises(ValueError, match=argument):
        make_head("cdc", **{**QUICK, argument: value}).fit(x)


def test_several_spaces(blobs):
    x, y = blobs(n=160, k=4, d=16)
    other = blobs(n=160, k=4, d=6, seed=1).x
    head = make_head("cdc", random_state=0, **QUICK).fit([x, other])
    assert head.space_dims_ == [16, 6]
    assert head.predict([x, other]).shape == (160,)
    with pytest.raises(ValueError, match="dimensions"):
        head.predict([other, x])
    assert accuracy(head, y) > 0.5


def test_turns_and_half_the_bytes_find_the_same(blobs, monkeypatch):
    x, _ = blobs(n=240, k=4, d=16)
    whole = make_head("cdc", random_state=0, **QUICK).fit(x)
    monkeypatch.setattr("fmcluster.heads.cdc.KEPT_BYTES", 4 * 240 * 4)
    turns = make_head("cdc", random_state=0, **QUICK).fit(x)
    np.testing.assert_array_equal(turns.labels_, whole.labels_)
    np.testing.assert_allclose(turns.predict_proba(x), whole.predict_proba(x), atol=5e-3)


def test_a_sample_makes_prototypes_of_many_rows(blobs, monkeypatch):
    monkeypatch.setattr("fmcluster.heads.networks.dual.SAMPLE_ROWS", 100)
    x, y = blobs(n=240, k=4, d=16)
    for init in ("paper", "partition"):
        head = make_head("cdc", random_state=0, **{**QUICK, "init": init}).fit(x)
        assert accuracy(head, y) > 0.95


def test_scikit_learn_checks():
    hold_to_sklearn("cdc", epochs=1, min_steps=1, hidden=8, n_starts=1)
