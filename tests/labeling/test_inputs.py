"""The one door of query, propagate and clean: results, stores, arrays."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from fmcluster.labeling.inputs import LabelingInput, unit_source
from fmcluster.vectors.graph import KNNGraph


def test_arrays_become_unit_rows_with_numbers_for_ids():
    subject = LabelingInput.of([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])
    assert np.allclose(subject.rows, [[0.6, 0.8], [0, 1], [1, 0]])
    assert subject.ids.tolist() == [0, 1, 2]
    assert subject.labels is None and subject.n_rows == 3
    assert LabelingInput.of(subject) is subject


def test_half_precision_is_read_as_single():
    rows = unit_source(np.ones((3, 4), np.float16))
    assert rows.dtype == np.float32
    assert np.allclose(rows, 0.5)


def test_a_result_lends_its_ids_graph_and_clusters(blobs):
    x, y = blobs(n=60, k=3)
    graph = KNNGraph.build(x, k=10)
    result = SimpleNamespace(
        labels=y, proba=np.eye(3)[y], embeddings=x, graph=graph, ids=np.arange(60) + 100
    )
    subject = LabelingInput.of(result)
    assert np.array_equal(subject.neighbors(5).indices, graph.indices[:, :5])
    assert subject.neighbors(12).k == 12  # wider than the result's: built
    assert subject.find([159, 100]).tolist() == [59, 0]
    assert subject.confidence is None


def test_two_spaces_are_joined(blobs):
    x, _ = blobs(n=20)
    rows = unit_source([x, x[:, :3]])
    assert rows.shape == (20, x.shape[1] + 3)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_larger_than_memory_rows_stay_where_they_are(blobs, monkeypatch):
    monkeypatch.setattr("fmcluster.labeling.inputs.MEMORY_BYTES", 1)
    x, _ = blobs(n=20)
    rows = unit_source(x)
    assert not isinstance(rows, np.ndarray)
    assert np.allclose(rows[np.array([3, 5])], x[[3, 5]], atol=1e-6)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (np.ones((1, 3)), ValueError, "n_samples=1"),
        (np.ones(5), ValueError, "2-D"),
        (np.array([["a", "b"]]), TypeError, "numeric"),
        (np.array([[1.0, np.inf], [1, 1]]), ValueError, "infinite"),
    ],
)
def test_bad_rows(given, error, message):
    with pytest.raises(error, match=message):
        LabelingInput.of(given)


def test_text_ids_are_found_and_strangers_named():
    subject = LabelingInput(np.eye(3, dtype=np.float32), np.array(["a", "b", "c"]))
    assert subject.find(["c", "a"]).tolist() == [2, 0]
    assert subject.find([]).tolist() == []
    with pytest.raises(ValueError, match="'zebra'"):
        subject.find(["a", "zebra"])
    with pytest.raises(ValueError, match="more than once"):
        subject.find(["a", "a"])
