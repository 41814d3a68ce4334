"""The commands that label and clean: CSV out, labels in, the check that exits 3."""

import json

import numpy as np
import pandas as pd
import pytest

from fmcluster.cli import main


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
