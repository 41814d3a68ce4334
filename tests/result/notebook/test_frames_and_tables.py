"""`result.table` and `result.frame`: what they say is what the result says, row by row."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

import fmcluster as fmc
from fmcluster.embedding.data.source import Source
from fmcluster.embedding.store.store import EmbeddingStore
from fmcluster.result.notebook.tables import as_frame


@pytest.fixture(scope="module")
def data(blobs):
    return blobs(240, 4, spread=0.3)


@pytest.fixture(scope="module")
def result(data):
    store = EmbeddingStore.from_array(data.x, ids=[f"row-{i}" for i in range(240)])
    return fmc.cluster(store, n_clusters=4, head="kmeans")


def with_texts(result, texts):
    table = {"text": texts, "id": result.ids.tolist()}
    return dataclasses.replace(result, source=Source(pd.DataFrame(table), id_column="id"))


def test_a_table_has_a_row_a_cluster_with_its_own_figures(result):
    found = result.with_pipeline(names=("a", "b", "c", "d")).table()
    assert list(found) == ["cluster", "name", "size", "share", "confidence", "examples"]
    assert found["cluster"].tolist() == [0, 1, 2, 3] and found["name"].tolist() == list("abcd")
    for c in range(4):
        rows = result.labels == c
        assert found["size"][c] == rows.sum()
        assert found["share"][c] == pytest.approx(rows.mean())
        assert found["confidence"][c] == pytest.approx(result.confidence[rows].mean())
        best = result.cluster(c).exemplars(3)
        assert found["examples"][c] == result.ids[best].tolist()


def test_examples_are_the_texts_of_the_same_rows(result, data):
    texts = [f"about {y}\n number {i} " + "x" * 300 for i, y in enumerate(data.y)]
    found = with_texts(result, texts).table(n_examples=2)
    for c, examples in enumerate(found["examples"]):
        rows = result.cluster(c).exemplars(2)
        assert [text[:30] for text in examples] == [" ".join(texts[r].split())[:30] for r in rows]
        assert max(map(len, examples)) == 200
    again = result.table(items=texts)  # a sequence in the order of the rows, as `report` takes it
    assert again["examples"][0][:2] == found["examples"][0]
    pictures = [Image.new("RGB", (4, 4)) for _ in texts]
    assert result.table(items=pictures)["examples"][0][0] == result.ids[result.cluster(0).rows[0]]
    assert result.table(n_examples=0)["examples"].tolist() == [[]] * 4


def test_what_cannot_be_shown_is_said(result):
    with pytest.raises(ValueError, match="3 items were given for 240 rows"):
        result.table(items=["a", "b", "c"])
    with pytest.raises(ValueError, match="n_examples=-1 is negative"):
        result.table(n_examples=-1)
    with pytest.raises(ValueError, match="'excel'"):
        result.frame(kind="excel")


def test_a_frame_has_a_row_a_row(result):
    named = result.with_pipeline(names=("a", "b", "c", "d"))
    found = named.frame()
    columns = ["id", "cluster", "name", "confidence", "next_cluster", "outlier_score"]
    assert list(found) == columns
    assert found["id"].tolist() == result.ids.tolist()
    np.testing.assert_array_equal(found["cluster"], result.labels)
    assert found["name"].tolist() == [("a", "b", "c", "d")[c] for c in result.labels]
    np.testing.assert_array_equal(found["confidence"], result.confidence)
    np.testing.assert_array_equal(found["outlier_score"], result.outlier_score)
    np.testing.assert_array_equal(found["next_cluster"], result.top(2)[0][:, 1])
    arrow = named.frame(kind="arrow")
    assert isinstance(arrow, pa.Table) and arrow.column_names == columns
    assert arrow.to_pydict()["name"] == found["name"].tolist()


def test_answers_are_a_column_and_rows_in_no_cluster_have_no_name(data):
    result = fmc.cluster(data.x, n_clusters=4, random_state=0)
    answered = result.with_answers(labels={3: "three", 7: "seven"})
    found = answered.frame()
    assert found["answer"].dropna().to_dict() == {3: "three", 7: "seven"}
    far = -5 * data.x.mean(axis=0) + np.random.default_rng(0).normal(size=(12, data.x.shape[1]))
    grown = result.update(far)
    assert len(grown.novel)
    found = grown.frame()
    lost = found["cluster"] == -1
    assert lost.sum() == len(grown.novel)
    assert found.loc[lost, "name"].isna().all() and not found.loc[~lost, "name"].isna().any()
    assert (found.loc[lost, "next_cluster"] >= 0).all()
    assert grown.table()["size"].sum() == grown.n_rows - len(grown.novel)


def test_a_result_of_one_cluster_and_one_without_a_graph(data):
    one = fmc.cluster(data.x, n_clusters=1, head="kmeans")
    assert set(one.frame()["next_cluster"]) == {-1}
    bare = dataclasses.replace(one, graph=None)
    assert bare.frame()["outlier_score"].isna().all()
    assert one.table()["share"].tolist() == [1.0]


def test_a_cluster_without_rows_has_no_confidence(result):
    proba = np.hstack([result.proba, np.zeros((240, 1), np.float32)])
    emptied = dataclasses.replace(result, proba=proba)
    found = emptied.table()
    assert found["size"][4] == 0 and np.isnan(found["confidence"][4]) and found["examples"][4] == []


def test_frames_keep_the_order_of_columns_and_missing_values():
    columns = {"b": np.arange(2), "a": ["x", None]}
    assert list(as_frame(columns)) == ["b", "a"]
    assert as_frame(columns)["a"].isna().tolist() == [False, True]
    assert as_frame(columns, "arrow")["a"].null_count == 1
