"""What every head promises, asserted in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.estimator_checks import check_estimator

from fmcluster.functional.metrics import evaluate
from fmcluster.heads import load_head, make_head


def hold_to_contract(name: str, x: np.ndarray, folder: Path, **params: Any) -> Any:
    """Fit, and assert labels, probabilities, prior, repeatability and saving; return the head."""
    head = make_head(name, random_state=0, **params).fit(x)
    k = head.n_clusters_
    assert head.labels_.dtype == np.int64
    np.testing.assert_array_equal(np.unique(head.labels_), np.arange(k))
    np.testing.assert_array_equal(head.predict(x), head.labels_)
    proba = head.predict_proba(x)
    assert proba.shape == (len(x), k)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(proba.argmax(axis=1), head.labels_)
    assert head.cluster_prior_.shape == (k,)
    assert np.isclose(head.cluster_prior_.sum(), 1)
    again = make_head(name, random_state=0, **params).fit(x)
    np.testing.assert_array_equal(again.labels_, head.labels_)
    head.save_pretrained(folder / name)
    loaded = load_head(folder / name)
    np.testing.assert_allclose(loaded.predict_proba(x), proba, atol=1e-5)
    np.testing.assert_array_equal(loaded.predict(x[:7]), head.labels_[:7])
    return head


def accuracy(head: Any, y: np.ndarray) -> float:
    """Return the Hungarian accuracy of a fitted head's labels."""
    return float(evaluate(y, head.labels_)["acc"])


def hold_to_sklearn(name: str, **params: Any) -> None:
    """Run scikit-learn's own estimator checks."""
    head = make_head(name, **params)
    check_estimator(head)
