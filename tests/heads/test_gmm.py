from __future__ import annotations

import numpy as np
import pytest
import torch
from head_contract import accuracy, hold_to_contract, hold_to_sklearn
from sklearn.mixture import GaussianMixture

from fmcluster.heads import make_head
from fmcluster.vectors.pca import PCAMap


def test_contract(blobs, tmp_path):
    data = blobs(n=240, k=4)
    head = hold_to_contract("gmm", data.x, tmp_path, n_clusters=4)
    assert accuracy(head, data.y) == 1.0


def test_scikit_learn_checks():
    hold_to_sklearn("gmm")


@pytest.mark.parametrize("covariance", ["tied", "full", "diag", "spherical"])
def test_every_covariance_saves_and_predicts(blobs, tmp_path, covariance):
    data = blobs(n=200, k=3)
    head = hold_to_contract(
        "gmm", data.x, tmp_path, n_clusters=3, covariance_type=covariance, n_components=4
    )
    assert accuracy(head, data.y) > 0.98


def test_prior_is_the_mixture_weights(blobs):
    data = blobs(sizes=[150, 50], d=8)
    head = make_head("gmm", n_clusters=2, random_state=0).fit(data.x)
    np.testing.assert_allclose(np.sort(head.cluster_prior_), [0.25, 0.75], atol=0.02)
    np.testing.assert_allclose(
        head.cluster_prior_, head.predict_proba(data.x).mean(axis=0), atol=0.01
    )


def test_likelihood_is_at_least_scikit_learns(blobs):
    data = blobs(n=300, k=3, d=6, spread=0.4)
    head = make_head("gmm", n_clusters=3, n_components=6, random_state=0).fit(data.x)
    z = head.map_(data.x)
    own = GaussianMixture(3, covariance_type="tied", random_state=0).fit(z)
    assert head.mixture_.score(z) >= own.score(z) - 0.05


@pytest.mark.parametrize("covariance", ["tied", "full", "diag", "spherical"])
def test_first_covariances_are_those_that_scikit_learn_begins_with(blobs, covariance):
    z = blobs(n=300, k=3, d=5, spread=0.4).x.astype(np.float64)
    head = make_head("gmm", n_clusters=3, covariance_type=covariance)
    own = GaussianMixture(3, covariance_type=covariance, random_state=7)
    own._initialize_parameters(z, np.random.RandomState(7))
    root = own.precisions_cholesky_
    expected = root @ root.swapaxes(-1, -2) if root.ndim > 1 and covariance != "diag" else root**2
    np.testing.assert_allclose(head._precisions(z, 3, 7), expected, rtol=1e-3)


def test_densities_are_scikit_learns(blobs):
    data = blobs(n=300, k=3, d=6, spread=0.4)
    mixture = make_head("gmm", n_clusters=3, n_components=6, random_state=0).fit(data.x).mixture_
    z = np.random.default_rng(0).normal(size=(50, len(mixture.means_[0])))
    own = GaussianMixture._estimate_log_prob(mixture, z)
    np.testing.assert_allclose(mixture._estimate_log_prob(z), own, rtol=1e-9)


def test_projection_keeps_distances_at_full_rank(blobs):
    x = blobs(n=50, d=8).x.astype(np.float64)
    z = PCAMap.fit(x, 8)(x)
    gaps = np.linalg.norm(x[:, None] - x[None], axis=2)
    np.testing.assert_allclose(np.linalg.norm(z[:, None] - z[None], axis=2), gaps, atol=1e-5)


def test_unknown_covariance_is_named(blobs):
    with pytest.raises(ValueError, match="covariance_type='round'"):
        make_head("gmm", n_clusters=2, covariance_type="round").fit(blobs().x)


def test_a_gpu_makes_the_rounds_of_a_tied_covariance(blobs, monkeypatch):
    x, y = blobs(n=400, k=4, d=12, spread=0.3)
    here = make_head("gmm", n_clusters=4, random_state=0).fit(x)
    monkeypatch.setattr("fmcluster.utils.distributed.gpu", lambda: torch.device("cpu"))
    there = make_head("gmm", n_clusters=4, random_state=0).fit(x)
    assert there.n_iter_ == here.n_iter_
    np.testing.assert_array_equal(there.labels_, here.labels_)
    np.testing.assert_allclose(there.predict_proba(x), here.predict_proba(x), atol=1e-5)
    full = make_head("gmm", n_clusters=4, covariance_type="full", random_state=0).fit(x)
    assert full.mixture_.covariances_.shape[0] == 4
