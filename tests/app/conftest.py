"""A small run that an app works on: 160 rows of four topics, with texts."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from helpers_app import HOSTILE, TOPICS, Run, text_of

import fmcluster as fmc
from fmcluster.result.naming import name_by_terms


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    rng = np.random.default_rng(0)
    y = np.arange(160) % 4
    X = (np.eye(12)[y] + 0.12 * rng.normal(size=(160, 12))).astype(np.float32)
    texts = [f"{TOPICS[c]} {HOSTILE if i == 4 else i}" for i, c in enumerate(y)]
    ids = np.array([f"t{i:03d}" for i in range(160)])
    from fmcluster.embedding.data.source import Source

    store = fmc.embed(Source(X, ids=ids), folder=tmp_path_factory.mktemp("made") / "store")
    result = fmc.cluster(store, n_clusters=4, head="auto")
    result = name_by_terms(result, [TOPICS[c] for c in y])
    folder = tmp_path_factory.mktemp("run") / "run"
    result.save(folder)
    return Run(folder, result, y, texts)


@pytest.fixture
def run(made, tmp_path):
    """A copy of the run, which the test may change."""
    folder = tmp_path / "run"
    shutil.copytree(made.folder, folder)
    return Run(folder, made.result, made.y, made.texts)


@pytest.fixture(scope="session")
def made_of_texts(tmp_path_factory):
    """160 named texts, by an encoder that is saved with the run."""
    from fmcluster.embedding.data.source import Source

    folder = tmp_path_factory.mktemp("texts")
    texts = [text_of(i) for i in range(160)]
    source = Source(texts, ids=[f"t{i:03d}" for i in range(160)])
    store = fmc.embed(source, encoder="tfidf", folder=folder / "store")
    result = fmc.cluster(store, n_clusters=4, head="kmeans")
    result.save(folder / "run")
    return Run(folder / "run", result, np.arange(160) % 4, texts)


@pytest.fixture
def texts_run(made_of_texts, tmp_path):
    """A copy of the run of texts, which the test may change."""
    shutil.copytree(made_of_texts.folder, tmp_path / "texts")
    made = made_of_texts
    return Run(tmp_path / "texts", made.result, made.y, made.texts)
