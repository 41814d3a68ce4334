"""Softmax regression: gradients against finite differences, optimum against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.linear_model import LogisticRegression

from fmcluster.functional.softmax import block_loss, fit_softmax, log_softmax


def test_log_softmax_survives_large_scores():
    scores = np.array([[1000.0, 0.0], [-1000.0, -1000.0]])
    assert np.allclose(np.exp(log_softmax(scores)), [[1, 0], [0.5, 0.5]])


@pytest.mark.parametrize("robustness", [0.0, 0.3, 0.7, 1.0])
def test_gradient(robustness):
    rng = np.random.default_rng(0)
    targets = rng.dirichlet(np.ones(4), 5)

    def value(flat):
        return block_loss(flat.reshape(5, 4), targets, robustness)[0]

    def slope(flat):
        return block_loss(flat.reshape(5, 4), targets, robustness)[1].ravel()

    assert check_grad(value, slope, rng.normal(size=20)) < 1e-5


def test_small_robustness_is_cross_entropy():
    rng = np.random.default_rng(1)
    targets, scores = rng.dirichlet(np.ones(3), 8), rng.normal(size=(8, 3))
    assert block_loss(scores, targets, 1e-6)[0] == pytest.approx(
        block_loss(scores, targets, 0)[0], rel=1e-4
    )


def test_optimum_is_scikit_learns(blobs):
    x, y = blobs(n=200, k=3, d=5, spread=0.5)
    x = x.astype(np.float64)
    ours = fit_softmax(x, np.eye(3)[y], C=2.0, max_iter=2000)
    theirs = LogisticRegression(C=2.0, tol=1e-8, max_iter=2000).fit(x, y)
    mine = np.exp(log_softmax(ours.scores(x)))
    assert np.allclose(mine, theirs.predict_proba(x), atol=2e-3)


def test_robust_loss_lets_go_of_wrong_labels(blobs):
    x, y = blobs(n=600, k=3, d=8, spread=0.1)
    rng = np.random.default_rng(0)
    given = np.where(rng.random(600) < 0.4, (y + 1) % 3, y)
    x, targets = x.astype(np.float64), np.eye(3)[given]
    start = fit_softmax(x, targets)
    robust = fit_softmax(x, targets, robustness=0.7, start=start)
    sure = np.exp(log_softmax(robust.scores(x))).max(axis=1).mean()
    unsure = np.exp(log_softmax(start.scores(x))).max(axis=1).mean()
    assert sure > unsure + 0.1
    assert (robust.scores(x).argmax(axis=1) == y).mean() > 0.98
    assert robust.n_iter > 0


def test_blocks_do_not_change_the_answer(blobs, monkeypatch):
    x, y = blobs(n=120, k=3)
    x = x.astype(np.float64)
    whole = fit_softmax(x, np.eye(3)[y])
    monkeypatch.setattr("fmcluster.functional.softmax.BLOCK_ROWS", 17)
    blocks = fit_softmax(x, np.eye(3)[y])
    assert np.allclose(whole.weight, blocks.weight, atol=1e-3)
