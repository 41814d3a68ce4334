"""What every head promises, over every name in `list_heads`."""

from __future__ import annotations

import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.base import clone

from fmcluster.heads import list_heads, load_head, make_head

# Short training: the contract does not depend on its length.
SHORT = {"epochs": 2, "min_steps": 4, "self_label_epochs": 1, "pretrain_epochs": 1}


def short(name: str, **params: object):
    """Make a head that trains for a moment; not every head has every one of these arguments."""
    head = make_head(name, **params)
    known = head.get_params()
    quick = {key: value for key, value in SHORT.items() if key in known}
    return head.set_params(**quick)


@pytest.fixture(scope="module")
def rows(blobs):
    return blobs(n=90, k=3, d=8)


@pytest.fixture(scope="module", params=list_heads())
def fitted(request, rows):
    asked = {} if request.param == "hdbscan" else {"n_clusters": 3}
    return short(request.param, random_state=0, **asked).fit(rows.x)


def same_labels(fitted, x) -> None:
    again = clone(fitted).fit(x)
    np.testing.assert_array_equal(again.labels_, fitted.labels_)


def test_labels_and_probabilities(fitted, rows):
    labels, k = fitted.labels_, fitted.n_clusters_
    assert labels.dtype == np.int64
    found = np.unique(labels)
    np.testing.assert_array_equal(found[found >= 0], np.arange(k))
    proba = fitted.predict_proba(rows.x)
    assert proba.shape == (len(rows.x), k)
    assert np.isfinite(proba).all() and (proba >= 0).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-5)
    if fitted.name != "hdbscan":  # its noise rows have no cluster
        np.testing.assert_array_equal(fitted.predict(rows.x), labels)
        np.testing.assert_array_equal(proba.argmax(axis=1), labels)
    assert fitted.cluster_prior_.shape == (k,)
    assert fitted.cluster_prior_.sum() == pytest.approx(1)


def test_parameters_are_only_stored_and_cloned(fitted):
    params = fitted.get_params()
    copied = clone(fitted)
    assert copied.get_params() == params
    assert not hasattr(copied, "labels_")
    assert copied.set_params(random_state=5).random_state == 5


@pytest.mark.parametrize("name", list_heads())
def test_arguments_are_keywords_but_the_first(name):
    cls = type(make_head(name))
    first, *others = inspect.signature(cls).parameters.values()
    assert (first.name, first.kind) == ("n_clusters", first.POSITIONAL_OR_KEYWORD)
    assert {other.kind for other in others} == {first.KEYWORD_ONLY}
    assert set(cls(7).get_params()) == {first.name, *(other.name for other in others)}
    with pytest.raises(TypeError):
        cls(7, 3)
    assert repr(cls(7)) == f"{cls.__name__}(n_clusters=7)"
    assert cls(7) != cls(7) and len({cls(7), cls(7)}) == 2


def test_any_split_of_the_rows_predicts_the_same(fitted, rows):
    whole = fitted.predict_proba(rows.x)
    order = np.random.default_rng(0).permutation(len(rows.x))
    parts = [fitted.predict_proba(rows.x[part]) for part in np.array_split(order, 4)]
    np.testing.assert_allclose(np.concatenate(parts), whole[order], atol=1e-6)


def test_any_form_of_the_rows_gives_the_same_labels(fitted, rows, tmp_path):
    x = rows.x.copy()
    x.setflags(write=False)
    same_labels(fitted, x)
    np.testing.assert_array_equal(fitted.predict(np.asfortranarray(rows.x)), fitted.predict(x))
    np.testing.assert_array_equal(fitted.predict(rows.x.tolist()), fitted.predict(x))
    np.testing.assert_array_equal(fitted.predict(rows.x.astype(np.float64)), fitted.predict(x))
    np.save(tmp_path / "x.npy", rows.x)
    same_labels(fitted, np.load(tmp_path / "x.npy", mmap_mode="r"))
    np.testing.assert_array_equal(x, rows.x)


def test_saved_and_loaded_predicts_bit_for_bit(fitted, rows, tmp_path):
    fitted.save_pretrained(tmp_path)
    loaded = load_head(tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(rows.x), fitted.predict_proba(rows.x))
    np.testing.assert_array_equal(loaded.cluster_prior_, fitted.cluster_prior_)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors"}


@pytest.mark.parametrize("name", list_heads())
def test_impossible_requests_are_typed_errors(name, rows):
    broken = rows.x.copy()
    broken[7, 0] = np.nan
    with pytest.raises(ValueError, match="7"):
        short(name, random_state=0).fit(broken)
    if name == "hdbscan":
        return
    with pytest.raises(ValueError, match="91.*90|90.*91"):
        short(name, n_clusters=91).fit(rows.x)
    twice = np.repeat(rows.x[:2], 5, axis=0)
    with pytest.raises(ValueError, match="distinct"):
        short(name, n_clusters=3).fit(twice)


def test_eight_threads_predict_what_one_does(fitted, rows):
    whole = fitted.predict_proba(rows.x)
    parts = [np.arange(start, 90, 8) for start in range(8)]
    together = threading.Barrier(8)

    def work(part):
        together.wait(timeout=30)
        return [fitted.predict_proba(rows.x[part]) for _ in range(5)]

    with ThreadPoolExecutor(8) as pool:
        for part, found in zip(parts, pool.map(work, parts), strict=True):
            for proba in found:
                np.testing.assert_allclose(proba, whole[part], atol=1e-6)
