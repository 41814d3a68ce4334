"""Source: every kind of input gives the same rows, ids and fingerprint; bad input is named."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fmcluster.embedding.data.labels import read_labels
from fmcluster.embedding.data.source import Source
from fmcluster.embedding.data.values import UnreadableRow, kind_of, read_image
from fmcluster.utils.errors import DataError

TEXTS = ["one", "two, with comma", 'three "quoted"', "four\nlines", "fünf", "NA", "null"]


def png(colour=(255, 0, 0), size=(6, 4), kind="PNG", mode="RGB"):
    data = io.BytesIO()
    Image.new(mode, size, colour).save(data, kind)
    return data.getvalue()


def rows_of(source, size=3):
    """Read everything in pieces and decode it."""
    found = []
    for number, raw in source.pieces(size, range(10_000)):
        found += source.decode(raw, number * size).rows
    return found


@pytest.fixture
def forms(tmp_path):
    """The same texts in every form of input."""
    import datasets

    frame = pd.DataFrame({"n": range(len(TEXTS)), "text": TEXTS})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "a.parquet", row_group_size=2)
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    dataset = datasets.Dataset.from_pandas(frame)
    dataset.save_to_disk(str(tmp_path / "saved"))
    parts = tmp_path / "parts"
    parts.mkdir()
    frame[:4].to_parquet(parts / "0.parquet")
    frame[4:].to_parquet(parts / "1.parquet")
    return {
        "list": TEXTS,
        "tuple": tuple(TEXTS),
        "array": np.array(TEXTS),
        "objects": np.array(TEXTS, dtype=object),
        "mapping": {"n": list(range(len(TEXTS))), "text": TEXTS},
        "frame": frame,
        "csv": tmp_path / "a.csv",
        "tsv": str(tmp_path / "a.tsv"),
        "parquet": tmp_path / "a.parquet",
        "jsonl": tmp_path / "a.jsonl",
        "dataset": dataset,
        "torch format": dataset.with_format("torch"),
        "dict": datasets.DatasetDict({"train": dataset}),
        "saved": tmp_path / "saved",
        "parts": parts,
    }


def test_every_form_gives_the_same_rows_and_fingerprint(forms):
    prints = {}
    for name, data in forms.items():
        source = Source(data)
        assert source.modality == "text", name
        assert source.n_rows == len(TEXTS), name
        assert rows_of(source) == TEXTS, name
        assert [rows[1][0] for rows in source.pieces(2, [1, 3])] == [TEXTS[2], TEXTS[6]], name
        assert source.ids(2, 4).tolist() == [2, 3]
        prints[name] = source.fingerprint
    assert len(set(prints.values())) == 1, prints


def test_fingerprint_follows_content_column_order_and_ids(tmp_path):
    base = Source(TEXTS).fingerprint
    frame = pd.DataFrame({"text": TEXTS, "title": TEXTS[::-1]})
    assert Source(frame, column="text").fingerprint == base
    others = [
        Source(frame, column="title"),
        Source(TEXTS[:-1]),
        Source(["oneo", "two, with comma", *TEXTS[2:]]),
        Source(TEXTS, ids=np.arange(1, 8)),
        Source(["onetwo, with comma", "", *TEXTS[2:]]),
    ]
    prints = [source.fingerprint for source in others]
    assert len({base, *prints}) == 6


def test_fingerprint_is_that_of_another_session(tmp_path):
    import subprocess
    import sys

    code = (
        f"from fmcluster.embedding.data.source import Source; print(Source({TEXTS!r}).fingerprint)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert out.stdout.strip() == Source(TEXTS).fingerprint, out.stderr


def test_text_file_is_one_text_a_line(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeffone\r\ntwo\nthrée\n", encoding="utf-8")
    assert rows_of(Source(tmp_path / "a.txt")) == ["one", "two", "thrée"]
    (tmp_path / "b.txt").write_bytes(b"caf\xe9\n")
    assert rows_of(Source(tmp_path / "b.txt")) == ["café"]
    (tmp_path / "c.txt").write_bytes(b"caf\x81\n")
    with pytest.raises(DataError, match="neither UTF-8, UTF-16 nor Windows-1252"):
        Source(tmp_path / "c.txt")


def test_streams_are_read_to_their_end_or_to_the_stated_row(tmp_path):
    import datasets

    stream = datasets.Dataset.from_dict(
        {"text": [f"t{i}" for i in range(100)]}
    ).to_iterable_dataset()
    whole = Source(stream)
    assert whole.is_stream and whole.n_rows is None
    assert rows_of(whole, 40) == [f"t{i}" for i in range(100)]
    stated = Source(stream, n_rows=50)
    assert stated.n_rows == 50 and len(rows_of(stated, 40)) == 50
    assert len(rows_of(stated, 25)) == 50
    assert whole.fingerprint != stated.fingerprint
    assert stated.fingerprint == Source(stream, n_rows=50).fingerprint
    untyped = datasets.IterableDataset.from_generator(lambda: iter([{"text": "x"}, {"text": "y"}]))
    assert rows_of(Source(untyped)) == ["x", "y"]


def test_pieces_pass_over_what_is_not_asked(forms):
    import datasets

    stream = datasets.Dataset.from_dict({"text": TEXTS}).to_iterable_dataset()
    for data in (forms["csv"], forms["jsonl"], forms["parquet"], stream, TEXTS):
        got = list(Source(data).pieces(2, [1, 3]))
        assert got == [(1, TEXTS[2:4]), (3, TEXTS[6:])]


# --- images ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "images"
    for name, colour in (("cats/1.png", (255, 0, 0)), ("dogs/0.png", (0, 0, 255))):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(colour))
    (root / "readme.md").write_text("not an image")
    (root / ".hidden.png").write_bytes(b"")
    return root


def test_folder_of_images_has_paths_for_ids_and_folders_for_labels(folder):
    source = Source(folder)
    assert source.modality == "image" and source.n_rows == 2
    assert source.ids(0, 2).tolist() == ["cats/1.png", "dogs/0.png"]
    assert [image.getpixel((0, 0)) for image in rows_of(source)] == [(255, 0, 0), (0, 0, 255)]
    assert read_labels(folder).tolist() == ["cats", "dogs"]
    assert read_labels(folder, ids=["dogs/0.png"]).tolist() == ["dogs"]
    with pytest.raises(ValueError, match="not among the 2 rows"):
        read_labels(folder, ids=["x.png"])
    before = source.fingerprint
    (folder / "cats/1.png").write_bytes(png((254, 0, 0)))
    assert Source(folder).fingerprint != before


def test_hostile_file_names_do_no_harm(tmp_path):
    names = ["a\nb.png", "<script>alert(1)</script>.png".replace("/", "\u2215"), "..png", "é ü.png"]
    if os.name == "posix":
        names.append(os.fsdecode(b"\xff\xfe.png"))
    for name in names:
        (tmp_path / name).write_bytes(png())
    source = Source(tmp_path)
    assert source.n_rows == len(names) - 1  # "..png" is hidden
    assert len(rows_of(source)) == source.n_rows and len(source.fingerprint) == 32
    np.save(tmp_path / "ids.npy", source.ids(0, source.n_rows))
    assert np.load(tmp_path / "ids.npy").tolist() == source.ids(0, source.n_rows).tolist()


def test_images_come_in_every_form(tmp_path, folder):
    import datasets

    storage = [{"bytes": png((i, 0, 0)), "path": None} for i in range(5)]
    frame = pd.DataFrame({"image": storage, "label": range(5)})
    frame.to_parquet(tmp_path / "a.parquet")
    dataset = datasets.Dataset.from_dict({"image": storage}).cast_column("image", datasets.Image())
    forms = [
        frame,
        tmp_path / "a.parquet",
        dataset,
        dataset.to_iterable_dataset(),
        [row["bytes"] for row in storage],
        [Image.open(io.BytesIO(row["bytes"])) for row in storage],
        np.stack([np.asarray(Image.open(io.BytesIO(row["bytes"]))) for row in storage]),
    ]
    for data in forms:
        source = Source(data)
        assert source.modality == "image"
        found = rows_of(source)
        assert [image.getpixel((0, 0)) for image in found] == [(i, 0, 0) for i in range(5)]
        assert {image.mode for image in found} == {"RGB"} and found[0].size == (6, 4)
    prints = {Source(data).fingerprint for data in (frame, tmp_path / "a.parquet", dataset)}
    assert len(prints) == 1
    grey = Source(np.zeros((3, 8, 8), np.uint8))
    assert grey.modality == "image" and rows_of(grey)[0].mode == "RGB"


def test_images_opened_by_name_are_not_loaded_into_the_list(folder):
    lazy = [Image.open(folder / name) for name in ("cats/1.png", "dogs/0.png")]
    source = Source(lazy)
    before = source.fingerprint
    assert [image.getpixel((0, 0)) for image in rows_of(source)] == [(255, 0, 0), (0, 0, 255)]
    assert all(image.fp is not None for image in lazy), "the pixels of a list stay unread"
    for image in lazy:
        image.load()
    assert Source(lazy).fingerprint == before


def test_strings_that_name_images_are_paths(folder, tmp_path):
    paths = [str(folder / "cats/1.png"), str(folder / "dogs/0.png")]
    assert Source(paths).modality == "image" and len(rows_of(Source(paths))) == 2
    assert Source([Path(p) for p in paths]).modality == "image"
    pd.DataFrame({"file": ["cats/1.png", "dogs/0.png"]}).to_csv(folder / "index.csv", index=False)
    source = Source(folder / "index.csv")
    assert source.modality == "image" and len(rows_of(source)) == 2
    assert Source(["a photo.png of a cat"]).modality == "text"
    forced = Source([str(tmp_path / "gone.png")], modality="image")
    with pytest.raises(DataError, match="cannot be read"):
        rows_of(forced)


def test_orientation_depth_and_alpha():
    upright = Image.new("RGB", (8, 4))
    exif = upright.getexif()
    exif[0x0112] = 6
    data = io.BytesIO()
    upright.save(data, "JPEG", exif=exif)
    assert read_image(data.getvalue()).size == (4, 8)
    deep = Image.fromarray(np.full((2, 2), 32768, np.uint16))
    assert read_image(deep).getpixel((0, 0)) == (128, 128, 128)
    assert read_image(png((9, 8, 7, 0), mode="RGBA")).getpixel((0, 0)) == (255, 255, 255)
    assert read_image(png(200, mode="L", kind="GIF")).mode == "RGB"


def test_decompression_bombs_are_refused_before_they_are_decoded(monkeypatch):
    bomb = png(0, size=(300, 300), mode="1")
    for limit, says in ((80_000, "300 x 300 pixels"), (10_000, "decompression bomb")):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with (
            pytest.raises(UnreadableRow, match=says),
            pytest.warns() if limit > 45_000 else _none(),
        ):
            read_image(bomb)


def _none():
    import contextlib

    return contextlib.nullcontext()


# --- rows that cannot be read ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (["a", "", "c"], "the text is empty"),
        (["a", " \n\t", "c"], "the text is empty"),
        (["a", None, "c"], "the text is missing"),
        (["a", float("nan"), "c"], "the text is missing"),
        ([png(), b"\x89PNG garbage", png()], "the image cannot be read"),
        ([png(), png(size=(90, 90))[:60], png()], "the image cannot be read"),
        ([png(), b"", png()], "the image cannot be read"),
        ([png(), {"bytes": None, "path": None}, png()], "the image is missing"),
    ],
)
def test_policy_for_unreadable_rows(data, reason):
    source = Source(data, ids=["x", "y", "z"])
    with pytest.raises(DataError, match=f"row 'y': {reason}.*on_error='skip'"):
        source.decode(data, 0, on_error="raise")
    block = source.decode(data, 0, on_error="skip")
    assert list(block.problems) == [1] and reason in block.problems[1]
    assert block.rows[1] is None and block.rows[0] is not None and block.rows[2] is not None
    assert block.ids.tolist() == ["x", "y", "z"]
    assert len(source.fingerprint) == 32


def test_mixed_modalities_name_the_first_offending_row():
    for data in (["a", "b", png()], ["a", "b", Image.new("RGB", (2, 2))]):
        with pytest.raises(DataError, match="row 2 is of modality 'image' among rows of 'text'"):
            _ = Source(data).fingerprint
        with pytest.raises(DataError, match="row 2 is of modality 'image'"):
            rows_of(Source(data))
    with pytest.raises(DataError, match="row 1 is of modality 'text' among rows of 'image'"):
        _ = Source([png(), "a"]).fingerprint
    with pytest.raises(DataError, match="row 1: a row of type int"):
        _ = Source(["a", 3]).fingerprint


# --- bad input, one line each ---


def test_no_such_column_lists_the_columns(forms):
    for name in ("frame", "csv", "parquet", "jsonl", "dataset", "mapping"):
        with pytest.raises(DataError, match="no column 'words': the data has n, text"):
            Source(forms[name], column="words")


def test_several_columns_have_to_be_named():
    frame = pd.DataFrame({"question": ["a"], "answer": ["b"]})
    with pytest.raises(DataError, match="name it by column=; the data has question, answer"):
        Source(frame)
    assert Source(frame, column="answer").column == "answer"
    assert Source(frame.assign(text=["c"])).column == "text"


def test_splits_have_to_be_known():
    import datasets

    both = datasets.DatasetDict(
        {name: datasets.Dataset.from_dict({"text": [name]}) for name in ("train", "test")}
    )
    assert rows_of(Source(both, split="test")) == ["test"]
    with pytest.raises(DataError, match="which split.*train, test"):
        Source(both)
    with pytest.raises(DataError, match="no split 'dev'; the data has train, test"):
        Source(both, split="dev")


def test_empty_and_unknown_inputs(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "head.csv").write_text("text\n")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "nothing").mkdir()
    for data in ([], np.zeros((0, 3)), tmp_path / "empty.txt", tmp_path / "head.csv"):
        with pytest.raises(DataError, match="the data is empty: no rows"):
            Source(data)
    with pytest.raises(DataError, match="is empty: it has no rows"):
        Source(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match="not a readable table"):
        Source(tmp_path / "empty.csv")
    with pytest.raises(DataError, match="every row of the data is missing"):
        Source([None, None])
    with pytest.raises(DataError, match="is empty of data: it has no image"):
        Source(tmp_path / "nothing")
    with pytest.raises(DataError, match="no such file or folder.*a list of one text"):
        Source("a single text")
    (tmp_path / "a.docx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"unknown type '.docx': known are .parquet, .csv"):
        Source(tmp_path / "a.docx")
    with pytest.raises(DataError, match="data of type int is not known"):
        Source(3)


def test_broken_files_are_named(tmp_path):
    for name, content, says in (
        ("a.parquet", b"PAR1 no", "not a readable Parquet file"),
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', "line 2 of .* is not JSON"),
        ("b.jsonl", b"[1]\n", "line 1 of .* is no JSON object"),
        ("a.npy", b"\x93NUMPY\x01", "not a readable numpy file"),
        ("a.npz", b"PK\x03\x04", "not a readable numpy file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=says):
            _ = Source(tmp_path / name).fingerprint


def test_ids_are_checked():
    with pytest.raises(DataError, match="1 row id.* occur more than once, the first is 'a'"):
        Source(TEXTS[:3], ids=["a", "b", "a"])
    with pytest.raises(DataError, match="must be equal"):
        Source(TEXTS, ids=[1, 2]).ids(0, 7)
    frame = pd.DataFrame({"text": TEXTS, "key": [f"k{i}" for i in range(7)]})
    assert Source(frame, column="text", id_column="key").ids(5, 7).tolist() == ["k5", "k6"]
    with pytest.raises(DataError, match="not both"):
        Source(frame, column="text", id_column="key", ids=range(7))


# --- vectors and labels ---


def test_vectors_are_taken_as_they_are(tmp_path):
    import datasets

    X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "x.npz", x=X, y=np.arange(20))
    np.savez(tmp_path / "two.npz", a=X, b=X)
    ds = datasets.Dataset.from_dict({"v": X.tolist(), "label": range(20)})
    ds.to_parquet(str(tmp_path / "x.parquet"))
    for data in (X, X.tolist(), list(X), tmp_path / "x.npy", tmp_path / "x.npz", ds):
        source = Source(data)
        assert source.modality == "embedding"
        assert np.array_equal(source.vectors(), X) and source.n_rows == 20
    assert np.array_equal(Source(tmp_path / "x.parquet").vectors(), X)
    assert isinstance(Source(tmp_path / "x.npy").vectors(), np.memmap)
    with pytest.raises(DataError, match="which array.*a, b"):
        Source(tmp_path / "two.npz")
    assert Source(tmp_path / "two.npz", column="b").vectors().shape == (20, 3)
    with pytest.raises(DataError, match="vectors of one length"):
        Source([[1.0, 2.0], [3.0]]).vectors()
    with pytest.raises(DataError, match="modality 'text'"):
        Source(TEXTS).vectors()


def test_labels_are_read_from_every_table(tmp_path, forms):
    for name in ("frame", "csv", "tsv", "parquet", "jsonl", "dataset", "mapping", "dict", "parts"):
        labels = read_labels(forms[name], "n")
        assert labels.tolist() == list(range(7)) and labels.dtype.kind == "i", name
    assert read_labels(forms["frame"], "n", ids=[6, 2]).tolist() == [6, 2]
    np.save(tmp_path / "y.npy", np.arange(3))
    assert read_labels(tmp_path / "y.npy").tolist() == [0, 1, 2]
    assert read_labels([4, 5]).tolist() == [4, 5]
    with pytest.raises(DataError, match="no column 'class'"):
        read_labels(forms["csv"], "class")
    with pytest.raises(DataError, match="which column"):
        read_labels(forms["frame"])
    with pytest.raises(DataError, match="1 label.* missing, the first in row 1"):
        read_labels(pd.DataFrame({"y": ["a", None]}), "y")
    with pytest.raises(ValueError, match="not among the 7 rows: 9"):
        read_labels(forms["frame"], "n", ids=[0, 9])
    with pytest.raises(ValueError, match="more than once"):
        read_labels(forms["frame"], "n", ids=[1, 1])
    tickets = pd.DataFrame({"text": TEXTS[:4], "ticket": [3, 1, 0, 2], "y": ["d", "b", "a", "c"]})
    assert read_labels(tickets, "y", ids=[0, 3], id_column="ticket").tolist() == ["a", "d"]
    with pytest.raises(DataError, match="no column 'number'"):
        read_labels(tickets, "y", ids=[0], id_column="number")


def test_kinds_of_rows():
    assert kind_of(None) is None and kind_of(pd.NA) is None and kind_of(np.nan) is None
    assert kind_of("a") == "text" and kind_of("a", strings_are_paths=True) == "image"
    assert kind_of([0.5, 1]) == "embedding" and kind_of(np.zeros((4, 4), np.uint8)) == "image"
    with pytest.raises(DataError, match="type dict"):
        kind_of({"a": 1})


def test_reading_is_lazy(tmp_path):
    """A list-like of a million rows is asked for slices, never for the whole."""

    class Counting(list):
        largest = 0

        def __getitem__(self, key):
            if isinstance(key, slice):
                Counting.largest = max(Counting.largest, key.stop - key.start)
            return super().__getitem__(key)

    source = Source(Counting(["text"] * 50_000))
    assert source.n_rows == 50_000 and source.fingerprint
    assert len(next(source.pieces(1000, [40]))[1]) == 1000
    assert Counting.largest <= 256


@pytest.mark.realdata
def test_real_parquet_of_texts_and_images(shared_dir):
    texts = Source(shared_dir / "data" / "stackoverflow.parquet")
    assert (texts.modality, texts.n_rows, texts.column) == ("text", 20_000, "text")
    images = Source(shared_dir / "data" / "cifar10_test.parquet")
    number, raw = next(images.pieces(500, [19]))
    block = images.decode(raw, 9500)
    assert number == 19 and len(block.rows) == 500 and block.rows[0].size == (32, 32)
    names = json.loads((shared_dir / "data" / "cifar10.names.json").read_text())
    labels = read_labels(shared_dir / "data" / "cifar10_test.parquet", "label")
    assert len(np.unique(labels)) == 10 == len(names)


def test_pictures_that_differ_only_in_how_they_look_have_fingerprints_of_their_own():
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([1, 2, 3])
    other = palette.copy()
    other.putpalette([3, 2, 1])
    clear = palette.copy()
    clear.info["transparency"] = 0
    turned = Image.new("RGB", (2, 2))
    turned.getexif()[0x0112] = 6
    pictures = [palette, other, clear, turned, Image.new("RGB", (2, 2))]
    prints = [Source([picture]).fingerprint for picture in pictures]
    assert len(set(prints)) == 5
    assert Source([palette.copy()]).fingerprint == prints[0]


def test_ids_come_from_the_same_opened_input(tmp_path, monkeypatch):
    from fmcluster.embedding.data import source as module

    frame = pd.DataFrame({"text": TEXTS, "key": [f"k{i}" for i in range(7)]})
    frame.to_parquet(tmp_path / "a.parquet")
    opened = []
    real = module.open_reader
    monkeypatch.setattr(module, "open_reader", lambda *a, **k: opened.append(a) or real(*a, **k))
    source = Source(tmp_path / "a.parquet", id_column="key")
    assert source.ids(5, 7).tolist() == ["k5", "k6"] and len(opened) == 1
    with pytest.raises(DataError, match="1 row id.* missing, the first in row 1"):
        Source(pd.DataFrame({"text": ["a", "b"], "key": ["x", None]}), id_column="key")
    with pytest.raises(DataError, match="no column 'id': the data has no columns"):
        Source(TEXTS, id_column="id")


def test_labels_that_are_no_single_values_are_refused():
    for column in ([["a"], ["b"]], [["a", "b"], ["c"]]):
        with pytest.raises(DataError, match="row 0 holds .* of type list"):
            read_labels({"text": ["x", "y"], "y": column}, "y")
    with pytest.raises(DataError, match="1 label.* missing, the first in row 1"):
        read_labels(["a", pd.NA])


def test_a_numeric_frame_is_a_table_of_vectors():
    frame = pd.DataFrame(np.arange(6.0).reshape(3, 2))
    assert Source(frame).modality == "embedding"
    assert Source(frame).vectors().tolist() == frame.to_numpy().tolist()
