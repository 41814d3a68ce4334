"""Rounds of a tied mixture in torch: those of scikit-learn, in any blocks."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from fmcluster.functional import mixture
from fmcluster.functional.mixture import fit_tied

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(4, 6)) * 2
    y = rng.choice(4, 800, p=[0.5, 0.3, 0.15, 0.05])
    z = centers[y] + rng.normal(size=(800, 6)) @ rng.normal(size=(6, 6)) * 0.6
    return z, z[[0, 1, 2, 3]], np.full(4, 0.25), np.eye(6)


@pytest.mark.parametrize("block", [2**26, 400])
@pytest.mark.parametrize("max_iter", [1, 7, 200])
def test_the_rounds_are_those_of_scikit_learn(problem, monkeypatch, block, max_iter):
    z, means, weights, precision = problem
    monkeypatch.setattr(mixture, "BLOCK_VALUES", block)
    found = fit_tied(z, means, weights, precision, max_iter=max_iter, reg_covar=1e-6, device=CPU)
    theirs = GaussianMixture(
        4,
        covariance_type="tied",
        means_init=means,
        weights_init=weights,
        precisions_init=precision,
        max_iter=max_iter,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one round and seven do not converge
        theirs.fit(z)
    assert found.n_iter == theirs.n_iter_
    np.testing.assert_allclose(found.means, theirs.means_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.weights, theirs.weights_, rtol=1e-6)
    np.testing.assert_allclose(found.covariance, theirs.covariances_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        found.precision_cholesky @ found.precision_cholesky.T, theirs.precisions_, rtol=1e-6
    )
