"""`fmcluster update` and `drift`, and what `embed` says of rows it copied."""

import json

import numpy as np
import pandas as pd
import pytest

import fmcluster as fmc
from fmcluster.cli.main import main


def run(*argv):
    return main([str(word) for word in argv])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FMCLUSTER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def arrays(blobs, tmp_path, capsys):
    """A result of three clusters, rows of the same and of a fourth to come."""
    x, y = blobs(320, 4)
    known = np.flatnonzero(y < 3)
    np.save(tmp_path / "X.npy", x[known[:120]])
    np.save(tmp_path / "same.npy", x[known[120:]])
    np.save(tmp_path / "new.npy", np.concatenate([x[known[120:]], x[y == 3][:40]]))
    out = tmp_path / "run"
    done = run(
        "cluster", tmp_path / "X.npy", "--n-clusters", 3, "--head", "kmeans", "--no-report",
        "--out", out,
    )  # fmt: skip
    assert done == 0
    capsys.readouterr()
    return tmp_path


def test_update_writes_a_grown_result(arrays, capsys):
    out = arrays / "run2"
    assert run("update", arrays / "run", arrays / "new.npy", "--out", out, "--json") == 0
    payload = json.loads(capsys.readouterr().out)
    old, grown = fmc.ClusterResult.load(arrays / "run"), fmc.ClusterResult.load(out)
    assert payload["rows"] == grown.n_rows == 120 + payload["new_rows"]
    assert payload["novel"] == grown.novel.tolist() and 36 <= len(payload["novel"]) <= 46
    assert payload["n_clusters"] == 3 and payload["new_clusters"] == []
    assert sum(payload["new_sizes"]) == payload["new_rows"] - len(payload["novel"])
    np.testing.assert_array_equal(grown.labels[:120], old.labels)
    table = pd.read_parquet(out / "clusters.parquet")
    assert (table["cluster"] == grown.labels).all()


def test_update_with_new_clusters_in_words(arrays, capsys):
    out = arrays / "run2"
    done = run(
        "update", arrays / "run", arrays / "new.npy", "--new-clusters", "auto", "--out", out,
        "--embeddings", arrays / "X.npy",
    )  # fmt: skip
    said = capsys.readouterr().out
    assert done == 0 and "new clusters: 3 (of 4)" in said and "fit no cluster there was" in said
    grown = fmc.ClusterResult.load(out)
    assert grown.n_clusters == 4 and grown.graph.n_rows == grown.n_rows
    assert run("predict", out, arrays / "new.npy", "--out", arrays / "p.parquet") == 0
    labels = pd.read_parquet(arrays / "p.parquet")["cluster"].to_numpy()
    assert (labels[-40:] == 3).mean() > 0.9


def test_drift_as_json_and_in_words(arrays, capsys):
    assert run("drift", arrays / "run", arrays / "new.npy", "--json") == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["unlike_low"] <= 40 / payload["n_new"] or payload["unlike_p_value"] < 1e-6
    assert payload["unlike_anything"] > 0.1 and payload["unlike_p_value"] < 1e-4
    assert {"cluster", "name", "old_share", "new_share", "low", "high", "p_value"} <= set(
        payload["clusters"][0]
    )
    assert len(payload["clusters"]) == 3 and 0 < payload["p_value"] <= 1
    assert run("drift", arrays / "run", arrays / "same.npy") == 0  # drift is no failed check
    said = capsys.readouterr().out
    assert "new rows against 120" in said and "unlike anything" in said


def test_a_result_without_its_sample_says_so(arrays, capsys):
    import dataclasses

    result = fmc.ClusterResult.load(arrays / "run")
    dataclasses.replace(result, reference=None).save(arrays / "bare")
    assert run("drift", arrays / "bare", arrays / "same.npy", "--json") == 0
    assert json.loads(capsys.readouterr().out)["unlike_anything"] is None


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("update", "run", "nowhere.csv", "--out", "o"), "nowhere.csv: no such file"),
        (("update", "nothing", "new.npy", "--out", "o"), "nothing"),
        (("drift", "run", "nowhere.csv"), "nowhere.csv: no such file"),
        (("update", "run", "new.npy", "--out", "o", "--alpha", "2"), "alpha=2"),
        (("drift", "run", "new.npy", "--level", "1"), "level"),
        (("update", "run", "new.npy", "--out", "o", "--embeddings", "no.npy"), "no.npy"),
        (("update", "run", "new.npy", "--out", "o", "--embeddings", "new.npy"), "the result 120"),
        (("update", "run", "new.npy"), "--out"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arrays, capsys, monkeypatch, argv, says):
    monkeypatch.chdir(arrays)
    assert run(*argv) == 2
    said = capsys.readouterr().err.strip().split("\n")
    assert said[0].startswith("error: ") and says in said[0]
    assert not (arrays / "o").exists()


