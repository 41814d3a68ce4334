"""A file that changes while it is embedded is one clear error, not half of each."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

import fmcluster as fmc
from fmcluster.embedding.data.source import Source
from fmcluster.utils.errors import DataError


class Meanwhile:
    """An encoder; somebody changes the data while it encodes its second batch."""

    fingerprint = "meanwhile"

    def __init__(self, change):
        self.change, self.calls = change, 0

    def encode(self, rows):
        self.calls += 1
        if self.calls == 2:
            self.change()
        return np.arange(len(rows) * 4, dtype=np.float32).reshape(-1, 4) + 1


def write_csv(path, word, n=40):
    path.write_text("text\n" + "".join(f"{word} number {i}\n" for i in range(n)))


def write_txt(path, word, n=40):
    path.write_text("".join(f"{word} number {i}\n" for i in range(n)))


def write_jsonl(path, word, n=40):
    path.write_text("".join(f'{{"text": "{word} number {i}"}}\n' for i in range(n)))


def write_parquet(path, word, n=40):
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": [f"{word} number {i}" for i in range(n)]}), path)


WRITERS = {"csv": write_csv, "txt": write_txt, "jsonl": write_jsonl, "parquet": write_parquet}


def in_place(write, path):
    write(path, "later")
    os.utime(path, ns=(1, 1))  # of the same second and size, on a coarse clock


def by_rename(write, path):
    write(path.with_suffix(".new"), "later")
    os.replace(path.with_suffix(".new"), path)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("change", [in_place, by_rename])
def test_a_table_that_changes_is_refused(kind, change, tmp_path, monkeypatch):
    monkeypatch.setattr("fmcluster.embedding.embed.SHARD_ROWS", {"text": 8, "image": 8})
    path = tmp_path / f"data.{kind}"
    WRITERS[kind](path, "early")
    encoder = Meanwhile(lambda: change(WRITERS[kind], path))
    with pytest.raises(DataError, match=rf"data\.{kind}' changed while it was read"):
        fmc.embed(path, encoder=encoder, folder=tmp_path / "store")
    # Started again, the store is of the new rows alone.
    store = fmc.embed(path, encoder=Meanwhile(lambda: None), folder=tmp_path / "again")
    assert len(store) == 40


def photo(path, value):
    Image.new("RGB", (8, 8), (value, value, 0)).save(path)


def test_an_image_that_changes_is_refused_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr("fmcluster.embedding.embed.SHARD_ROWS", {"text": 4, "image": 4})
    for number in range(20):
        photo(tmp_path / f"{number:02d}.png", number)
    encoder = Meanwhile(lambda: photo(tmp_path / "19.png", 200))
    with pytest.raises(DataError, match=r"19\.png' changed while it was read"):
        fmc.embed(tmp_path, encoder=encoder, folder=tmp_path.parent / "store")


def test_what_does_not_change_or_only_before_is_read(tmp_path):
    photo(tmp_path / "a.png", 3)
    source = Source(tmp_path)
    photo(tmp_path / "a.png", 4)  # nothing was fingerprinted yet
    assert source.fingerprint
    (row,) = source
    source.check_unchanged([row])
    photo(tmp_path / "a.png", 5)
    with pytest.raises(DataError, match="changed"):
        source.check_unchanged([row])
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="changed"):
        source.check_unchanged([row])


def test_a_table_that_changes_while_it_is_predicted_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("fmcluster.result.predictor.BLOCK_ROWS", 8)
    path = tmp_path / "data.csv"
    write_csv(path, "early")
    store = fmc.embed(path, encoder=Meanwhile(lambda: None), folder=tmp_path / "store")
    result = fmc.cluster(store, n_clusters=2, head="kmeans", calibrate=False)
    with pytest.raises(DataError, match=r"data\.csv' changed"):
        result.predict(path, encoder=Meanwhile(lambda: by_rename(write_csv, path)))


def test_an_empty_cell_names_no_file_and_not_its_folder(tmp_path):
    for number in range(3):
        Image.new("RGB", (8, 8), (80 * number, 0, 0)).save(tmp_path / f"{number}.png")
    table = tmp_path / "t.csv"
    table.write_text("image,name\n0.png,a\n,b\n2.png,c\n", encoding="utf-8")
    source = Source(str(table), column="image")
    rows = list(source)
    block = source.decode(rows, 0, on_error="skip")
    assert list(block.problems) == [1] and "names no file" in block.problems[1]
    with pytest.raises(DataError, match="row 1: .*names no file"):
        source.decode(rows, 0, on_error="raise")
