"""Labels of the command line: by id, or by position of exactly the data's length."""

import argparse
import json

import numpy as np
import pandas as pd
import pytest

from fmcluster.cli.labels import load_labels, read_label_file, read_table, write_table
from fmcluster.cli.main import main, printable
from fmcluster.utils.errors import DataError
from fmcluster.utils.ids import IdIndex

TICKETS = IdIndex(np.array([104, 101, 103]), (102,))


def ask(path, index=TICKETS, source=None):
    args = argparse.Namespace(labels=str(path), labels_column=None, labels_from_folders=False)
    return load_labels(args, index, source=source)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("by-id.csv", "id,label\n101,b\n102,c\n103,NA\n104,01\n", ["01", "b", "NA"]),
        ("semicolon.csv", "label;id\nb;101\n01;104\nNA;103\n", ["01", "b", "NA"]),
        ("bom.csv", "\ufeffid,label\n101,b\n103,c\n104,d\n", ["d", "b", "c"]),
        ("tabs.tsv", "id\tlabel\n101\tb\n103\tc\n104\td\n", ["d", "b", "c"]),
        ("excel.csv", "sep=;\nid;label\n101;b\n103;c, or d\n104;d\n", ["d", "b", "c, or d"]),
    ],
)
def test_tables_match_by_id_whatever_their_order(tmp_path, name, content, expected):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert ask(tmp_path / name).tolist() == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,label\n101,a\n104,b\n", "no label for 1 of 3 rows, such as id 103"),
        ("id,label\n101,a\n101,b\n103,c\n104,d\n", "id '101' twice"),
        ("id,label\n101,a\n0101,b\n103,c\n104,d\n", "id '0101' twice"),
        ("id,label\nx,a\n", "whole numbers"),
        ("id,name\n101,a\n", "a column label is needed"),
        ("id,label\n101,a\n103\n", "line 3 of .* has 1 fields, its header has 2"),
        ("label\na\nb\n", "2 labels for 4 rows of the data"),
        ("label\na\nb\nc\nd\n", "places in the data are not known"),
    ],
)
def test_what_does_not_match_is_refused_with_both_numbers(tmp_path, content, message):
    (tmp_path / "y.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        ask(tmp_path / "y.csv")


@pytest.mark.parametrize("content", ["a\nb\nc\n", "a\nb\nc", "a\r\nb\r\nc\r\n", "\ufeffa\nb\nc\n"])
def test_lines_are_labels_with_or_without_a_last_newline(tmp_path, content):
    (tmp_path / "y.txt").write_bytes(content.encode())
    assert read_label_file(str(tmp_path / "y.txt")).tolist() == ["a", "b", "c"]


def test_a_csv_with_a_header_is_no_list_of_lines(tmp_path):
    (tmp_path / "y.csv").write_text("label\n" + "a\n" * 3)
    assert ask(tmp_path / "y.csv", IdIndex(np.arange(3))).tolist() == ["a", "a", "a"]
    (tmp_path / "y.txt").write_text("label\n" + "a\n" * 3)
    with pytest.raises(DataError, match="4 labels for 3 rows"):
        ask(tmp_path / "y.txt", IdIndex(np.arange(3)))


def test_clean_of_tickets_finds_the_one_wrong_label(tmp_path, capsys):
    rng = np.random.default_rng(0)
    words = {"billing": ["invoice", "payment"], "parcel": ["parcel", "courier"], "app": ["app"]}
    rows = [
        (900 - 7 * i, f"{words[c][i % len(words[c])]} {c} trouble {c}", c)
        for i, c in enumerate(rng.permutation(list(words) * 15))
    ]
    table = pd.DataFrame(rows, columns=["ticket", "text", "label"])
    wrong = table["ticket"][4]
    table.loc[4, "label"] = next(c for c in words if c != table["label"][4])
    table.to_csv(tmp_path / "t.csv", index=False)
    argv = ["clean", tmp_path / "t.csv", "--column", "text", "--id-column", "ticket"]
    argv += ["--labels-column", "label", "--encoder", "tfidf", "--cache-dir", tmp_path / "c"]
    assert main([*map(str, argv), "--json", "--out", str(tmp_path / "wrong.csv")]) == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["issues"] == 1
    assert str(payload["worst"][0]["id"]) == str(wrong)


def test_no_cell_is_a_formula_and_ids_come_back_as_they_were(tmp_path):
    ids = ["=1+1", "+a", "-b", "@c", "'=d", "plain", "it's"]
    table = pd.DataFrame({"id": ids, "label": ["=HYPERLINK()"] * 7, "score": [-0.5] * 7})
    write_table(str(tmp_path / "t.csv"), table)
    lines = (tmp_path / "t.csv").read_text().splitlines()[1:]
    assert not any(line.startswith(("=", "+", "-", "@")) for line in lines)
    assert all(",'=HYPERLINK(),-0.5" in line for line in lines)
    again = read_table(str(tmp_path / "t.csv"), ["id"], index=IdIndex(np.array(ids)))
    assert again["id"].tolist() == ids and again["label"][0] == "=HYPERLINK()"


def test_what_data_holds_is_shown_and_not_obeyed_by_the_terminal():
    assert printable("a\x1b[2Jb\x9b1m\n\tc\u00e9") == "a\\x1b[2Jb\\x9b1m\n\tc\u00e9"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"id,label\n101,a,b\n", "line 2 of .* has 3 fields, its header has 2 .*double quotes"),
        (b"id,label\n101,a\n103,b,c\n", "line 3 of .* has 3 fields, its header has 2"),
        (b"\x93NUMPY\n", "answers.csv has columns .*NUMPY.*: a column id is needed"),
        (b"id,label\n101,a\n101,b\n", "id '101' twice: keep one row"),
    ],
)
def test_a_table_that_would_lose_cells_is_refused(tmp_path, content, said):
    (tmp_path / "answers.csv").write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_table(str(tmp_path / "answers.csv"), ["id"], index=TICKETS)


def test_what_a_parquet_table_lacks_is_an_empty_cell(tmp_path):
    path = tmp_path / "answers.parquet"
    table = pd.DataFrame({"id": [101, 103, 104], "label": ["a", None, "None"]})
    table["number"] = pd.array([1, None, 3], dtype="Int64")
    table.to_parquet(path)
    found = read_table(str(path), ["id"], index=TICKETS)
    assert found["label"].tolist() == ["a", "", "None"]
    assert found["number"].tolist() == ["1", "", "3"]
    path.write_bytes(b"no table")
    with pytest.raises(DataError, match="is no Parquet table"):
        read_table(str(path), [], index=None)