def test_help_has_an_example(capsys):
    for command in ("update", "drift"):
        assert run(command, "--help") == 0
        assert f"example: fmcluster {command} run/ new.csv" in " ".join(
            capsys.readouterr().out.split()
        )


@pytest.fixture
def tickets(tmp_path):
    words = [f"word{i}" for i in range(40)]
    generator = np.random.default_rng(0)
    rows = [" ".join(generator.choice(words[c * 10 : c * 10 + 10], 5)) for c in range(3)] * 20
    table = pd.DataFrame({"ticket": range(100, 160), "text": rows})
    table["text"] += [f" {i}" for i in range(60)]
    table[:48].to_csv(tmp_path / "old.csv", index=False)
    table.to_csv(tmp_path / "all.csv", index=False)
    return tmp_path


def test_a_growing_file_is_encoded_once(tickets, capsys):
    """The packaged real encoder: what the first day encoded is copied on the second."""
    encoder = ("--column", "text", "--encoder", "packaged:minilm", "--id-column", "ticket")
    assert run("embed", tickets / "old.csv", *encoder, "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert first["n_reused"] == 0
    assert run("embed", tickets / "all.csv", *encoder, "--json") == 0
    second = json.loads(capsys.readouterr().out)
    assert second["rows"] == 60 and second["n_reused"] == 48
    assert run("embed", tickets / "all.csv", *encoder, "--out", tickets / "s") == 0
    assert "60 rows copied from earlier stores, not encoded" in capsys.readouterr().out
    other = ("--cache-dir", tickets / "other", "--reuse", tickets / "s", "--json")
    assert run("embed", tickets / "old.csv", *encoder, *other) == 0
    assert json.loads(capsys.readouterr().out)["n_reused"] == 48
    missing = ("--cache-dir", tickets / "third", "--reuse", tickets / "none")
    assert run("embed", tickets / "old.csv", *encoder, *missing) == 2
    assert "is not an embedding store" in capsys.readouterr().err


def test_tickets_by_their_own_ids(tickets, capsys):
    encoder = ("--column", "text", "--encoder", "packaged:minilm", "--id-column", "ticket")
    options = ("--n-clusters", 3, "--no-report", "--out", tickets / "run")
    assert run("cluster", tickets / "old.csv", *encoder, *options) == 0
    capsys.readouterr()
    update = ("update", tickets / "run", tickets / "all.csv", "--column", "text")
    assert run(*update, "--out", tickets / "run2") == 2
    assert "48 of 60 new ids are already in the result, such as 100" in capsys.readouterr().err
    assert run(*update, "--on-known", "skip", "--out", tickets / "run2", "--json") == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["new_rows"] == 12 and payload["left_out"] == 48 and payload["has_graph"]
    grown = fmc.ClusterResult.load(tickets / "run2")
    assert grown.ids.tolist() == list(range(100, 160))


def test_ids_of_new_rows_are_those_of_the_column_or_an_error(tickets, capsys):
    """Repeated ids are no reason to number the rows, in whatever file they stand."""
    encoder = ("--column", "text", "--encoder", "tfidf", "--id-column", "ticket")
    options = ("--n-clusters", 3, "--no-report", "--out", tickets / "run")
    assert run("cluster", tickets / "old.csv", *encoder, *options) == 0
    new = pd.read_csv(tickets / "all.csv")[48:52]
    new.to_json(tickets / "new.jsonl", orient="records", lines=True)
    out = tickets / "assigned.csv"
    assert run("predict", tickets / "run", tickets / "new.jsonl", "--out", out) == 0
    assert pd.read_csv(out)["id"].tolist() == [148, 149, 150, 151]
    new.drop(columns="ticket").to_csv(tickets / "unnamed.csv", index=False)
    assert run("predict", tickets / "run", tickets / "unnamed.csv", "--out", out) == 0
    assert pd.read_csv(out)["id"].tolist() == [0, 1, 2, 3]
    new.assign(ticket=148).to_csv(tickets / "twice.csv", index=False)
    capsys.readouterr()
    for command in ("predict", "update"):
        place = tickets / f"{command}.csv"
        assert run(command, tickets / "run", tickets / "twice.csv", "--out", place) == 2
        assert "1 row id(s) occur more than once, the first is 148" in capsys.readouterr().err
        assert not place.exists()
