"""What version 0.1 saved, before the modules moved, loads and answers as it did then."""

from pathlib import Path

import numpy as np
import pytest

import fmcluster as fmc

SAVED = Path(__file__).parent / "saved_0_1"
X = np.load(SAVED / "X.npy")
TEXTS = [f"{word} number {i}" for i in range(24) for word in ("invoice", "parcel")]


def test_a_result_loads_with_its_labels_and_predicts_the_same():
    result = fmc.ClusterResult.load(SAVED / "result")
    expected = np.load(SAVED / "proba.npy")
    assert np.allclose(result.predict_proba(X), expected, atol=1e-6)
    assert (result.labels == expected.argmax(axis=1)).all()
    assert sorted(result.names) == ["0", "1", "2"]
    assert result.head.name == "kmeans" and result.preprocessors[0].steps == "pca=4,l2"
    assert result.calibrator.n_labels == 12 and result.graph.n_rows == 48


@pytest.mark.parametrize("folder", ["head", "head_auto"])
def test_a_head_loads(folder):
    head = fmc.load_head(SAVED / folder)
    assert np.allclose(head.predict_proba(X), np.load(SAVED / f"{folder}_proba.npy"), atol=1e-6)


def test_a_store_opens_and_a_pipeline_encodes_texts_with_its_own_state():
    store = fmc.EmbeddingStore.open(SAVED / "store")
    assert len(store.ids) == 48 and list(store.spaces) == ["tfidf"]
    pipeline = fmc.from_pretrained(SAVED / "pipeline")
    expected = np.load(SAVED / "pipeline_proba.npy")
    assert np.allclose(pipeline.predict_proba(TEXTS), expected, atol=1e-5)
    assert (pipeline.predict(store) == expected.argmax(axis=1)).all()  # rows in two bytes
