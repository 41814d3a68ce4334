"""Denoising: the transition, the pool, the cut - against brute force and planted truths."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import f1_score

from fmcluster.functional.noise import (
    SHRINKAGE,
    Clusters,
    Discriminant,
    Votes,
    denoise,
    discriminant,
    f1_cut,
    fit_pool,
    regular_factor,
    solve_discriminant,
    stratified_folds,
)
from fmcluster.functional.softmax import softmax
from fmcluster.vectors.graph import KNNGraph


def flip(y, rate, k, seed=0):
    rng = np.random.default_rng(seed)
    wrong = rng.random(len(y)) < rate
    return np.where(wrong, (y + rng.integers(1, k, len(y))) % k, y)


@pytest.fixture(scope="module")
def planted(blobs):
    x, y = blobs(n=1200, k=6, d=24, spread=0.2, seed=3)
    return x, y, KNNGraph.build(x, k=30)


def test_folds_are_even_and_stratified():
    given = np.repeat([0, 1, 2], [50, 25, 10])
    fold = stratified_folds(given, 5, seed=1)
    assert np.bincount(fold).tolist() == [17] * 5
    for c, size in enumerate([50, 25, 10]):
        assert np.bincount(fold[given == c], minlength=5).tolist() == [size // 5] * 5
    assert not np.array_equal(fold, stratified_folds(given, 5, seed=2))


def test_f1_cut_is_the_best_of_all_prefixes():
    rng = np.random.default_rng(0)
    wrong = rng.beta(0.4, 1.5, 300)
    flagged = f1_cut(wrong, floor=0.0)

    def expected(mask):
        return 2 * wrong[mask].sum() / (mask.sum() + wrong.sum())

    order = np.argsort(-wrong)
    best = max(expected(np.isin(np.arange(300), order[:m])) for m in range(1, 301))
    assert expected(flagged) == pytest.approx(best)


def test_f1_cut_never_flags_likely_right_rows():
    assert not f1_cut(np.full(100, 0.1)).any()
    assert f1_cut(np.r_[np.full(5, 0.9), np.full(95, 0.01)]).sum() == 5


def test_discriminant_is_lda_without_shrinkage(blobs, monkeypatch):
    monkeypatch.setattr("fmcluster.functional.noise.SHRINKAGE", 0.0)
    x, y = blobs(n=600, k=3, d=8, spread=0.4)
    q = np.eye(3)[y]
    x = x.astype(np.float64)
    weight, bias = discriminant(q.T @ x, q.sum(axis=0), x.T @ x)
    ours = (x @ weight + bias).argmax(axis=1)
    theirs = LinearDiscriminantAnalysis(priors=[1 / 3] * 3).fit(x, y).predict(x)
    assert (ours == theirs).mean() > 0.995


def test_one_factor_serves_all_soft_classes(blobs):
    x, y = blobs(n=400, k=5, d=12, spread=0.3)
    x = (x + 0.4).astype(np.float64)
    first = np.eye(5)[flip(y, 0.4, 5)]
    later = np.random.default_rng(0).dirichlet(np.full(5, 0.3), 400)
    factor = regular_factor(first.T @ x, first.sum(axis=0), x.T @ x)
    sums, counts = later.T @ x, later.sum(axis=0)
    weight, bias = solve_discriminant(factor, sums, counts)

    def within(q):
        means = (q.T @ x) / q.sum(axis=0)[:, None]
        return x.T @ x / 400 - means.T @ np.diag(q.mean(axis=0)) @ means

    ridge = (SHRINKAGE + 1e-4) * np.trace(within(first)) / 12
    matrix = (1 - SHRINKAGE) * within(later) + ridge * np.eye(12)
    centers = (sums + x.mean(axis=0)) / (counts + 1)[:, None]
    expected = np.linalg.solve(matrix, centers.T)
    assert np.allclose(weight, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    assert np.allclose(bias, -0.5 * (centers * expected.T).sum(axis=1), rtol=1e-3)


def test_discriminant_scores_do_not_see_the_rows_own_fold(blobs):
    x, y = blobs(n=200, k=3, d=6)
    fold = stratified_folds(y, 5, seed=0)
    expert = Discriminant(x, fold, 5)
    q = np.eye(3, dtype=np.float32)[y]
    expert.update(q)
    before = expert(np.arange(200))
    q[fold == 2] = np.roll(q[fold == 2], 1, axis=1)
    expert.update(q)
    after = expert(np.arange(200))
    assert np.allclose(before[fold == 2], after[fold == 2], atol=1e-4)
    assert not np.allclose(before[fold != 2], after[fold != 2], atol=1e-2)


def test_votes_ignore_the_rows_own_label(planted):
    x, y, graph = planted
    votes = Votes(graph.indices, graph.similarities)
    q = np.eye(6, dtype=np.float32)[y]
    votes.update(q)
    row = np.array([17])
    before = votes(row) + np.log(votes.prior)
    q[17] = np.roll(q[17], 1)
    votes.update(q)
    assert np.allclose(before, votes(row) + np.log(votes.prior), atol=5e-2)
    assert before.argmax() == y[17]


def test_clusters_leave_the_row_out():
    q = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]]
    expert = Clusters(np.array([0, 0, 0, 1]))
    expert.update(q)
    scores = expert(np.arange(4)) + np.log(expert.prior)
    assert scores[2].argmax() == 0  # the two others of its cluster are class 0
    assert np.allclose(np.exp(scores[3]), 0.5)  # alone: the prior


def test_pool_gradient_and_optimum():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 500)
    good = np.eye(3)[truth] * 2 + rng.normal(size=(500, 3)) * 0.3
    useless = rng.normal(size=(500, 3))
    likelihood = np.full((500, 3), 0.1)
    likelihood[np.arange(500), truth] = 0.8
    weights = fit_pool([good, useless], likelihood, np.array([1.0, 1.0]))
    assert weights[0] > 10 * weights[1]

    def value(log_weights):
        z = np.exp(log_weights[0]) * good + np.exp(log_weights[1]) * useless
        return -np.log((softmax(z, dtype=None) * likelihood).sum(axis=1)).mean()

    at = np.log(weights)
    slope = approx_fprime(at, value, 1e-6)
    inside = (at > -5.9) & (at < 2.9)
    assert np.abs(slope[inside]).max(initial=0) < 1e-3


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.4, 0.6])
def test_symmetric_noise_is_found_and_its_rate_estimated(planted, rate):
    x, y, graph = planted
    given = flip(y, rate, 6)
    found = denoise(x, given, 6, graph.indices, graph.similarities)
    assert found.noise_rate == pytest.approx((given != y).mean(), abs=0.05)
    assert f1_score(given != y, f1_cut(1 - found.score)) > 0.9
    assert (found.posterior.argmax(axis=1) == y).mean() > 0.95
    assert np.allclose(found.posterior.sum(axis=1), 1, atol=1e-4)
    assert np.allclose(np.diag(found.transition), 1 - rate, atol=0.12)


def test_pair_noise_shows_in_the_channel(planted):
    x, y, graph = planted
    rng = np.random.default_rng(1)
    given = np.where(rng.random(len(y)) < 0.3, (y + 1) % 6, y)
    found = denoise(x, given, 6, graph.indices, graph.similarities)
    for c in range(6):
        off = found.transition[c].copy()
        off[c] = 0
        assert off.argmax() == (c + 1) % 6
        assert off.max() == pytest.approx(0.3, abs=0.1)


def test_clean_labels_stay(planted):
    x, y, graph = planted
    found = denoise(x, y, 6, graph.indices, graph.similarities)
    assert found.noise_rate < 0.02
    assert f1_cut(1 - found.score).mean() < 0.02


def test_equal_seeds_agree_and_clusters_are_a_witness(planted):
    x, y, graph = planted
    given = flip(y, 0.3, 6)
    one, two = (denoise(x, given, 6, graph.indices, graph.similarities, seed=4) for _ in range(2))
    assert np.array_equal(one.score, two.score)
    three = denoise(x, given, 6, graph.indices, graph.similarities, clusters=y)
    assert len(three.pool) == len(one.pool) + 1


def test_blocks_do_not_change_the_answer(planted, monkeypatch):
    x, y, graph = planted
    given = flip(y, 0.3, 6)
    whole = denoise(x, given, 6, graph.indices, graph.similarities)
    monkeypatch.setattr("fmcluster.functional.noise.BLOCK_ROWS", 100)
    blocks = denoise(x, given, 6, graph.indices, graph.similarities)
    assert np.allclose(whole.score, blocks.score, atol=1e-3)


def test_rounds_end_where_scores_settle(planted):
    x, y, graph = planted
    given = flip(y, 0.2, 6)
    args = (x, given, 6, graph.indices, graph.similarities)
    first = denoise(*args, n_iter=1)
    assert np.array_equal(denoise(*args, tolerance=1.0).score, first.score)
    settled, last = denoise(*args, tolerance=0.02), denoise(*args)
    assert not np.array_equal(settled.score, last.score)
    assert np.abs(settled.score - last.score).mean() < 0.02
