"""Tables of Lance and LanceDB: vectors, texts, images; from objects and folders; damaged, too."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import fmcluster as fmc
from fmcluster.embedding.data.files.lance import is_lance
from fmcluster.embedding.data.source import Source
from fmcluster.utils.errors import DataError

lance = pytest.importorskip("lance")
TEXTS = [f"row {n}" for n in range(500)]
X = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)


def png(n):
    out = io.BytesIO()
    Image.new("RGB", (2, 2), (n % 256, 0, 0)).save(out, "PNG")
    return out.getvalue()


def table():
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 4)
    keys = [f"k{n}" for n in range(500)]
    return pa.table(
        {"key": keys, "text": TEXTS, "vector": vectors, "image": list(map(png, range(500)))}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("lance")
    lance.write_dataset(table(), str(where / "rows.lance"), max_rows_per_file=200)
    return where


def test_columns_of_a_table(folder):
    data = lance.dataset(str(folder / "rows.lance"))
    assert is_lance(data)
    for given in (data, folder / "rows.lance", folder):
        source = Source(given, column="text", id_column="key")
        assert list(source) == TEXTS and source.n_rows == 500
        assert source.ids(498, 500).tolist() == ["k498", "k499"]
        assert list(source.reader.rows(497)) == TEXTS[497:]
        vectors = Source(given, column="vector")
        assert vectors.modality == "embedding"
        np.testing.assert_array_equal(vectors.vectors(), X)
    images = Source(data, column="image")
    block = images.decode(list(images.reader.rows(0))[:3], 0)
    assert [row.getpixel((0, 0))[0] for row in block.rows] == [0, 1, 2]
    with pytest.raises(DataError, match="no column 'tex': the data has key, text, vector, image"):
        Source(data, column="tex")


def test_vectors_become_a_store(folder, tmp_path):
    store = fmc.embed(folder / "rows.lance", column="vector", id_column="key")
    assert store.ids[0] == "k0" and store.space().shape == (500, 4)


def test_a_table_of_lancedb(tmp_path):
    lancedb = pytest.importorskip("lancedb")
    base = lancedb.connect(str(tmp_path / "base"))
    made = base.create_table("rows", table())
    base.create_table("others", table().slice(0, 5))
    assert is_lance(made)
    assert list(Source(made, column="text")) == TEXTS
    np.testing.assert_array_equal(Source(made, column="vector").vectors(), X)
    assert list(Source(tmp_path / "base", column="text", split="others")) == TEXTS[:5]
    with pytest.raises(DataError, match="which split is meant.*others, rows"):
        Source(tmp_path / "base", column="text")


def test_damaged_tables_are_one_line(folder, tmp_path):
    import shutil

    broken = tmp_path / "broken.lance"
    shutil.copytree(folder / "rows.lance", broken)
    for path in (broken / "data").iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="broken.lance is not a readable Lance table") as caught:
        list(Source(broken, column="text"))
    assert "\n" not in str(caught.value)
    for path in (broken / "_versions").iterdir():
        path.write_bytes(b"no manifest")
    with pytest.raises(DataError, match="not a readable Lance table"):
        Source(broken, column="text")


def test_parquet_files_with_columns_of_lists(tmp_path):
    """Vectors in Parquet files: lists of fixed and of free length, and one that is missing."""
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 4)
    free = pa.array(X.astype(np.float64).tolist())
    for name, column in {"fixed": fixed, "free": free}.items():
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"v": column}), path, row_group_size=100)
        np.testing.assert_array_equal(Source(path).vectors(), X)
    damaged = X.tolist()
    damaged[3] = None
    pq.write_table(pa.table({"v": damaged}), tmp_path / "damaged.parquet")
    with pytest.raises(DataError, match="'v' has 1 missing vectors"):
        Source(tmp_path / "damaged.parquet").vectors()
    damaged[3] = [1.0]
    pq.write_table(pa.table({"v": damaged}), tmp_path / "ragged.parquet")
    with pytest.raises(DataError, match="one length in every row"):
        Source(tmp_path / "ragged.parquet").vectors()
