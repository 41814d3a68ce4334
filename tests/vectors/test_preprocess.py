"""Preprocessing does what its formula says, refuses bad input, and is the same after saving."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.utils.estimator_checks import parametrize_with_checks

from fmcluster.embedding.store.store import EmbeddingStore
from fmcluster.vectors.preprocess import PreprocessedRows, Preprocessor, parse_steps


@pytest.fixture
def X():
    generator = np.random.default_rng(0)
    return (generator.normal(size=(300, 12)) @ generator.normal(size=(12, 12)) + 5).astype("f4")


@parametrize_with_checks([Preprocessor("pca=2,whiten"), Preprocessor("center,l2")])
def test_estimator_contract(estimator, check):
    check(estimator)


def test_pca_agrees_with_scikit_learn_up_to_sign(X):
    ours = Preprocessor("pca=5").fit_transform(X)
    theirs = PCA(5, svd_solver="full").fit_transform(X.astype(np.float64))
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=2e-3)


def test_whitened_rows_have_unit_covariance(X):
    Z = Preprocessor("pca=6,whiten").fit_transform(X)
    np.testing.assert_allclose(np.cov(Z.T, bias=True), np.eye(6), atol=1e-3)


def test_whitening_drops_directions_without_variance():
    X = np.repeat(np.random.default_rng(0).normal(size=(50, 2)), 2, axis=1)
    Z = Preprocessor("whiten").fit_transform(X)
    assert Z.shape == (50, 2)
    assert np.isfinite(Z).all()


def test_l2_makes_unit_rows_and_keeps_zero_rows_finite(X):
    X[3] = 0
    Z = Preprocessor("l2").fit_transform(X)
    norms = np.linalg.norm(Z, axis=1)
    assert norms[3] == 0
    np.testing.assert_allclose(np.delete(norms, 3), 1, atol=1e-6)


def test_none_of_the_steps_is_the_identity(X):
    np.testing.assert_array_equal(Preprocessor("").fit_transform(X), X)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("pca", "write pca=64"),
        ("pca=x", "write pca=64"),
        ("pca=0", "write pca=64"),
        ("zca", "'zca' is not known"),
        ("l2,center", "the order is"),
        ("whiten=3", "not known"),
    ],
)
def test_bad_steps_are_named(steps, message):
    with pytest.raises(ValueError, match=message):
        parse_steps(steps)


def test_saved_state_gives_the_same_rows_and_fingerprint(X):
    step = Preprocessor("pca=4,whiten,l2").fit(X)
    again = Preprocessor.from_state(step.steps, step.state())
    np.testing.assert_array_equal(again.transform(X), step.transform(X))
    assert again.fingerprint == step.fingerprint
    assert Preprocessor("pca=4,whiten,l2").fit(X + 1).fingerprint != step.fingerprint


def test_a_view_reads_rows_lazily_and_equals_the_whole(X):
    step = Preprocessor("pca=4,l2").fit(X)
    view = step.view(X)
    assert isinstance(view, PreprocessedRows)
    assert view.shape == (300, 4)
    rows = np.array([5, 1, 299])
    np.testing.assert_allclose(view[rows], step.transform(X)[rows], atol=1e-6)
    np.testing.assert_allclose(np.asarray(view), step.transform(X), atol=1e-6)


def test_a_store_is_fitted_in_blocks_like_its_array(X):
    store = EmbeddingStore.from_array(X)
    a, b = Preprocessor("pca=4,l2").fit(store.space()), Preprocessor("pca=4,l2").fit(X)
    np.testing.assert_allclose(a.transform(X), b.transform(X), atol=1e-5)


def test_nan_rows_and_other_widths_are_named(X):
    step = Preprocessor("center").fit(X)
    X[7, 2] = np.nan
    with pytest.raises(ValueError, match=r"1 row\(s\): 7"):
        Preprocessor("center").fit(X)
    with pytest.raises(ValueError, match="features|dimensions"):
        step.transform(np.zeros((2, 3), np.float32))
