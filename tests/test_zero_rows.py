"""Rows of zeros are known to be unknown: they move nothing, are judged by nobody, stay even."""

from __future__ import annotations

import numpy as np
import pytest

import fmcluster as fmc
from fmcluster.heads import list_heads, make_head
from fmcluster.vectors.fit_data import known_rows
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.preprocess import Preprocessor
from fmcluster.vectors.rows import as_spaces

SHORT = {"epochs": 2, "min_steps": 4, "self_label_epochs": 1, "pretrain_epochs": 1, "n_starts": 2}
WIDTH = {"cdc": 8, "temi": 8, "dec": (16, 8), "idec": (16, 8)}
PLACES = [0, 10, 40, 40, 60]


@pytest.fixture(scope="module")
def rows(blobs):
    return blobs(n=60, k=3, d=8).x


@pytest.fixture(scope="module")
def with_zeros(rows):
    return np.insert(rows, PLACES, 0, axis=0)


@pytest.mark.parametrize("name", list_heads())
def test_no_head_learns_from_them(name, rows, with_zeros):
    asked = {} if name == "hdbscan" else {"n_clusters": 3}
    if name in WIDTH:
        asked["hidden"] = WIDTH[name]
    known = set(make_head(name).get_params())
    asked |= {key: value for key, value in SHORT.items() if key in known}
    alone = make_head(name, random_state=0, **asked).fit(rows)
    head = make_head(name, random_state=0, **asked).fit(with_zeros)
    there = with_zeros.any(axis=1)
    np.testing.assert_array_equal(head.labels_[there], alone.labels_)
    np.testing.assert_array_equal(head.predict_proba(rows), alone.predict_proba(rows))
    np.testing.assert_allclose(head.cluster_prior_, alone.cluster_prior_)
    assert len(head.labels_) == 65


@pytest.mark.parametrize("head", ["auto", "kmeans"])
@pytest.mark.parametrize("preprocess", [None, "center,pca=4,whiten,l2"])
def test_results_are_those_without_them(head, preprocess, rows, with_zeros):
    there = with_zeros.any(axis=1)
    alone = fmc.cluster(rows, n_clusters=3, head=head, preprocess=preprocess)
    result = fmc.cluster(with_zeros, n_clusters=3, head=head, preprocess=preprocess)
    np.testing.assert_array_equal(result.proba[there], alone.proba)
    np.testing.assert_allclose(result.confidence[~there], 1 / 3, atol=1e-3)
    np.testing.assert_array_equal(result.predict_proba(with_zeros), result.proba)


def test_clean_does_not_judge_them(rows, with_zeros):
    there = with_zeros.any(axis=1)
    result = fmc.cluster(with_zeros, n_clusters=3, head="kmeans")
    labels = np.array(["a", "b", "c"])[result.labels]
    labels[12] = "a" if labels[12] != "a" else "b"
    labels[~there] = ["a", "b", "c", "a", "b"]  # whatever it is, nothing speaks against it
    for given in (with_zeros, result):
        table = fmc.find_label_issues(given, labels)
        assert table.id.tolist() == [12]
        scores = np.asarray(table.attrs["scores"])
        np.testing.assert_array_equal(np.isnan(scores), ~there)
        assert table.attrs["n_rows"] == 65
    alone = fmc.find_label_issues(rows, labels[there])
    np.testing.assert_array_equal(
        np.asarray(fmc.find_label_issues(with_zeros, labels).attrs["scores"])[there],
        alone.attrs["scores"],
    )


def test_preprocessing_keeps_them_and_takes_no_mean_of_them(rows, with_zeros):
    step = Preprocessor("center,pca=3,whiten").fit(with_zeros)
    alone = Preprocessor("center,pca=3,whiten").fit(rows)
    np.testing.assert_array_equal(step.mean_, alone.mean_)
    view = step.view(with_zeros)
    there = with_zeros.any(axis=1)
    assert not view[:][~there].any()
    assert not view[0].any() and view[1].any()
    np.testing.assert_array_equal(view[:][there], step.apply(rows))


def test_the_graph_among_known_rows_keeps_order_and_names_them(rows, with_zeros):
    there = with_zeros.any(axis=1)
    graph = KNNGraph.build(with_zeros, k=6)
    spaces, among, known = known_rows(as_spaces(with_zeros), graph)
    np.testing.assert_array_equal(known, there)
    np.testing.assert_array_equal(np.asarray(spaces[0]), rows)
    own = KNNGraph.build(rows, k=among.k)
    np.testing.assert_array_equal(among.indices, own.indices)
    np.testing.assert_allclose(among.similarities, own.similarities, atol=1e-6)
    same, given, all_of_them = known_rows(as_spaces(rows), own)
    assert all_of_them is None and given is own and same[0].n_rows == 60


def test_nothing_but_zeros_is_left_as_it_is():
    zeros = np.zeros((5, 3), np.float32)
    assert known_rows(as_spaces(zeros), None)[2] is None
    assert fmc.cluster(zeros, n_clusters="auto").n_clusters == 1


def moved(ids):
    """Ids of rows, once the zeros are among them."""
    there = np.delete(np.arange(65), np.asarray(PLACES) + np.arange(5))
    return there[list(ids)].tolist()


@pytest.mark.parametrize("head", ["auto", "kmeans", "scan", "cdc", "p2ot", "sp2ot"])
def test_they_teach_nothing_where_rows_are_answered_either(head, rows, with_zeros):
    there = with_zeros.any(axis=1)
    known = set(make_head(head).get_params())
    params = {key: value for key, value in SHORT.items() if key in known}
    given = {"n_clusters": 3, "head": head, "head_params": params}
    asked = [0, 1, 2, 7, 11, 30]
    first = fmc.cluster(rows, **given)
    classes = [f"class {first.labels[i]}" for i in asked]
    zero = int(np.flatnonzero(~there)[2])
    told = dict(zip(asked, classes, strict=True))
    labels = dict(zip(moved(asked), classes, strict=True)) | {zero: classes[1]}
    for alone, result in (
        (first.with_answers(told), fmc.cluster(with_zeros, **given).with_answers(labels)),
        (fmc.cluster(rows, **given, labels=told), fmc.cluster(with_zeros, **given, labels=labels)),
    ):
        assert result.names == alone.names
        np.testing.assert_array_equal(result.labels[there], alone.labels)
        np.testing.assert_allclose(result.proba[there], alone.proba, atol=1e-6)
        assert result.names[result.labels[zero]] == classes[1] and result.confidence[zero] == 1
        unsaid = ~there
        unsaid[zero] = False
        np.testing.assert_allclose(result.confidence[unsaid], 1 / 3, atol=1e-3)


def test_a_link_holds_a_row_of_zeros_too(rows, with_zeros):
    zeros = np.flatnonzero(~with_zeros.any(axis=1))
    first = fmc.cluster(with_zeros, n_clusters=3)
    better = first.with_answers(must_link=[[zeros[0], 3], [zeros[1], zeros[2]], [4, 5]])
    np.testing.assert_array_equal(better.proba[zeros[0]], better.proba[3])
    np.testing.assert_allclose(better.confidence[zeros[1:]], 1 / better.n_clusters, atol=1e-3)
    labeled = better.with_answers({3: "this", zeros[2]: "that"})
    assert labeled.names[labeled.labels[zeros[0]]] == "this"
    assert [labeled.names[labeled.labels[z]] for z in zeros[1:3]] == ["that"] * 2
    assert (labeled.confidence[zeros[:3]] == 1).all()
