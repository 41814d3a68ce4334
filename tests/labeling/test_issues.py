"""Finding wrong labels, near-duplicates and outliers that were planted."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import cross_val_predict

from fmcluster.labeling.duplicates import find_near_duplicates, find_outliers
from fmcluster.labeling.issues import find_label_issues
from fmcluster.vectors.graph import KNNGraph

NAMES = np.array(["ant", "bee", "cat", "dog"])


@pytest.fixture(scope="module")
def planted(blobs):
    x, y = blobs(n=800, k=4, d=16, spread=0.25, seed=7)
    rng = np.random.default_rng(0)
    bad = np.zeros(800, bool)
    bad[rng.choice(800, 80, replace=False)] = True
    given = np.where(bad, (y + rng.integers(1, 4, 800)) % 4, y)
    return x, y, given, bad


def test_table_and_summary(planted):
    x, y, given, bad = planted
    table = find_label_issues(x, NAMES[given])
    assert table.columns.tolist() == ["id", "given", "suggested", "score"]
    assert table["score"].is_monotonic_increasing
    assert table["score"].between(0, 1).all()
    rows = table["id"].to_numpy()
    assert (table["given"] == NAMES[given[rows]]).all()
    assert (table["given"] != table["suggested"]).all()
    caught = bad[rows]
    assert caught.mean() > 0.9 and caught.sum() > 72
    assert (table["suggested"].to_numpy() == NAMES[y[rows]])[caught].mean() > 0.95
    assert table.attrs["noise_rate"] == pytest.approx(0.1, abs=0.03)
    assert np.shape(table.attrs["transition"]) == (4, 4)
    assert np.allclose(np.sum(table.attrs["transition"], axis=1), 1)
    assert table.attrs["classes"] == NAMES.tolist()
    assert np.shape(table.attrs["scores"]) == (800,)


def test_no_worse_than_cleanlab(planted):
    cleanlab = pytest.importorskip("cleanlab")
    x, _, given, bad = planted
    table = find_label_issues(x, given)
    ours = np.isin(np.arange(800), table["id"])
    proba = cross_val_predict(LogisticRegression(), x, given, method="predict_proba")
    theirs = cleanlab.filter.find_label_issues(given, proba, n_jobs=1)
    assert f1_score(bad, ours) >= f1_score(bad, theirs)
    quality = cleanlab.rank.get_label_quality_scores(given, proba)
    assert (
        roc_auc_score(bad, -np.array(table.attrs["scores"])) >= roc_auc_score(bad, -quality) - 0.002
    )


def test_own_probabilities_are_judged_by_bayes(planted):
    x, _, given, bad = planted
    proba = cross_val_predict(LogisticRegression(), x, given, method="predict_proba")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = find_label_issues(x, given, proba=proba)
    assert f1_score(bad, np.isin(np.arange(800), table["id"])) > 0.8


def test_in_sample_probabilities_are_warned_about(planted):
    x, _, given, _ = planted
    with pytest.warns(UserWarning, match="in-sample"):
        find_label_issues(x, given, proba=np.eye(4)[given] * 0.96 + 0.01)


def test_a_results_ids_and_clusters_serve(planted):
    x, y, given, bad = planted
    ids = np.array([f"r{i}" for i in range(800)])
    result = SimpleNamespace(
        labels=y, proba=np.eye(4)[y], ids=ids, graph=KNNGraph.build(x, k=50), embeddings=x
    )
    table = find_label_issues(result, given)
    assert set(table["id"]) <= set(ids)
    assert f1_score(bad, np.isin(ids, table["id"])) > 0.9


def test_threshold_by_hand(planted):
    x, _, given, _ = planted
    few = find_label_issues(x, given, threshold=0.05)
    many = find_label_issues(x, given, threshold=0.9)
    assert len(few) < len(many)
    assert many["score"].max() < 0.9
    assert len(find_label_issues(x, given, threshold=0.0)) == 0


def test_clean_labels_raise_little(planted):
    x, y, _, _ = planted
    table = find_label_issues(x, y)
    assert len(table) <= 0.03 * len(y)
    assert table.attrs["noise_rate"] < 0.03


def test_equal_seeds_agree(planted):
    x, _, given, _ = planted
    one, two = (find_label_issues(x, given, random_state=3) for _ in range(2))
    assert one.equals(two)


@pytest.mark.parametrize(
    ("labels", "kwargs", "message"),
    [
        (np.zeros(10), {}, "10 entries for 800 rows"),
        (np.zeros(800), {}, "one class only"),
        (np.arange(800) % 3, {"classes": [0, 1]}, r"\[2\]"),
        (np.arange(800) % 2, {"threshold": 2.0}, "threshold=2.0"),
        (np.arange(800) % 2, {"threshold": "high"}, "'high'"),
        (np.arange(800) % 2, {"proba": np.full((800, 3), 1 / 3)}, r"\(800, 3\)"),
        (np.arange(800) % 2, {"proba": np.full((800, 2), 0.9)}, "sum to 1"),
        (np.full((800, 1), 1), {}, "1-D"),
        ([None, *["a", "b"] * 399, "a"], {}, r"no label at position\(s\) 0"),
        ([1, *["a", "b"] * 399, "a"], {}, "both numbers and text"),
        (["ant", *["bee", "cat"] * 399, "dog"], {"classes": ["bee", "cat"]}, "'ant', 'dog'"),
        (np.arange(800) % 2, {"proba": np.full((10, 2), 0.5)}, r"\(10, 2\), expected \(800, 2\)"),
    ],
)
def test_bad_input_says_what_is_wrong(planted, labels, kwargs, message):
    with pytest.raises(ValueError, match=message):
        find_label_issues(planted[0], labels, **kwargs)


def test_labels_that_all_differ_and_two_rows_are_no_crash():
    x = np.random.default_rng(0).normal(size=(60, 8))
    assert len(find_label_issues(x, np.arange(60))) <= 60
    assert len(find_label_issues(x[:2], ["a", "b"])) <= 2


def test_nan_rows_are_named(planted):
    x = planted[0].copy()
    x[13, 2] = np.nan
    with pytest.raises(ValueError, match="13"):
        find_label_issues(x, planted[2])


def test_classes_may_name_more_than_there_are(planted):
    x, _, given, _ = planted
    table = find_label_issues(x, given, classes=[0, 1, 2, 3, 9])
    assert np.shape(table.attrs["transition"]) == (5, 5)
    assert 9 not in set(table["suggested"])


# -- near-duplicates and outliers ---------------------------------------------------------------


def test_planted_duplicates_are_grouped(blobs):
    x, _ = blobs(n=200, k=4, d=32, spread=0.5, seed=0)
    x[10] = x[11] = x[12]
    x[50] = 2.0 * x[60]  # the direction counts
    graph = KNNGraph.build(x, k=10)
    table = find_near_duplicates(graph, 0.999, ids=[f"r{i}" for i in range(200)])
    groups = table.groupby("group")["id"].apply(set).tolist()
    assert groups == [{"r10", "r11", "r12"}, {"r50", "r60"}]
    assert table["similarity"].min() > 0.999
    assert set(table.loc[table["id"] == "r50", "nearest"]) == {"r60"}


def test_no_duplicates_is_an_empty_table():
    table = find_near_duplicates(KNNGraph.build(np.eye(6), k=2), 0.9)
    assert len(table) == 0 and table.columns.tolist() == ["id", "group", "nearest", "similarity"]


def test_planted_outliers_come_first(blobs):
    x, _ = blobs(n=300, k=3, d=32, spread=0.08, seed=1)
    rng = np.random.default_rng(5)
    strangers = rng.normal(size=(3, 32))
    x[[7, 70, 200]] = strangers / np.linalg.norm(strangers, axis=1, keepdims=True)
    table = find_outliers(KNNGraph.build(x, k=10), share=0.01)
    assert set(table["id"]) == {7, 70, 200}
    assert table["score"].is_monotonic_increasing
    assert len(find_outliers(KNNGraph.build(x, k=10), share=0.0)) == 0


def test_graph_tables_check_their_input():
    graph = KNNGraph.build(np.eye(6), k=2)
    with pytest.raises(ValueError, match="threshold=3"):
        find_near_duplicates(graph, 3)
    with pytest.raises(ValueError, match="share=-1"):
        find_outliers(graph, share=-1)
    with pytest.raises(ValueError, match="2 entries"):
        find_outliers(graph, ids=[1, 2])
