"""``--answers``: tables of labels and of pairs."""

import json

import numpy as np
import pytest

from fmcluster.cli.answers import read_answers
from fmcluster.cli.main import main
from fmcluster.utils.errors import DataError
from fmcluster.utils.ids import IdIndex

INDEX = IdIndex(np.array(["007", "b", "c", "d"]))


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_labels_and_pairs_come_by_id_and_empty_cells_are_no_answers(tmp_path):
    labels = write(tmp_path / "a.csv", "id,label\n007,billing\nb,\nc,None\n")
    pairs = write(tmp_path / "p.csv", "id_a,id_b,same\n007,b,yes\nb,c,0.0\nc,d,\n")
    found = read_answers([labels, pairs], INDEX)
    assert found["labels"] == {"007": "billing", "c": "None"}
    assert found["must_link"].tolist() == [["007", "b"]]
    assert found["cannot_link"].tolist() == [["b", "c"]]


def test_no_file_is_no_answer():
    assert read_answers([], INDEX) == {"labels": None, "must_link": None, "cannot_link": None}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,text\n007,x\n", "id and label are needed"),
        ("id_a,id_b,same\n007,b,maybe\n", "'maybe'"),
    ],
)
def test_tables_that_do_not_answer_are_refused(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        read_answers([write(tmp_path / "x.csv", text)], INDEX)


def test_two_files_may_not_differ_about_a_row(tmp_path):
    paths = [write(tmp_path / f"{c}.csv", f"id,label\nb,{c}\n") for c in "xy"]
    with pytest.raises(DataError, match="row 'b' is 'x' and 'y'"):
        read_answers(paths, INDEX)


def test_cluster_holds_the_answers_of_a_file(tmp_path, capsys):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 30)
    x = np.eye(3, 6)[y] + rng.normal(scale=0.1, size=(90, 6))
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    answers = write(tmp_path / "a.csv", "id,label\n0,red\n31,green\n61,blue\n62,blue\n")
    out = str(tmp_path / "run")
    command = ["cluster", str(tmp_path / "x.npy"), "--n-clusters", "3", "--answers", answers]
    assert main([*command, "--out", out, "--no-report", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_answers"] == 4
    about = json.loads((tmp_path / "run" / "result.json").read_text())
    assert sorted(about["names"]) == ["blue", "green", "red"]
    labels = np.load(tmp_path / "run" / "labels.npy")
    assert [about["names"][labels[i]] for i in (0, 31, 61, 62)] == ["red", "green", "blue", "blue"]
