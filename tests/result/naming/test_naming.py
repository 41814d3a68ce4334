"""Names come from the texts of a cluster, or from the nearest word of a vocabulary."""

import numpy as np
import pytest
from helpers_text import TOPICS, WordEncoder, topic_texts

import fmcluster as fmc
from fmcluster.cli.main import main
from fmcluster.result.naming import name_by_terms, name_by_vocabulary, with_names


def words_of(names):
    return {word for name in names for word in name.replace(",", " ").split()}


@pytest.fixture
def store(tmp_path):
    return fmc.embed(topic_texts(), encoder=WordEncoder(), folder=tmp_path / "store")


def test_a_clustering_of_texts_names_itself(store):
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    for cluster in result.largest(3):
        assert words_of([cluster.name]) == set(TOPICS[cluster.exemplars(1)[0] % 3].split())


def test_skipped_rows_do_not_shift_the_names(tmp_path):
    texts = topic_texts()
    texts[0] = texts[4] = None
    store = fmc.embed(texts, encoder=WordEncoder(), folder=tmp_path / "s", on_error="skip")
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    assert words_of(result.names) == set(" ".join(TOPICS).split())


def test_arrays_have_no_names_and_reopened_stores_neither(store, blobs):
    assert fmc.cluster(blobs()[0], n_clusters=4, head="kmeans").names is None
    opened = fmc.EmbeddingStore.open(store.folder)
    result = fmc.cluster(opened, n_clusters=3, head="kmeans")
    assert result.names is None
    named = name_by_terms(result, topic_texts())
    assert all(named.names)


def test_labels_given_later_replace_the_terms(store):
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    ids = np.arange(30)
    named = result.calibrate(ids, [TOPICS[i % 3].split()[0] for i in ids])
    assert set(named.names) == {"apple", "football", "stock"}


def test_repeated_and_empty_names_are_made_unique(blobs):
    result = fmc.cluster(blobs()[0], n_clusters=4, head="kmeans")
    assert with_names(result, ["a", "a", "", "b"]).names == ("a", "a (2)", "cluster 2", "b")
    with pytest.raises(ValueError, match="2 names were given for 4 clusters"):
        with_names(result, ["a", "b"])


class Tower:
    """The text tower of a space whose axes are words."""

    words = ("cat", "dog", "car", "tree")

    def encode_text(self, texts):
        offset = np.full(16, 0.3)
        return np.stack([np.eye(16)[self.words.index(t)] + offset for t in texts])


def test_images_take_the_nearest_word_of_a_vocabulary():
    y = np.repeat(np.arange(3), 20)
    X = np.eye(16)[y] + 0.3 + 0.05 * np.random.default_rng(0).normal(size=(60, 16))
    result = fmc.cluster(X.astype(np.float32), n_clusters=3, head="kmeans")
    named = name_by_vocabulary(result, Tower.words, encoder=Tower())
    assert [named.names[label] for label in result.labels[[0, 20, 40]]] == ["cat", "dog", "car"]
    with pytest.raises(ValueError, match="vocabulary is empty"):
        name_by_vocabulary(result, [], encoder=Tower())


def test_a_text_tower_of_another_width_is_refused(blobs):
    result = fmc.cluster(blobs(d=8)[0], n_clusters=4, head="kmeans")
    with pytest.raises(ValueError, match="8 dimensions, the text tower gives 16"):
        name_by_vocabulary(result, Tower.words, encoder=Tower())


def test_the_command_names_clusters_and_shows_examples(tmp_path, capsys):
    (tmp_path / "t.txt").write_text("\n".join(topic_texts()) + "\n")
    argv = ["cluster", tmp_path / "t.txt", "--encoder", "tfidf", "--n-clusters", "3"]
    argv += ["--head", "kmeans", "--out", tmp_path / "run", "--cache-dir", tmp_path / "c"]
    assert main([str(a) for a in argv]) == 0
    loaded = fmc.ClusterResult.load(tmp_path / "run")
    assert {"apple", "football", "stock"} <= words_of(loaded.names)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "apple pie recipe number" in page
