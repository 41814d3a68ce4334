"""Archives whose files belong together by name (WebDataset), single and in shards; damaged, too."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

import fmcluster as fmc
from fmcluster.embedding.data.files.samples import key_of
from fmcluster.embedding.data.source import Source
from fmcluster.utils.errors import DataError

COLORS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250)}
PAIR = {"image": "jpg;png", "text": "txt"}


def picture(color, kind="PNG"):
    out = io.BytesIO()
    Image.new("RGB", (8, 8), COLORS[color]).save(out, kind)
    return out.getvalue()


def sample(number):
    """The files of one sample: a picture as PNG or JPEG, its caption, its class and a JSON."""
    color = list(COLORS)[number % 3]
    key, kind = f"{number:06}", ("png", "jpg")[number % 2]
    about = {"caption": f"the {color} one", "size": number}
    return {
        f"{key}.cls": str(number % 3).encode(),
        f"{key}.{kind}": picture(color, "JPEG" if kind == "jpg" else "PNG"),
        f"{key}.json": json.dumps(about).encode(),
        f"{key}.txt": f"a {color} thing".encode(),
    }


def pack(path, files):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return path


def several(numbers):
    return {name: content for number in numbers for name, content in sample(number).items()}


class Pixels:
    modality, fingerprint = "image", "pixels-2"

    def encode(self, rows):
        return [np.asarray(row, np.float32).mean(axis=(0, 1)) / 255 + 1e-3 for row in rows]


class Words:
    modality, fingerprint = "text", "words-2"

    def encode(self, rows):
        return [[float(color in row) + 1e-3 for color in COLORS] for row in rows]


ENCODERS = {"image": Pixels(), "text": Words()}


@pytest.mark.parametrize("kind", ["a.tar", "a.tar.gz", "a.zip"])
def test_columns_are_endings_kinds_and_fields(kind, tmp_path):
    path = pack(tmp_path / kind, several(range(6)))
    keys = [f"{n:06}" for n in range(6)]
    captions = [f"a {list(COLORS)[n % 3]} thing" for n in range(6)]
    for column in ("txt", "text"):
        source = Source(path, column=column)
        assert list(source) == captions and source.n_rows == 6
        assert source.ids(0, 6).tolist() == keys
    fields = Source(path, column="json.caption", id_column="json.size", n_rows=3)
    assert list(fields) == [f"the {c} one" for c in COLORS]
    assert fields.ids(0, 3).tolist() == [0, 1, 2]
    for column in ("image", "jpg;png"):
        source = Source(path, column=column)
        rows = source.decode(list(source), 0).rows
        assert [int(np.argmax(row.getpixel((4, 4)))) for row in rows] == [0, 1, 2, 0, 1, 2]
    half = Source(path, column="png")
    assert [row is None for row in half] == [False, True] * 3
    assert source.reader.values_of("cls") == [0, 1, 2, 0, 1, 2]
    assert source.reader.values_of("json.size") == list(range(6))


def test_pairs_of_an_archive(tmp_path):
    files = several(range(30))
    del files["000007.jpg"], files["000008.txt"]
    path = pack(tmp_path / "w.tar", files)
    options = {"column": PAIR, "encoder": ENCODERS, "cache_dir": tmp_path / "c"}
    store = fmc.embed(path, **options)
    assert store.ids.tolist() == [f"{n:06}" for n in range(30)]
    images, texts = np.asarray(store.space("image")), np.asarray(store.space("text"))
    assert np.flatnonzero(~images.any(axis=1)).tolist() == [7]
    assert np.flatnonzero(~texts.any(axis=1)).tolist() == [8]
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    assert [len(set(result.labels[k::3].tolist())) for k in range(3)] == [1, 1, 1]
    assert len(set(result.labels.tolist())) == 3


@pytest.mark.parametrize("name", ["s-*.tar", "s-{000..002}.tar", ""])
def test_shards(name, tmp_path):
    (tmp_path / "d").mkdir()
    for shard in range(3):
        numbers = range(4 * shard, 4 * shard + 4)
        pack(tmp_path / "d" / f"s-{shard:03}.tar", several(numbers))
    where = tmp_path / "d" / name if name else tmp_path / "d"
    source = Source(where, column="txt")
    assert source.n_rows == 12 and source.ids(0, 12).tolist() == [f"{n:06}" for n in range(12)]
    assert len(list(source)) == 12
    whole = Source(where)
    assert whole.modality == "image" and whole.n_rows == 12
    assert whole.ids(0, 1).tolist() == ["s-000.tar/000000.png"]
    with pytest.raises(DataError, match=r"no file .*s-003\.tar"):
        Source(tmp_path / "d" / "s-{000..003}.tar", column="txt")
    with pytest.raises(DataError, match="names over 100,000 files"):
        Source(tmp_path / "d" / "s-{0..9999999999}.tar", column="txt")


def test_keys_that_several_shards_have_are_told_apart(tmp_path):
    for shard in range(2):
        pack(tmp_path / f"s-{shard}.tar", several(range(2)))
    ids = Source(tmp_path / "s-*.tar", column="txt").ids(0, 4).tolist()
    assert ids == ["s-0/000000", "s-0/000001", "s-1/000000", "s-1/000001"]


@pytest.mark.parametrize(
    ("name", "content", "column", "said"),
    [
        ("000002.png", b"no image", "image", "the image cannot be read"),
        ("000002.txt", b"\xff\xfe broken \xe9", "txt", "half a character"),
        ("000002.json", b"{no json", "json.caption", "half a character"),
    ],
)
def test_a_damaged_file_is_named_by_its_key(name, content, column, said, tmp_path):
    files = several(range(5))
    files[name] = content
    path = pack(tmp_path / "w.tar", files)
    encoder = Pixels() if column == "image" else Words()
    options = {"column": column, "encoder": encoder, "cache_dir": tmp_path / "c"}
    with pytest.raises(DataError, match=f"row '000002': .*{said}") as caught:
        fmc.embed(path, **options)
    assert "\n" not in str(caught.value)
    store = fmc.embed(path, on_error="skip", **options)
    left = [0, 1, 3, 4]
    assert store.ids.tolist() == [f"{n:06}" for n in left]
    np.testing.assert_array_equal(np.argmax(store.space()[:], axis=1), [n % 3 for n in left])


@pytest.mark.parametrize(
    ("files", "column", "said"),
    [
        ({"a.txt": b"1", "b.txt": b"2", "a.png": b"3"}, "txt", "'a' lie apart"),
        ({"a": b"1"}, "txt", "holds no samples"),
        ({"a.txt": b"1"}, "jpg", "no column 'jpg' in .*: it has txt"),
    ],
)
def test_archives_that_are_no_samples(files, column, said, tmp_path):
    with pytest.raises(DataError, match=said) as caught:
        Source(pack(tmp_path / "w.tar", files), column=column)
    assert "\n" not in str(caught.value)


def test_a_truncated_archive_is_one_line(tmp_path):
    whole = pack(tmp_path / "w.tar.gz", several(range(20))).read_bytes()
    (tmp_path / "half.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"half\.tar\.gz") as caught:
        Source(tmp_path / "half.tar.gz", column="txt")
    assert "\n" not in str(caught.value)


def test_keys():
    assert key_of("000001.jpg") == ("000001", "jpg")
    assert key_of("train/000001.seg.png") == ("train/000001", "seg.png")
    assert key_of("v1.0/LICENSE") == ("v1.0/LICENSE", "")
