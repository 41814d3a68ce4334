"""Nasty files through `embed`, by Python and by command line: one table of what each gives."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pandas as pd
import pytest
from corpus_of import corpus

import fmcluster as fmc
from fmcluster.cli.main import main
from fmcluster.embedding import encoders
from fmcluster.embedding.data.labels import read_labels
from fmcluster.utils.errors import DataError

posix = pytest.mark.skipif(os.name != "posix", reason="links, pipes and byte names")
LINES = ["naïve", "cañón"]
CELLS = ["a, b", "c", "d; e"]

# file, arguments of embed -> the texts (or number of images), the ids; or the error's words.
CASES = {
    "utf-8": ("texts/utf8.txt", {}, LINES, [0, 1]),
    "utf-8 with its mark": ("texts/bom.txt", {}, LINES, [0, 1]),
    "utf-16": ("texts/utf16.txt", {}, LINES, [0, 1]),
    "utf-16 without its mark": ("texts/utf16le.txt", {}, LINES, [0, 1]),
    "windows-1252": ("texts/cp1252.txt", {}, LINES, [0, 1]),
    "no encoding": ("texts/none.txt", {}, "neither UTF-8, UTF-16 nor Windows-1252", None),
    "half a character": ("texts/surrogate.jsonl", {}, "row 1: the text holds half a char", None),
    "half skipped": ("texts/surrogate.jsonl", {"on_error": "skip"}, ["a", "b"], [0, 2]),
    **{
        f"table {name}": (
            f"tables/{name}",
            {"id_column": "id"},
            CELLS,
            ["01", "1", "00000"],
        )
        for name in ("comma.csv", "semicolon.csv", "tab.csv", "tab.tsv", "bar.csv")
    },
    "excel": ("tables/excel.csv", {"id_column": "id"}, ["a, b", "c", "d"], ["01", "1", "00000"]),
    "windows csv": ("tables/cp1252.csv", {}, ["café"], [0]),
    "trailing comma": ("tables/more.csv", {}, "line 3 of .* has 3 fields, its header has 2", None),
    "short row": ("tables/fewer.csv", {}, "line 3 of .* has 1 fields, its header has 2", None),
    "bare comma": ("tables/unquoted.csv", {}, "line 3 .*double quotes", None),
    "open quote": ("tables/unclosed.csv", {}, "line 3 .* opens a double quote", None),
    "long text": ("tables/long.csv", {}, ["x" * 200_000], [0]),
    "lines in a cell": ("tables/lines.csv", {}, ["two\nlines", "last"], [0, 1]),
    "written vectors": ("tables/vectors.csv", {"column": "v"}, "vectors written out", None),
    "uint64 ids": (
        "tables/hash.parquet",
        {"id_column": "id"},
        ["a", "b", "c"],
        ["9223372036854775809", "5", "18446744073709551615"],
    ),
    "split train": (
        "tables/split",
        {"split": "train"},
        ["train-00000-of-00002", "train-00001-of-00002"],
        [0, 1],
    ),
    "split test": ("tables/split", {"split": "test"}, ["test-00000-of-00001"], [0]),
    "no split": ("tables/split", {"split": "dev"}, "no split 'dev'.*test, train", None),
    "two schemas": ("tables/two", {}, r"a\.parquet and missing in .*b\.parquet", None),
    "jpeg names": (
        "images/folder",
        {},
        4,
        ["a.jpg", "b.jfif", "d.JPG", "sub/c.jpe"],
    ),
    "linked folder": (
        "images/linked",
        {},
        4,
        ["photos/a.jpg", "photos/b.jfif", "photos/d.JPG", "photos/sub/c.jpe"],
    ),
    "pipes, devices, scripts": ("images/odd", {"on_error": "skip"}, 1, ["good.png"]),
    "a pipe": ("images/odd", {}, "row 'pipe.png': the image cannot be read.*regular file", None),
    "bytes in a name": ("images/named", {}, 1, ["caf\\xe9.png"]),
    "csv of paths": ("images/lists/index.csv", {"on_error": "skip"}, 1, [1]),
    "one path missing": ("images/lists/index.csv", {}, "row 0: the image cannot be read", None),
    "no path there": ("images/lists/lost.csv", {}, "no such file is there", None),
    "path that climbs": ("images/up.parquet", {}, r"outside its data's own folder", None),
    "path that climbs, skipped": ("images/up.parquet", {"on_error": "skip"}, 1, [0]),
    "absolute path": ("images/absolute.parquet", {}, "outside its data's own folder", None),
}
NEEDS_POSIX = {"linked folder", "pipes, devices, scripts", "a pipe", "bytes in a name"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return corpus.make(tmp_path_factory.mktemp("corpus") / "files")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FMCLUSTER_CACHE", str(tmp_path / "cache"))


def embed(data, **options):
    images = str(data).find("images") >= 0
    encoder = corpus.ImageEncoder() if images else corpus.TextEncoder()
    return fmc.embed(data, encoder=encoder, dtype="float32", **options)


@pytest.mark.parametrize("name", CASES)
def test_every_file_gives_its_rows_or_says_why_not(root, name):
    file, options, expected, ids = CASES[name]
    if name in NEEDS_POSIX and os.name != "posix":
        pytest.skip("links, pipes and byte names")
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected) as caught:
            embed(root / file, **options)
        assert "\n" not in str(caught.value)
        return
    store = embed(root / file, **options)
    assert store.ids.tolist() == ids
    if isinstance(expected, int):
        assert len(store) == expected
    else:
        wanted = corpus.TextEncoder().encode(expected).astype(np.float32)
        np.testing.assert_array_equal(np.asarray(store), wanted)


@pytest.mark.parametrize("name", CASES)
def test_the_command_line_gives_the_same_or_says_the_same(
    root, name, tmp_path, monkeypatch, capsys
):
    file, options, expected, ids = CASES[name]
    if name in NEEDS_POSIX and os.name != "posix":
        pytest.skip("links, pipes and byte names")
    encoder = corpus.ImageEncoder() if "images" in file else corpus.TextEncoder()
    monkeypatch.setattr(
        encoders,
        "_from_name",
        lambda name, extra, modality, *_: encoders._from_object(encoder, modality),
    )
    words = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    folder = tmp_path / "store"
    code = main(["embed", str(root / file), *words, "--encoder", "x", "--dtype", "float32",
                 "--out", str(folder), "--json", "--quiet"])  # fmt: skip
    out, said = capsys.readouterr()
    if isinstance(expected, str):
        assert code == 2 and out == ""
        assert re.search(f"^error: .*{expected}", said), said
        return
    assert code == 0, said
    store = fmc.EmbeddingStore.open(folder)
    assert store.ids.tolist() == ids and json.loads(out)["rows"] == len(ids)
    np.testing.assert_array_equal(np.asarray(store), np.asarray(embed(root / file, **options)))


@pytest.mark.parametrize("mode", corpus.modes())
def test_every_mode_of_image_is_seen_in_its_own_color(mode):
    image, color = corpus.modes()[mode]
    encoder = corpus.ImageEncoder()
    for data in ([image], [np.asarray(image)] if mode == "RGB" else [image]):
        store = fmc.embed(data, encoder=encoder, dtype="float32", modality="image")
        np.testing.assert_allclose(np.asarray(store)[0], color, atol=0.6)


def test_labels_are_what_is_written(root):
    for name in ("comma.csv", "semicolon.csv", "bar.csv"):
        assert read_labels(root / "tables" / name, "label").tolist() == ["x", "NA", "x"]
        assert read_labels(root / "tables" / name, "id").tolist() == ["01", "1", "00000"]


@posix
def test_left_out_files_and_loops_are_said(root, caplog):
    embed(root / "images/folder")
    said = caplog.text
    assert "1 file(s)" in said and "notes.md" in said and ".md (1)" in said
    assert "link back to a folder" in said


def frames():
    import pyarrow as pa

    texts = ["a", "b"]
    return {
        "integer names": pd.DataFrame({0: texts, 1: [1, 2]}),
        "float names": pd.DataFrame({0.5: texts, 1.5: [1, 2]}),
        "arrow": pa.table({"text": texts, "n": [1, 2]}),
        "arrow batch": pa.record_batch({"text": texts, "n": [1, 2]}),
        "arrow array": pa.array(texts),
    }


@pytest.mark.parametrize("name", frames())
def test_frames_and_tables_of_texts(name):
    store = embed(frames()[name])
    assert np.array_equal(
        np.asarray(store), corpus.TextEncoder().encode(["a", "b"]).astype(np.float32)
    )


@pytest.mark.parametrize(("suffix", "kind"), [("avif", "AVIF"), ("heic", "HEIF"), ("webp", "WEBP")])
def test_newer_formats_are_read_where_pillow_can(suffix, kind, tmp_path):
    from PIL import Image

    from fmcluster.embedding.data.images import readable_formats

    Image.init()
    if kind not in readable_formats() or kind not in Image.SAVE:
        pytest.skip(f"Pillow here does not read and write {kind}")
    (tmp_path / f"a.{suffix}").write_bytes(corpus.encoded(corpus.plain(), kind, quality=95))
    store = fmc.embed(tmp_path, encoder=corpus.ImageEncoder(), dtype="float32")
    assert store.ids.tolist() == [f"a.{suffix}"]
    np.testing.assert_allclose(np.asarray(store)[0], [255, 0, 0], atol=6)
