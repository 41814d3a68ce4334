"""Data behind URLs: memory://, and a stand-in for s3:// that keeps its objects in a folder."""

from __future__ import annotations

import io
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import fmcluster as fmc
from fmcluster.embedding.data.files import remote
from fmcluster.embedding.data.labels import read_labels
from fmcluster.embedding.data.source import Source
from fmcluster.utils.errors import DataError, MissingExtraError

fsspec = pytest.importorskip("fsspec")
TEXTS = [f"text {n}" for n in range(6)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FMCLUSTER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "remote"


@pytest.fixture(params=["memory", "s3"])
def bucket(request, tmp_path):
    """(URL of a bucket, function that puts bytes under a name, list of names that were fetched)."""
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.local import LocalFileSystem
    from fsspec.implementations.memory import MemoryFileSystem

    fetched = []

    class Memory(MemoryFileSystem):
        cachable = False

        def get_file(self, rpath, lpath, **options):
            fetched.append(str(rpath).rpartition("/")[2])
            return super().get_file(rpath, lpath, **options)

    class Bucket(DirFileSystem):
        protocol = "s3"
        cachable = False

        def __init__(self, **options):
            super().__init__(str(tmp_path / "s3"), LocalFileSystem(), **options)

        @classmethod
        def _strip_protocol(cls, path):
            return path.removeprefix("s3://")

        def get(self, rpath, lpath, **options):
            fetched.extend(str(path).rpartition("/")[2] for path in rpath)
            return super().get(rpath, lpath, **options)

    kind = {"memory": Memory, "s3": Bucket}[request.param]
    fsspec.register_implementation(request.param, kind, clobber=True)
    url = f"{request.param}://bucket"

    def put(name, content):
        if request.param == "memory":
            Memory().pipe(f"/bucket/{name}", content)
        else:
            path = tmp_path / "s3" / "bucket" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    yield url, put, fetched
    if request.param == "memory":
        MemoryFileSystem.store.clear()
        fsspec.register_implementation("memory", MemoryFileSystem, clobber=True)
    else:  # the attribute of this name is a view of the table
        sys.modules["fsspec.registry"]._registry.pop("s3", None)


def table(texts, kind="csv"):
    frame = pd.DataFrame({"key": range(len(texts)), "text": texts})
    if kind == "csv":
        return frame.to_csv(index=False).encode()
    out = io.BytesIO()
    frame.to_parquet(out)
    return out.getvalue()


def png(color):
    out = io.BytesIO()
    Image.new("RGB", (4, 4), color).save(out, "PNG")
    return out.getvalue()


def test_a_file_is_fetched_once_and_again_when_it_changed(bucket, cache):
    url, put, fetched = bucket
    put("a/t.csv", table(TEXTS))
    source = Source(f"{url}/a/t.csv", column="text", id_column="key")
    assert list(source) == TEXTS
    assert source.fingerprint == Source(pd.DataFrame({"text": TEXTS}), ids=range(6)).fingerprint
    assert list(Source(f"{url}/a/t.csv", column="text")) == TEXTS
    assert fetched == ["t.csv"]
    put("a/t.csv", table([*TEXTS, "one more"]))
    assert list(Source(f"{url}/a/t.csv", column="text"))[-1] == "one more"
    assert fetched == ["t.csv"] * 2
    assert not list(cache.rglob("*.part"))


def test_a_folder_of_images_and_its_labels(bucket):
    url, put, fetched = bucket
    for n, name in enumerate(["cat/0.png", "cat/1.png", "dog/0.png"]):
        put(f"i/{name}", png((0, 0, 80 * n)))
    source = Source(f"{url}/i")
    assert source.ids(0, 3).tolist() == ["cat/0.png", "cat/1.png", "dog/0.png"]
    rows = source.decode(list(source), 0).rows
    assert [row.getpixel((0, 0))[2] for row in rows] == [0, 80, 160]
    assert read_labels(f"{url}/i").tolist() == ["cat", "cat", "dog"]
    assert len(fetched) == 3


def test_what_is_gone_there_goes_here(bucket, tmp_path):
    url, put, _ = bucket
    for n in range(3):
        put(f"i/{n}.png", png((n, 0, 0)))
    assert Source(f"{url}/i").n_rows == 3
    files, root = fsspec.core.url_to_fs(f"{url}/i")
    files.rm(f"{root}/1.png")
    assert Source(f"{url}/i").ids(0, 2).tolist() == ["0.png", "2.png"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_shards_by_pattern_and_by_folder(bucket, kind):
    url, put, fetched = bucket
    put(f"s/part-0.{kind}", table(TEXTS[:4], kind))
    put(f"s/part-1.{kind}", table(TEXTS[4:], kind))
    assert list(Source(f"{url}/s/part-*.{kind}", column="text")) == TEXTS
    assert list(Source(f"{url}/s", column="text")) == TEXTS
    assert list(Source(f"{url}/s/part-1*", column="text")) == TEXTS[4:]


def test_through_embed_and_the_command_line(bucket, tmp_path, capsys):
    import json

    from fmcluster.cli.main import main

    url, put, _ = bucket
    put("t.csv", table(["red one", "blue two", "red three", "blue four"] * 5))
    args = ["--column", "text", "--encoder", "tfidf", "--json", "--out", str(tmp_path / "o")]
    assert main(["embed", f"{url}/t.csv", *args]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 20
    store = fmc.embed(f"{url}/t.csv", column="text", encoder="tfidf")
    assert len(store) == 20


def test_damage_names_the_url(bucket):
    url, put, _ = bucket
    put("bad.parquet", b"no parquet")
    put("bad.zip", b"no zip")
    put("i/0.png", png((1, 2, 3)))
    put("i/1.png", b"no image")
    put("none.xyz", b"what")
    for name in ("bad.parquet", "bad.zip", "none.xyz"):
        with pytest.raises(DataError, match=f"{url}/?.*") as caught:
            Source(f"{url}/{name}")
        said = str(caught.value)
        assert name in said and url in said and "\n" not in said and "cache" not in said
    source = Source(f"{url}/i")
    with pytest.raises(DataError, match=r"row '1\.png': the image cannot be read"):
        source.decode(list(source), 0)
    with pytest.raises(DataError, match="no such file or folder") as caught:
        Source(f"{url}/gone.csv")
    assert f"{url}/gone.csv" in str(caught.value)


def test_a_file_that_comes_incomplete_is_not_kept(bucket, monkeypatch, cache):
    url, put, _ = bucket
    put("t.csv", table(TEXTS))
    files, _ = fsspec.core.url_to_fs(url)
    info = type(files).info
    monkeypatch.setattr(
        type(files), "info", lambda self, path, **o: {**info(self, path, **o), "size": 999}
    )
    with pytest.raises(DataError, match=r"t\.csv came incomplete \(\d+ of 999 bytes\)"):
        Source(f"{url}/t.csv", column="text")
    assert not list(cache.rglob("t.csv*"))


def test_a_disk_without_room_is_told_before(bucket, monkeypatch):
    url, put, _ = bucket
    put("t.csv", table(TEXTS))
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(remote.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match="FMCLUSTER_CACHE to a folder with room"):
        Source(f"{url}/t.csv", column="text")


def test_errors_of_the_store_are_one_line(bucket, monkeypatch):
    url, put, _ = bucket
    put("t.csv", table(TEXTS))
    files, _ = fsspec.core.url_to_fs(url)

    def refuses(self, path, **options):
        raise PermissionError("Access Denied\nRequestId: 1")

    monkeypatch.setattr(type(files), "isfile", refuses)
    with pytest.raises(DataError, match="cannot be read: Access Denied") as caught:
        Source(f"{url}/t.csv")
    assert "\n" not in str(caught.value)


def test_protocols_that_are_not_known_or_not_installed(monkeypatch):
    with pytest.raises(DataError, match="nope://a/b.csv cannot be read: Protocol not known"):
        Source("nope://a/b.csv")
    import fsspec.core

    def missing(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(MissingExtraError, match="s3://b/c.csv needs .*Install s3fs"):
        Source("s3://b/c.csv")


def test_names_cannot_leave_the_folder(tmp_path):
    with pytest.raises(DataError, match="outside its own folder"):
        remote._bring("x://a", None, {"../evil": "a/../evil"}, tmp_path)


def test_file_urls_are_local(tmp_path):
    (tmp_path / "t.csv").write_bytes(table(TEXTS))
    assert list(Source(f"file://{tmp_path}/t.csv", column="text")) == TEXTS
    assert remote.fetched(f"file://{tmp_path}") == tmp_path


def test_addresses_of_the_web_have_no_patterns():
    assert not remote._is_pattern("https://host/a.csv?token=[1]")
    assert remote._is_pattern("bucket/part-?.csv")
    assert remote.is_url("zip://a.csv::s3://bucket/b.zip") and not remote.is_url(np.zeros(1))
