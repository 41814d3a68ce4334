"""The default head as an estimator: what it promises on planted clusters."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from head_contract import accuracy, hold_to_contract, hold_to_sklearn
from helpers_fork import run_forked
from threadpoolctl import threadpool_limits

from fmcluster.functional.metrics import evaluate
from fmcluster.heads import load_head, make_head
from fmcluster.heads.auto.head import AutoHead, resolve_shares
from fmcluster.vectors.pca import principal_axes


def test_contract(even, tmp_path):
    head = hold_to_contract("auto", even.x, tmp_path, n_clusters=5)
    assert accuracy(head, even.y) > 0.98


def test_scikit_learn_checks():
    hold_to_sklearn("auto", n_clusters=3)


def test_finds_even_sizes_where_they_are_even(even):
    head = AutoHead(5, random_state=0).fit(even.x)
    assert head.even_sizes_
    np.testing.assert_allclose(head.cluster_prior_, 0.2, atol=0.03)


def test_keeps_a_long_tail(tailed):
    head = AutoHead(6, random_state=0).fit(tailed.x)
    assert not head.even_sizes_
    assert head.n_clusters_ == 6
    assert evaluate(tailed.y, head.labels_)["macro_acc"] > 0.9
    shares = np.sort(head.cluster_prior_)[::-1]
    np.testing.assert_allclose(shares, np.array([400, 160, 80, 40, 20, 10]) / 710, atol=0.04)


def test_clusters_of_a_few_rows_are_found_where_they_lie_apart(blobs):
    sizes = [4000, 2000, 900, 400, 180, 80, 35, 15, 7, 4]
    data = blobs(k=10, d=32, spread=0.04, sizes=sizes, seed=1)
    head = AutoHead(10, max_rows=3_000, random_state=0).fit(data.x)
    assert evaluate(data.y, head.labels_)["macro_acc"] == 1.0


def test_uniform_prior_is_obeyed_where_the_data_disagree(tailed):
    free = AutoHead(6, cluster_prior="estimate", random_state=0).fit(tailed.x)
    held = AutoHead(6, cluster_prior="uniform", random_state=0).fit(tailed.x)
    assert not free.even_sizes_
    assert held.even_sizes_
    assert np.ptp(held.cluster_prior_) < 0.5 * np.ptp(free.cluster_prior_)


def test_array_prior_is_given_out_by_rank(tailed):
    truth = np.array([10, 20, 40, 80, 160, 400]) / 710
    head = AutoHead(6, cluster_prior=truth, random_state=0).fit(tailed.x)
    assert accuracy(head, tailed.y) > 0.95
    assert abs(head.cluster_prior_.max() - 400 / 710) < 0.05


def test_several_spaces_beat_each(blobs):
    data = blobs(n=500, k=4, d=24, spread=0.0, seed=3)
    rng = np.random.default_rng(0)
    views = [(data.x + 0.33 * rng.normal(size=data.x.shape)).astype(np.float32) for _ in "ab"]
    alone = [accuracy(AutoHead(4, random_state=0).fit(view), data.y) for view in views]
    both = AutoHead(4, random_state=0).fit(views)
    assert both.predict_proba([view[:9] for view in views]).shape == (9, 4)
    assert accuracy(both, data.y) > max(alone) + 0.02


def test_a_space_of_noise_is_left_out_and_stays_out(blobs, tmp_path):
    data = blobs(n=500, k=5, d=16, spread=0.5, seed=1)
    noise = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    head = AutoHead(5, random_state=0).fit([data.x, noise])
    assert head.space_ == 0
    assert AutoHead(5, random_state=0).fit([data.x, data.x]).space_ is None
    head.save_pretrained(tmp_path / "head")
    loaded = load_head(tmp_path / "head")
    assert loaded.space_ == 0
    other = np.random.default_rng(1).normal(size=(500, 8)).astype(np.float32)
    np.testing.assert_array_equal(loaded.predict([data.x, other]), head.labels_)


def test_same_labels_for_any_number_of_threads(tailed):
    labels = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            labels.append(AutoHead(6, random_state=3).fit(tailed.x).labels_)
    np.testing.assert_array_equal(*labels)


def test_duplicates_share_a_label_and_a_batch_does_not_matter(even):
    x = np.concatenate([even.x, even.x[:50]])
    head = AutoHead(5, random_state=0).fit(x)
    np.testing.assert_array_equal(head.labels_[600:], head.labels_[:50])
    one_by_one = np.concatenate([head.predict(x[i : i + 1]) for i in range(20)])
    np.testing.assert_array_equal(one_by_one, head.labels_[:20])


def test_many_rows_are_fitted_as_nodes(tailed):
    head = AutoHead(6, max_rows=200, random_state=0).fit(tailed.x)
    assert head.labels_.shape == (710,)
    assert head.unanswered_.points.weights.sum() == 710
    assert len(head.unanswered_.points.rows) == 200
    assert evaluate(tailed.y, head.labels_)["macro_acc"] > 0.8


@pytest.mark.parametrize("max_rows", [600, 45])
def test_there_are_more_nodes_than_clusters(blobs, monkeypatch, max_rows):
    monkeypatch.setattr("fmcluster.heads.auto.head.MAX_NODES", 20)
    data = blobs(n=600, k=30, d=16, spread=0.1, seed=3)
    head = AutoHead(30, max_rows=max_rows, random_state=0).fit(data.x)
    assert head.n_clusters_ == 30
    assert accuracy(head, data.y) > 0.95


def test_new_rows_are_placed_without_a_graph(blobs, tmp_path):
    data = blobs(n=800, k=4, seed=4)
    head = AutoHead(4, random_state=0).fit(data.x[:500])
    head.save_pretrained(tmp_path / "head")
    loaded = load_head(tmp_path / "head")
    found = loaded.predict(data.x[500:])
    assert evaluate(data.y[500:], found)["acc"] > 0.97
    np.testing.assert_array_equal(found, head.predict(data.x[500:]))


def test_wide_rows_are_projected(blobs, tmp_path):
    data = blobs(n=200, k=3, d=300, spread=0.02)
    head = hold_to_contract("auto", data.x, tmp_path, n_clusters=3)
    assert head.axes_.shape == (300, 256)
    assert accuracy(head, data.y) == 1.0


def test_one_cluster_and_as_many_clusters_as_rows():
    x = np.eye(6, dtype=np.float32)
    assert AutoHead(1, random_state=0).fit(x).labels_.max() == 0
    assert AutoHead(6, random_state=0).fit(x).n_clusters_ == 6


def test_number_of_clusters_is_estimated_where_it_is_not_given(even):
    head = AutoHead(random_state=0).fit(even.x)
    assert 4 <= head.n_clusters_ <= 6
    assert accuracy(head, even.y) > 0.8


def test_wrong_arguments_are_named(even):
    with pytest.raises(ValueError, match="cluster_prior"):
        AutoHead(5, cluster_prior="even").fit(even.x)
    with pytest.raises(ValueError, match="max_rows"):
        AutoHead(5, max_rows=1).fit(even.x)
    with pytest.raises(ValueError, match="3"):
        AutoHead(5, cluster_prior=[0.5, 0.3, 0.2]).fit(even.x)


def test_shares_and_axes():
    np.testing.assert_allclose(resolve_shares("auto", 4), 0.25)
    assert resolve_shares("estimate", 4) is None
    axes = principal_axes(np.random.default_rng(0).normal(size=(50, 400)).astype(np.float32))
    np.testing.assert_allclose(axes.T @ axes, np.eye(axes.shape[1]), atol=1e-4)
    assert principal_axes(np.zeros((5, 8), np.float32)).size == 0


@pytest.mark.realdata
def test_tweets_beat_average_linkage(shared_dir):
    data = np.load(shared_dir / "embeddings" / "tweet.npz")
    y = np.unique(data["y"], return_inverse=True)[1]
    head = make_head("auto", n_clusters=89, random_state=0).fit(data["x"].astype(np.float32))
    found = evaluate(y, head.labels_, head.predict_proba(data["x"].astype(np.float32)))
    assert found["acc"] > (0.87 if found["acc"] <= 1 else 87)
    assert found["ece"] < (0.08 if found["acc"] <= 1 else 8)


@pytest.mark.parametrize("prior", ["uniform", [0.7, 0.1, 0.1, 0.05, 0.03, 0.02]])
def test_the_mean_is_taken_away_as_far_as_the_largest_cluster_lets(tailed, prior):
    head = AutoHead(6, cluster_prior=prior, random_state=0).fit(tailed.x)
    rest = 1 - (1 / 6 if prior == "uniform" else 0.7)
    np.testing.assert_allclose(head.centre_, rest * tailed.x.mean(axis=0), atol=1e-5)


FIT = """
import sys
if sys.argv[1] == "first":
    import faiss
import numpy as np
from fmcluster.heads import make_head
x = np.load(sys.argv[2])
np.save(sys.argv[3], make_head("auto", n_clusters=12, random_state=0).fit(x).predict_proba(x))
"""


@pytest.mark.slow
def test_a_fit_does_not_depend_on_what_was_loaded_before_it(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(900, 64)) + np.repeat(rng.normal(size=(12, 64)), 75, 0)
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    rows, *made = (str(tmp_path / f"{name}.npy") for name in ("x", "first", "later"))
    subprocess.run([sys.executable, "-c", FIT, "first", rows, made[0]], check=True)
    run_forked(FIT, "later", rows, made[1])  # of a process that has loaded all else before
    assert np.array_equal(np.load(tmp_path / "first.npy"), np.load(tmp_path / "later.npy"))
