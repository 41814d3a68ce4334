"""Datasets go in and come back: splits, streams, images, columns of vectors, the datasets cache."""

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Image, IterableDataset
from helpers_text import WordEncoder, topic_texts
from PIL import Image as Picture

import fmcluster as fmc
from fmcluster.utils.errors import DataError


class Counting(WordEncoder):
    """Says how many rows were encoded."""

    def __init__(self, salt=""):
        super().__init__(salt)
        self.rows = 0

    def encode(self, rows):
        self.rows += len(rows)
        return super().encode(rows)


class Colours:
    modality = "image"
    fingerprint = "colours-1"

    def encode(self, rows):
        assert all(isinstance(row, Picture.Image) for row in rows)
        return np.stack([np.asarray(row.resize((2, 2)), np.float32).reshape(-1) for row in rows])


@pytest.fixture
def ds():
    return Dataset.from_dict({"text": topic_texts(), "label": [i % 3 for i in range(90)]})


@pytest.fixture
def pictures():
    draw = np.random.default_rng(0)
    rows = [
        Picture.fromarray((draw.integers(0, 50, (6, 6, 3)) + 200 * np.eye(3)[i % 3]).astype("u1"))
        for i in range(60)
    ]
    return Dataset.from_dict({"img": rows}).cast_column("img", Image())


def test_a_dataset_goes_round(ds, tmp_path):
    store = fmc.embed(ds, encoder=WordEncoder(), column="text", cache_dir=tmp_path)
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    out = result.to_dataset(ds)
    assert out.column_names == ["text", "label", "cluster", "confidence"]
    assert isinstance(out.features["cluster"], ClassLabel)
    assert out.features["cluster"].names == list(result.names)
    assert out["cluster"][:] == result.labels.tolist()
    np.testing.assert_allclose(out["confidence"][:], result.confidence, rtol=1e-6)
    assert out["text"][:] == ds["text"][:]


def test_a_shuffled_and_filtered_dataset_embeds_its_own_rows(ds, tmp_path):
    part = ds.shuffle(seed=1).filter(lambda row: row["label"] < 2)
    store = fmc.embed(part, encoder=WordEncoder(), column="text", cache_dir=tmp_path)
    expected = WordEncoder().encode(part["text"][:])
    np.testing.assert_allclose(np.asarray(store), expected, atol=2e-2)


def test_a_split_is_chosen_by_name(ds, tmp_path):
    both = DatasetDict({"train": ds, "test": ds.select(range(30))})
    options = {"encoder": WordEncoder(), "column": "text", "cache_dir": tmp_path}
    assert len(fmc.embed(both, split="test", **options)) == 30
    assert len(fmc.embed(both, split="train", **options)) == 90
    with pytest.raises(DataError, match="train"):
        fmc.embed(both, split="validation", **options)


def stream(count=90):
    return IterableDataset.from_generator(lambda: ({"text": text} for text in topic_texts(count)))


def test_a_stream_is_read_to_its_end(tmp_path):
    store = fmc.embed(stream(), encoder=WordEncoder(), column="text", folder=tmp_path / "s")
    np.testing.assert_allclose(np.asarray(store), WordEncoder().encode(topic_texts()), atol=2e-2)


def test_a_stream_of_a_stated_length_stops_there(tmp_path):
    encoder = Counting()
    store = fmc.embed(stream(), encoder=encoder, column="text", folder=tmp_path / "s", n_rows=40)
    assert len(store) == 40
    assert encoder.rows == 40
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    assert result.evaluate(np.arange(40) % 3)["acc"] == 1.0


def test_image_columns_are_decoded(pictures, tmp_path):
    store = fmc.embed(pictures, encoder=Colours(), column="img", cache_dir=tmp_path)
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    assert result.evaluate(np.arange(60) % 3)["acc"] == 1.0
    out = result.to_dataset(pictures)
    assert isinstance(out.features["img"], Image)
    page = result.report(tmp_path / "r.html").read_text()
    assert "data:image/jpeg" in page


def test_the_only_text_column_is_found_and_others_are_listed(ds, tmp_path):
    assert len(fmc.embed(ds, encoder=WordEncoder(), cache_dir=tmp_path)) == 90
    with pytest.raises(DataError, match="label"):
        fmc.embed(ds, encoder=WordEncoder(), column="words", cache_dir=tmp_path)


