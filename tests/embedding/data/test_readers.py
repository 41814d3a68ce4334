"""Frames of other libraries, packed files, archives, JSON, patterns, Excel; each damaged, too."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fmcluster.embedding.data.files import delimited, packed
from fmcluster.embedding.data.source import Source
from fmcluster.utils.errors import DataError, MissingExtraError

TEXTS = ["a cat", "ein Hund, naß", "東京", "code; more"]


def rows_of(data, **options):
    source = Source(data, **options)
    found = source.decode(list(source), 0)
    assert source.n_rows == len(found.rows)
    return found.rows, found.ids.tolist()


def refused(data, *parts, kind=DataError, **options):
    """Check that reading is one clear line with `parts` in it."""
    with pytest.raises(kind) as caught:
        rows_of(data, **options)
    said = str(caught.value)
    assert "\n" not in said
    for part in parts:
        assert part in said, said


class Frame:
    """A frame of a library we never heard of."""

    def __init__(self, table):
        self.table, self.columns = table, table.column_names

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


# -- frames -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "categories"])
def test_any_frame_by_the_arrow_interface(kind):
    texts = pa.array(TEXTS)
    column = texts.dictionary_encode() if kind == "categories" else texts.cast(getattr(pa, kind)())
    frame = Frame(pa.table({"n": [5, 6, 7, 8], "text": column}))
    assert rows_of(frame, id_column="n") == (TEXTS, [5, 6, 7, 8])
    assert Source(frame).fingerprint == Source(TEXTS).fingerprint


def test_frames_of_numbers_are_vectors():
    X = np.arange(12.0).reshape(4, 3)
    source = Source(Frame(pa.table({f"x{i}": X[:, i] for i in range(3)})))
    assert source.modality == "embedding"
    np.testing.assert_array_equal(source.vectors(), X)


def test_frames_that_break():
    class Breaks(Frame):
        def __arrow_c_stream__(self, requested_schema=None):
            raise RuntimeError("connection lost\nand more")

    table = pa.table({"text": TEXTS})
    refused(Breaks(table), "Breaks", "connection lost")
    refused(Frame(pa.table([TEXTS, TEXTS], names=["a", "a"])), "'a'", "rename")
    refused(Frame(table), "no column 'tex'", column="tex")
    refused(Frame(pa.table({"text": ["a", None, "b"]})), "row 1", "missing")


def test_polars_frames_and_series():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"text": TEXTS, "key": ["a", "b", "c", "d"]})
    assert rows_of(frame, id_column="key", column="text") == (TEXTS, ["a", "b", "c", "d"])
    assert rows_of(frame["text"])[0] == TEXTS
    assert (
        rows_of(frame.with_columns(pl.col("text").cast(pl.Categorical)), column="text")[0] == TEXTS
    )
    vectors = Source(pl.DataFrame({"v": [[1.0, 2.0], [3.0, 4.0]]})).vectors()
    np.testing.assert_array_equal(vectors, [[1, 2], [3, 4]])
    numbers = Source(pl.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})).vectors()
    np.testing.assert_array_equal(numbers, [[1, 3], [2, 4]])
    refused(frame.lazy(), "LazyFrame")


def test_duckdb_relations():
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    relation = connection.sql("select * from (values (7, 'a cat'), (9, 'a dog')) t(key, text)")
    assert rows_of(relation, id_column="key") == (["a cat", "a dog"], [7, 9])
    broken = connection.sql("select cast(x as integer) as text from (values ('1'), ('no')) t(x)")
    refused(broken, "Arrow interface")


def test_polars_is_not_imported():
    code = (
        "import sys; sys.modules['polars'] = None; "
        "from fmcluster.embedding.data.source import Source; import pyarrow as pa; "
        "print(Source(pa.table({'text': ['a', 'b']})).n_rows)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2"


# -- packed text files ------------------------------------------------------------------------


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    stream = pa.CompressedOutputStream(sink, "zstd")
    stream.write(data)
    stream.close()
    return sink.getvalue().to_pybytes()


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "zst": zstd}


def table_bytes(kind: str, n: int = 1) -> bytes:
    frame = pd.DataFrame({"key": range(len(TEXTS) * n), "text": TEXTS * n})
    if kind == "csv":
        return frame.to_csv(index=False, sep=";").encode("utf-8-sig")
    if kind == "tsv":
        return frame.to_csv(index=False, sep="\t").encode("cp1252", "replace")
    return frame.to_json(orient="records", lines=True).encode()


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("packing", PACKERS)
def test_packed_tables_are_as_the_plain_ones(kind, packing, tmp_path):
    path = tmp_path / f"d.{kind}.{packing}"
    path.write_bytes(PACKERS[packing](table_bytes(kind)))
    assert rows_of(path, column="text", id_column="key") == (TEXTS, [0, 1, 2, 3])
    plain = tmp_path / f"d.{kind}"
    plain.write_bytes(table_bytes(kind))
    options = {"column": "text", "id_column": "key"}
    assert Source(path, **options).fingerprint == Source(plain, **options).fingerprint


def test_a_table_is_opened_once_for_each_pass_over_it(tmp_path, monkeypatch):
    path, opened, really = tmp_path / "a.csv", [], packed.open_binary

    def noted(path):
        opened.append(path)
        return really(path)

    for module in (packed, delimited):
        monkeypatch.setattr(module, "open_binary", noted)
    pd.DataFrame({"id": list("abcd"), "text": TEXTS, "of": "x"}).to_csv(path, index=False)
    source = Source(path, column="text", id_column="id")
    assert len(opened) == 4  # its encoding, how it is written, its first rows, its ids
    assert source.fingerprint and source.ids(0, 4).tolist() == list("abcd")
    assert len(opened) == 5
    assert list(source) == TEXTS
    assert len(opened) == 6
    opened.clear()
    assert Source(path).column == "text"
    assert len(opened) == 4  # all columns are looked at in one pass


def test_packed_lines(tmp_path):
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress("\n".join(TEXTS).encode()))
    assert rows_of(str(tmp_path / "d.txt.gz"))[0] == TEXTS


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("damage", ["cut", "other", "changed"])
def test_packed_tables_that_are_damaged(packing, damage, tmp_path):
    draw = np.random.default_rng(0)
    lines = ["key,text", *(f"{i},{draw.bytes(30).hex()}" for i in range(20_000))]
    whole = PACKERS[packing]("\n".join(lines).encode())
    half = len(whole) // 2
    data = {
        "cut": whole[:half],
        "other": b"key,text\n1,plain\n",
        "changed": whole[:half] + bytes(64) + whole[half + 64 :],
    }[damage]
    path = tmp_path / f"d.csv.{packing}"
    path.write_bytes(data)
    refused(path, f"d.csv.{packing}", column="text")


# -- JSON -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["records", "columns", "lines", "texts"])
def test_json_files(shape, tmp_path):
    keys = ["a", "b", "c", "d"]
    records = [{"key": key, "text": text} for key, text in zip(keys, TEXTS, strict=True)]
    content = {
        "records": json.dumps(records, indent=1),
        "columns": json.dumps({"key": keys, "text": TEXTS}),
        "lines": "\n".join(map(json.dumps, records)),
        "texts": json.dumps(TEXTS),
    }[shape]
    path = tmp_path / "d.json"
    path.write_text(content, encoding="utf-8-sig")
    if shape == "texts":
        assert rows_of(path) == (TEXTS, [0, 1, 2, 3])
    else:
        assert rows_of(path, column="text", id_column="key") == (TEXTS, keys)


def test_json_keys_that_come_later_are_columns(tmp_path):
    path = tmp_path / "d.json"
    path.write_text('[{"text": "a"}, {"text": "b", "key": 3}, {"key": 4}]')
    refused(path, "row 2", "missing")
    refused(path, "1 row id(s) are missing", id_column="key")
    source = Source(path)
    assert source.decode(list(source), 0, on_error="mark").rows == ["a", "b", None]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"text": "a"},\n {"text": ', "line 2"),
        ('[{"text": "a"}, 3]', "element 1"),
        ('{"a": [1, 2], "text": ["x"]}', "a: 2, text: 1"),
        ('{"meta": {"n": 1}, "rows": []}', "array of objects"),
        ("[]", "no rows"),
        ("3", "expected an array"),
        ("", "not JSON"),
    ],
)
def test_json_files_that_are_damaged(content, said, tmp_path):
    path = tmp_path / "d.json"
    path.write_text(content)
    refused(path, "d.json", said)


# -- archives ---------------------------------------------------------------------------------


def png(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (6, 5), (shade, 0, 0)).save(out, "PNG")
    return out.getvalue()


FILES = {"b/2.png": png(2), "a/1.png": png(1), "b/3.PNG": png(3)}
OTHERS = {"notes.txt": b"no image", "__MACOSX/a/._1.png": b"x", ".hidden.png": b"x"}


def archive(path, files):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            out.writestr("a/", b"")
            for name, data in files.items():
                out.writestr(name, data)
        return path
    mode = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2"}[path.suffix]
    with tarfile.open(path, mode) as out:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        out.addfile(link)
    return path


@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tar.gz", "p.tgz", "p.tar.bz2"])
def test_images_of_an_archive(name, tmp_path, caplog):
    path = archive(tmp_path / name, {**FILES, **OTHERS})
    images, ids = rows_of(path)
    expected = sorted(FILES) if name == "p.zip" else list(FILES)
    assert ids == expected
    shades = [image.getpixel((0, 0))[0] for image in images]
    assert shades == [int(key[2]) for key in expected]
    assert "1 file(s)" in caplog.text
    assert "notes.txt" in caplog.text
    source = Source(path)
    parts = [raw for _, raw in source.pieces(2, range(5))]
    assert [len(part) for part in parts][:2] == [2, 1]
    assert parts[1][0] == FILES[expected[2]]
    assert list(tmp_path.iterdir()) == [path], "nothing is unpacked"


def test_archives_and_folders_of_the_same_files_hold_the_same(tmp_path):
    for name, data in FILES.items():
        (tmp_path / "f" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "f" / name).write_bytes(data)
    zipped = archive(tmp_path / "p.zip", FILES)
    assert rows_of(tmp_path / "f")[1] == rows_of(zipped)[1]


def test_one_damaged_member_is_named_and_the_others_stay(tmp_path):
    path = archive(tmp_path / "p.zip", FILES)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as whole:
        at = whole.getinfo("b/2.png").header_offset
    data[at + 45] ^= 0xFF
    path.write_bytes(data)
    refused(path, "'b/2.png'", "cannot be unpacked")
    source = Source(path)
    block = source.decode(list(source), 0, on_error="mark")
    assert block.ids.tolist() == ["a/1.png", "b/2.png", "b/3.PNG"]
    assert block.rows[1] is None
    assert block.rows[2].getpixel((0, 0))[0] == 3


@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tgz"])
def test_archives_that_are_damaged(name, tmp_path):
    path = archive(tmp_path / name, FILES)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])
    refused(path, name, "not a readable archive")
    path.write_bytes(b"no archive at all")
    refused(path, name, "not a readable archive")
    refused(archive(tmp_path / f"empty-{name}", OTHERS), "holds no image")


def test_an_archive_with_two_of_a_name(tmp_path):
    path = tmp_path / "p.zip"
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as out:
        for shade in (1, 2):
            out.writestr("a.png", png(shade))
    refused(path, "'a.png' more than once")


# -- patterns ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "csv.gz"])
def test_shards_by_a_pattern(kind, tmp_path):
    for number in range(3):
        frame = pd.DataFrame(
            {"key": [10 * number, 10 * number + 1], "text": [f"t{number}", "same"]}
        )
        path = tmp_path / f"part-{number}.{kind}"
        if kind == "parquet":
            frame.to_parquet(path)
        elif kind == "jsonl":
            frame.to_json(path, orient="records", lines=True)
        else:
            frame.to_csv(path, index=False)
    found = rows_of(tmp_path / f"part-*.{kind}", column="text", id_column="key")
    assert found == (["t0", "same", "t1", "same", "t2", "same"], [0, 1, 10, 11, 20, 21])
    source = Source(tmp_path / f"part-*.{kind}", column="text")
    assert [len(raw) for _, raw in source.pieces(4, range(3))] == [4, 2]
    assert len(source.reader.files) == 3


def test_images_by_a_pattern(tmp_path):
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "b" / "notes.txt").write_text("no")
    images, ids = rows_of(tmp_path / "*" / "*.[pP][nN][gG]")
    assert ids == ["a/1.png", "b/2.png", "b/3.PNG"]
    assert [image.getpixel((0, 0))[0] for image in images] == [1, 2, 3]
    refused(tmp_path / "b" / "*", "several types", ".txt (1)")


def test_patterns_that_do_not_fit_together(tmp_path):
    (tmp_path / "a.csv").write_text("key,text\n1,a\n01,b\n")
    (tmp_path / "b.csv").write_text("key,text\n7,c\n")
    assert rows_of(tmp_path / "?.csv", column="text", id_column="key")[1] == ["1", "01", "7"]
    (tmp_path / "c.csv").write_text("key,other\n7,c\n")
    refused(tmp_path / "?.csv", "no column 'text'", column="text")
    (tmp_path / "c.csv").write_text("key,text\n7,c,d\n")
    refused(tmp_path / "?.csv", "line 2", "c.csv", column="text")
    refused(tmp_path / "x*.csv", "no file matches")
    refused("what is this?", "list of one text")
    (tmp_path / "real[1].txt").write_text("a\nb\n")
    assert rows_of(tmp_path / "real[1].txt")[0] == ["a", "b"], (
        "a file of that very name comes first"
    )


# -- Excel ------------------------------------------------------------------------------------


def test_excel_sheets(tmp_path):
    pytest.importorskip("openpyxl")
    path = tmp_path / "d.xlsx"
    frame = pd.DataFrame({"key": ["a", "b", "c", "d"], "text": TEXTS})
    frame.to_excel(path, index=False)
    assert rows_of(path, column="text", id_column="key") == (TEXTS, ["a", "b", "c", "d"])
    with pd.ExcelWriter(path) as book:
        frame.to_excel(book, sheet_name="first", index=False)
        frame[::-1].to_excel(book, sheet_name="second", index=False)
    refused(path, "which split", "first, second", column="text")
    assert rows_of(path, column="text", split="second")[0] == TEXTS[::-1]
    path.write_bytes(path.read_bytes()[:500])
    refused(path, "d.xlsx", "not a readable Excel file", column="text")


def test_excel_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    path = tmp_path / "d.xlsx"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("xl/workbook.xml", "<x/>")
    refused(path, "openpyxl", kind=MissingExtraError)


def test_unknown_types_list_what_is_known(tmp_path):
    (tmp_path / "d.doc.gz").write_bytes(b"x")
    refused(tmp_path / "d.doc.gz", "'.doc.gz'", ".json", ".zst")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "d.parquet")
    (tmp_path / "d.parquet").rename(tmp_path / "d.parquet.gz")
    refused(tmp_path / "d.parquet.gz", "'.parquet.gz'")


def test_the_command_line_takes_patterns_and_archives(tmp_path, capsys):
    pytest.importorskip("wordllama")
    from fmcluster.cli.main import main

    for number in range(2):
        (tmp_path / f"p{number}.csv").write_text(f"text\ntext {number}\nmore\n")
    given = ["--encoder", "packaged:wordllama", "--out", str(tmp_path / "s"), "--json"]
    assert main(["embed", str(tmp_path / "p*.csv"), *given]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 4
    assert main(["embed", str(tmp_path / "q.csv"), *given]) == 2
