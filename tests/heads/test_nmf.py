from __future__ import annotations

import numpy as np
from head_contract import accuracy, hold_to_contract, hold_to_sklearn
from scipy.sparse import csr_matrix

from fmcluster.heads.nmf import symmetric_nmf


def test_contract(blobs, tmp_path):
    data = blobs(n=240, k=4)
    head = hold_to_contract("nmf", data.x, tmp_path, n_clusters=4)
    assert accuracy(head, data.y) == 1.0


def test_scikit_learn_checks():
    hold_to_sklearn("nmf")


def _error(weights, g):
    return np.linalg.norm(weights - g @ g.T)


def test_the_objective_never_rises():
    rng = np.random.default_rng(0)
    half = rng.random((30, 30))
    weights = half + half.T
    g = rng.random((30, 3))
    errors = [_error(weights, g)]
    for _ in range(30):
        g, _ = symmetric_nmf(csr_matrix(weights), g, max_iter=1)
        errors.append(_error(weights, g))
    assert np.all(np.diff(errors) <= 1e-9)
    assert (g >= 0).all()


def test_recovers_blocks_exactly():
    true = np.kron(np.eye(3), np.ones((5, 1)))
    start = true + 0.2
    g, _ = symmetric_nmf(csr_matrix(true @ true.T), start, max_iter=2000, tol=0)
    np.testing.assert_allclose(g @ g.T, true @ true.T, atol=1e-2)
    np.testing.assert_array_equal(g.argmax(axis=1), true.argmax(axis=1))


def test_stops_where_nothing_moves():
    true = np.kron(np.eye(2), np.ones((4, 1)))
    fixed, n_iter = symmetric_nmf(csr_matrix(true @ true.T), true, max_iter=5)
    assert n_iter == 1
    np.testing.assert_allclose(fixed, true)