def test_the_same_call_finds_the_store(ds, tmp_path):
    encoder = Counting()
    options = {"encoder": encoder, "column": "text", "cache_dir": tmp_path}
    first = fmc.embed(ds, **options)
    assert encoder.rows == 90
    assert fmc.embed(ds.select(range(90)), **options).folder == first.folder
    assert encoder.rows == 90


def test_a_store_becomes_a_dataset_and_comes_back(ds, tmp_path):
    store = fmc.embed(ds, encoder=WordEncoder(), column="text", cache_dir=tmp_path)
    table = store.to_dataset()
    assert table.column_names == ["id", *store.spaces]
    back = fmc.EmbeddingStore.from_dataset(table, store.spaces[0], id_column="id")
    np.testing.assert_array_equal(np.asarray(back), np.asarray(store))
    a = fmc.cluster(store, n_clusters=3, head="kmeans", calibrate=False)
    b = fmc.cluster(back, n_clusters=3, head="kmeans", calibrate=False)
    np.testing.assert_array_equal(a.labels, b.labels)


# -- a column of embeddings -------------------------------------------------------------------


@pytest.fixture
def on_disk(ds, tmp_path):
    """A dataset with cache files, as the Hub gives."""
    ds.save_to_disk(tmp_path / "ds")
    return datasets.load_from_disk(tmp_path / "ds")


def test_map_embed_adds_the_encoders_own_vectors(ds):
    out = fmc.map_embed(ds, encoder=WordEncoder(), column="text", rows_at_once=32)
    assert out.column_names == ["text", "label", "embedding"]
    np.testing.assert_allclose(
        np.asarray(out["embedding"][:], np.float32), WordEncoder().encode(topic_texts()), rtol=1e-5
    )
    store = fmc.EmbeddingStore.from_dataset(out, "embedding")
    assert store.shape == (90, 32)


def test_the_datasets_cache_serves_the_same_call(on_disk):
    first, again, other = Counting(), Counting(), Counting("salt")
    a = fmc.map_embed(on_disk, encoder=first, column="text")
    b = fmc.map_embed(on_disk, encoder=again, column="text")
    assert (first.rows, again.rows) == (90, 0)
    assert a._fingerprint == b._fingerprint
    c = fmc.map_embed(on_disk, encoder=other, column="text")
    assert other.rows == 90
    assert c._fingerprint != a._fingerprint
    third = Counting()
    fmc.map_embed(on_disk.select(range(10)), encoder=third, column="text")
    assert third.rows == 10


def test_the_function_hashes_by_its_encoder_and_not_by_its_weights():
    from datasets.fingerprint import Hasher

    def function(**options):
        return fmc.EmbedFunction("packaged:minilm", column="text", **options)

    one, two = function(), function()
    before = Hasher.hash(one)
    assert before == Hasher.hash(two)
    one({"text": ["a cat"]})
    assert Hasher.hash(one) == before
    assert Hasher.hash(function(output="v")) != before


def test_the_function_works_in_map_and_after_a_trip(ds):
    import pickle

    function = fmc.EmbedFunction("packaged:minilm", column="text", output="v")
    few = ds.select(range(3))
    here = np.asarray(few.map(function, batched=True)["v"][:], np.float32)
    there = pickle.loads(pickle.dumps(function))({"text": few["text"][:]})["v"]
    np.testing.assert_array_equal(here, np.stack(there))
    store = fmc.embed(few["text"][:], encoder="packaged:minilm", dtype="float32")
    np.testing.assert_allclose(here, np.asarray(store), atol=1e-6)


def test_map_embed_takes_splits_streams_and_images(ds, pictures):
    both = fmc.map_embed(
        DatasetDict({"a": ds, "b": ds.select(range(5))}), encoder=WordEncoder(), column="text"
    )
    assert {name: part.num_rows for name, part in both.items()} == {"a": 90, "b": 5}
    rows = list(fmc.map_embed(stream(8), encoder=WordEncoder(), column="text", rows_at_once=3))
    assert len(rows) == 8
    assert len(rows[0]["embedding"]) == 32
    out = fmc.map_embed(pictures, encoder=Colours(), column="img")
    assert len(out[0]["embedding"]) == 12


def test_map_embed_says_what_it_cannot_do(ds):
    with pytest.raises(DataError, match="no column 'words'"):
        fmc.map_embed(ds, encoder=WordEncoder(), column="words")
    with pytest.raises(DataError, match="must see all rows"):
        fmc.map_embed(ds, encoder="tfidf", column="text")
