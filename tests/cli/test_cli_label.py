"""The commands that label and clean: CSV out, labels in, the check that exits 3."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from fmcluster.cli.labels import read_table
from fmcluster.cli.main import main
from fmcluster.utils.ids import IdIndex
from fmcluster.vectors.graph import KNNGraph


@pytest.fixture
def folder(blobs, tmp_path):
    X, y = blobs(240, 4)
    np.save(tmp_path / "X.npy", X)
    wrong = y.copy()
    wrong[:24] = (wrong[:24] + 1) % 4
    np.save(tmp_path / "y.npy", wrong)
    np.save(tmp_path / "true.npy", y)
    return tmp_path


def run(*argv):
    return main([str(word) for word in argv])


def test_query_writes_what_to_label_and_takes_what_is_labelled(folder, capsys):
    argv = ["cluster", folder / "X.npy", "--n-clusters", 4, "--head", "kmeans", "--no-report"]
    assert run(*argv, "--out", folder / "run") == 0
    base = ["query", folder / "run", "--budget", 8, "--embeddings", folder / "X.npy"]
    assert run(*base, "--out", folder / "a.csv") == 0
    first = pd.read_csv(folder / "a.csv")
    assert list(first.columns) == ["id", "cluster", "confidence"]
    assert first["id"].nunique() == 8
    first["label"] = np.load(folder / "true.npy")[first["id"]]
    first.to_csv(folder / "done.csv", index=False)
    capsys.readouterr()
    assert run(*base, "--labeled", folder / "done.csv", "--json") == 0
    more = json.loads(capsys.readouterr().out)["ids"]
    assert not set(more) & set(first["id"])
    first[["cluster"]].to_csv(folder / "bad.csv", index=False)
    assert run(*base, "--labeled", folder / "bad.csv") == 2
    assert "a column id is needed" in capsys.readouterr().err
    pd.concat([first, first[:1]]).to_csv(folder / "twice.csv", index=False)
    assert run(*base, "--labeled", folder / "twice.csv") == 2
    assert "twice: keep one row of each id" in capsys.readouterr().err


def test_clean_finds_the_planted_errors_and_exits_3_when_asked(folder, capsys):
    base = ["clean", folder / "X.npy", "--labels", folder / "y.npy", "--out", folder / "i.csv"]
    assert run(*base, "--json") == 0
    payload = json.loads(capsys.readouterr().out)
    found = set(pd.read_csv(folder / "i.csv")["id"])
    assert len(found & set(range(24))) >= 22
    assert payload["noise_rate"] == pytest.approx(0.1, abs=0.04)
    assert run(*base, "--fail-over", 0.05) == 3
    assert "check failed" in capsys.readouterr().out
    assert run(*base, "--fail-over", 0.5) == 0
    assert run(*base, "--fail-over", 7) == 2


def test_clean_asks_for_neighbors_once(folder, monkeypatch, capsys):
    widths = []

    def counted(rows, *, k, **options):
        widths.append(k)
        return build(rows, k=k, **options)

    build = KNNGraph.build
    monkeypatch.setattr(KNNGraph, "build", counted)
    X = np.load(folder / "X.npy")
    X[7] = X[3]
    np.save(folder / "X.npy", X)
    assert run("clean", folder / "X.npy", "--labels", folder / "y.npy", "--json") == 0
    payload = json.loads(capsys.readouterr().out)
    assert widths == [50]
    assert payload["near_duplicates"] >= 2


def test_bad_questions_are_one_line_that_quotes_what_was_given(folder, capsys):
    argv = ["cluster", folder / "X.npy", "--n-clusters", 4, "--head", "kmeans", "--no-report"]
    assert run(*argv, "--out", folder / "run") == 0
    base = ["query", folder / "run", "--embeddings", folder / "X.npy"]
    np.save(folder / "short.npy", np.load(folder / "y.npy")[:-1])
    np.save(folder / "one.npy", np.zeros(240, int))
    clean = ["clean", folder / "X.npy", "--labels"]
    for command, quoted in (
        ([*base, "--budget", 241], "budget=241 must lie in 1..240"),
        ([*base, "--budget", 5, "--strategy", "magic"], "'magic'"),
        ([*clean, folder / "short.npy"], "239"),
        ([*clean, folder / "one.npy"], "one class only, [0]"),
    ):
        capsys.readouterr()
        assert run(*command) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert quoted in said[0]
        assert len(said) <= 2


@pytest.fixture
def listed(folder):
    """A saved result, its samples to label and its suspicious labels as the commands write them."""
    argv = ["cluster", folder / "X.npy", "--n-clusters", 4, "--head", "kmeans", "--no-report"]
    assert run(*argv, "--out", folder / "run") == 0
    base = ["query", folder / "run", "--budget", 6, "--embeddings", folder / "X.npy"]
    assert run(*base, "--out", folder / "ask.csv") == 0
    clean = ["clean", folder / "X.npy", "--labels", folder / "y.npy"]
    assert run(*clean, "--out", folder / "issues.csv") == 0
    return folder


def test_report_lists_what_query_and_clean_wrote(listed, capsys):
    texts = [f"ticket {i}" for i in range(240)]
    pd.DataFrame({"text": texts}).to_csv(listed / "t.csv", index=False)
    base = ["report", listed / "run", "--data", listed / "t.csv", "--column", "text"]
    lists = ["--to-label", listed / "ask.csv", "--issues", listed / "issues.csv"]
    capsys.readouterr()
    assert run(*base, *lists, "--out", listed / "r.html") == 0
    ask, issues = pd.read_csv(listed / "ask.csv"), pd.read_csv(listed / "issues.csv")
    said = capsys.readouterr().out
    assert f"6 samples to label, {len(issues)} suspicious labels" in said
    page = (listed / "r.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S).group(1))
    assert [row["id"] for row in data["to_label"]] == ask["id"].astype(str).tolist()
    assert [row["text"] for row in data["to_label"]] == [texts[i] for i in ask["id"]]
    assert [row["id"] for row in data["issues"]] == issues["id"].astype(str).tolist()
    assert [row["given"] for row in data["issues"]] == issues["given"].astype(str).tolist()
    assert data["issues"][0]["score"] == pytest.approx(issues["score"][0], abs=1e-4)
    assert "export-label" in page
    assert "export-issues" in page


def test_report_refuses_lists_that_are_none(listed, capsys):
    (listed / "empty.csv").write_text("")
    (listed / "foreign.csv").write_text("id,given,suggested,score\n999,a,b,0.1\n")
    (listed / "words.csv").write_text("id,given,suggested,score\nx7,a,b,0.1\n")
    (listed / "sure.csv").write_text("id,given,suggested,score\n7,a,b,low\n")
    for option, name, quoted in (
        ("--to-label", "none.csv", "no such file"),
        ("--to-label", "empty.csv", "empty.csv is not a readable table"),
        ("--issues", "ask.csv", "a column given is needed"),
        ("--issues", "foreign.csv", "not among the 240 rows: 999"),
        ("--issues", "words.csv", "'x7'"),
        ("--issues", "sure.csv", "'low'"),
    ):
        capsys.readouterr()
        assert run("report", listed / "run", option, listed / name) == 2, name
        assert quoted in capsys.readouterr().err.splitlines()[0]


def test_ids_of_text_and_labels_that_look_empty_stay_text(tmp_path):
    (tmp_path / "t.csv").write_text("id,given,suggested,score\n007,None,3,0.25\n")
    table = read_table(tmp_path / "t.csv", ["id"], index=IdIndex(np.array(["007", "8"])))
    assert table.to_dict("records") == [
        {"id": "007", "given": "None", "suggested": "3", "score": 0.25}
    ]


def test_certify_draws_labels_and_promises_or_exits_3(folder, capsys):
    argv = ["cluster", folder / "X.npy", "--n-clusters", 4, "--head", "kmeans", "--no-report"]
    assert run(*argv, "--out", folder / "run") == 0
    query = ["query", folder / "run", "--budget", 90, "--strategy", "certify"]
    assert run(*query, "--embeddings", folder / "X.npy", "--out", folder / "a.csv") == 0
    drawn = pd.read_csv(folder / "a.csv")
    assert list(drawn.columns) == ["id", "cluster", "confidence", "weight"]
    drawn["label"] = np.load(folder / "true.npy")[drawn["id"]]
    drawn.to_csv(folder / "answers.csv", index=False)
    capsys.readouterr()
    base = ["certify", folder / "run", "--answers"]
    assert run(*base, folder / "answers.csv", "--accuracy", 0.9, "--json") == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["threshold"] is not None and payload["accuracy_lower"] >= 0.9 - 1e-3
    assert payload["coverage"] > 0.5
    assert payload["n_labels"] + payload["n_set_aside"] == 90
    assert run(*base, folder / "answers.csv", "--accuracy", 0.9) == 0
    assert "at least 90 % are right, with probability 95 %" in capsys.readouterr().out
    drawn[:10].to_csv(folder / "few.csv", index=False)
    assert run(*base, folder / "few.csv", "--json") == 3
    payload = json.loads(capsys.readouterr().out)
    assert payload["threshold"] is None and "are needed" in payload["reason"]
    assert run(*base, folder / "few.csv") == 3
    assert "nothing certified from" in capsys.readouterr().out


def test_certify_says_what_is_wrong_with_answers(folder, capsys):
    argv = ["cluster", folder / "X.npy", "--n-clusters", 4, "--head", "kmeans", "--no-report"]
    assert run(*argv, "--out", folder / "run") == 0
    capsys.readouterr()
    for text, said in (
        ("id,name\n1,a\n", "a label is needed"),
        ("id,label\n1,a\n2,\n", r"no label at position\(s\) 1"),
        ("id,label\n1,a\n999,b\n", "999"),
        ("id,label,weight\n1,a,x\n", "column weight"),
    ):
        (folder / "bad.csv").write_text(text)
        assert run("certify", folder / "run", "--answers", folder / "bad.csv") == 2
        assert re.search(said, capsys.readouterr().err)
