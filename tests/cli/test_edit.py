"""`fmcluster edit`: in the order given, by the numbers of the report, saved whole or not at all."""

import json

import numpy as np
import pytest

import fmcluster as fmc
from fmcluster.cli.edit import Numbers, parse_steps
from fmcluster.cli.main import main
from fmcluster.result.editing.steps import Dissolve, Merge, Split


def run(*argv):
    return main([str(word) for word in argv])


@pytest.fixture(scope="module")
def folder(blobs, tmp_path_factory):
    x, _ = blobs(180, 6)
    folder = tmp_path_factory.mktemp("edit")
    np.save(folder / "X.npy", x)
    fmc.cluster(x, n_clusters=6, head="kmeans").save(folder / "run")
    return folder


def test_edits_are_made_in_order_by_the_numbers_of_the_report(folder, capsys):
    before = fmc.ClusterResult.load(folder / "run")
    row = int(before.ids[before.labels == 0][0])
    argv = ["--merge", "1,2", "--rename", "5=billing", "--split", 5, "--into", 3, "--dissolve", 4]
    argv += ["--move", f"{row}=7", "--embeddings", folder / "X.npy", "--out", folder / "run2"]
    assert run("edit", folder / "run", *argv, "--json") == 0
    payload = json.loads(capsys.readouterr().out)
    after = fmc.ClusterResult.load(folder / "run2")
    assert payload["n_clusters"] == after.n_clusters == 6 and payload["n_clusters_before"] == 6
    assert [edit["op"] for edit in after.edits] == ["merge", "rename", "split", "dissolve", "move"]
    # 5 went to 2 when 1 and 2 became one; the parts 6 and 7 are 5 and 6 then, 5 and 4 at last.
    assert after.edits[1] == {"op": "rename", "names": {"2": "billing"}}
    assert after.edits[2] == {"op": "split", "cluster": 2, "into": 3}
    assert payload["numbers"] == {"2": 1, "4": None, "5": 2, "6": 5, "7": 4}
    assert after.labels[row] == 4 and after.confidence[row] == 1
    assert after.names[2] == "billing / 1" and after.names[4:] == ("billing / 3", "billing / 2")
    kept = before.labels == 3
    assert (after.labels[kept] == 3).all()
    assert (folder / "run2" / "report.html").is_file()


def test_undo_takes_back_what_was_saved(folder, capsys):
    out = folder / "run3"
    assert run("edit", folder / "run", "--merge", "0,1", "--dissolve", 3, "--out", out) == 0
    assert "6 clusters are 4 now" in capsys.readouterr().out
    assert run("edit", out, "--undo", "--undo", "--no-report", "--out", folder / "run4") == 0
    before = fmc.ClusterResult.load(folder / "run")
    after = fmc.ClusterResult.load(folder / "run4")
    np.testing.assert_array_equal(before.proba, after.proba)
    assert after.edits == () and not (folder / "run4" / "report.html").exists()
    assert run("edit", folder / "run4", "--undo", "--out", folder / "run5") == 2
    assert "nothing to undo" in capsys.readouterr().err


def test_a_split_embeds_the_data_again_where_nothing_else_is_at_hand(folder, tmp_path):
    argv = ["edit", folder / "run", "--split", 0, "--no-report", "--out", tmp_path / "run"]
    assert run(*argv, "--data", folder / "X.npy") == 0
    assert fmc.ClusterResult.load(tmp_path / "run").n_clusters == 7
    np.save(tmp_path / "few.npy", np.load(folder / "X.npy")[:50])
    assert run(*argv, "--data", tmp_path / "few.npy") == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no edit was given"),
        (["--merge", "1,x"], "'x' is no cluster number"),
        (["--merge", "1,9"], r"cluster 9 is outside 0..5"),
        (["--merge", "1,2", "--merge", "1,2"], "named more than once"),
        (["--dissolve", "1", "--rename", "1=a"], "cluster 1 was dissolved"),
        (["--rename", "billing"], "write it as --rename 3=billing"),
        (["--move", "3"], "write it as --move ticket-4=6"),
        (["--move", "999=1"], "not among the 180 rows: 999"),
        (["--move", "x=1"], "ids here are whole numbers"),
        (["--into", "3"], "stands after no --split"),
        (["--split", "1"], "give --embeddings STORE, or --data"),
        (["--split", "1", "--data", "nowhere.npy"], "nowhere.npy: no such file"),
        (["--undo"], "nothing to undo"),
    ],
)
def test_wrong_usage_is_one_line_and_writes_nothing(folder, tmp_path, capsys, argv, message):
    assert run("edit", folder / "run", *argv, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") <= 2 and message in error
    assert not (tmp_path / "out").exists()


def test_options_become_a_log():
    given = [("split", "5"), ("into", "auto"), ("move", "a=b=4"), ("move", "c=4"), ("move", "d=2")]
    assert parse_steps([*given, ("rename", "3=x=y"), ("undo", "")]) == [
        {"op": "split", "cluster": 5, "into": "auto"},
        {"op": "move", "ids": ["a=b", "c"], "cluster": 4},
        {"op": "move", "ids": ["d"], "cluster": 2},
        {"op": "rename", "names": {3: "x=y"}},
        {"op": "undo"},
    ]


def test_numbers_follow_the_clusters_of_the_report():
    numbers = Numbers(5)
    steps = [Merge(((0, 1),), (None,)), Split(2, (0, 1)), Dissolve(1)]
    numbers.follow(steps, 5)
    # 4 -> 1 by the merge, gone at last; the new part 5 is 4 first and then takes 1.
    assert numbers.now == {0: 0, 1: 0, 2: 2, 3: 3, 5: 1}
    assert numbers.changed() == {"1": 0, "4": None, "5": 1}


def test_a_split_finds_the_array_that_was_clustered(blobs, tmp_path, monkeypatch, capsys):
    """And none that is another by now; no file of the result says where it lay."""
    monkeypatch.setenv("FMCLUSTER_CACHE", str(tmp_path / "cache"))
    x, _ = blobs(90, 3)
    for name, made in (("X.npy", x), ("store", None)):
        place = tmp_path / "mine" / name
        place.parent.mkdir(exist_ok=True)
        if made is not None:
            np.save(place, made)
        else:
            fmc.embed(x * 2, folder=place)
        out = tmp_path / f"run-{place.stem}"
        options = ("--n-clusters", 3, "--head", "kmeans", "--no-report", "--out", out)
        assert run("cluster", place, *options) == 0
        edit = ("edit", out, "--merge", "0,1", "--split", 2, "--no-report")
        assert run(*edit, "--out", tmp_path / "edited") == 0
        assert fmc.ClusterResult.load(tmp_path / "edited").n_clusters == 3
        for file in out.rglob("*"):
            assert file.is_dir() or str(tmp_path / "mine").encode() not in file.read_bytes()
    np.save(tmp_path / "mine" / "X.npy", x[::-1])
    capsys.readouterr()
    edit = ("edit", tmp_path / "run-X", "--split", 2, "--out", tmp_path / "none")
    assert run(*edit) == 2
    assert "neither in the cache nor where they were" in capsys.readouterr().err
    (tmp_path / "mine" / "X.npy").unlink()
    assert run(*edit) == 2 and not (tmp_path / "none").exists()
