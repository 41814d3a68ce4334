"""`fmcluster app`: starts, is alone on its run, stops with all kept; says what is missing."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest

import fmcluster as fmc
from fmcluster.cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    draw = np.random.default_rng(0)
    X = (np.eye(6)[np.arange(90) % 3] + 0.1 * draw.normal(size=(90, 6))).astype(np.float32)
    place = tmp_path_factory.mktemp("app")
    fmc.cluster(X, n_clusters=3, head="auto").save(place / "run")
    np.save(place / "X.npy", X)
    (place / "X.csv").write_text("text\n" + "\n".join(f"row {i}" for i in range(90)))
    return place


def ask(url, path, body=None):
    address, token = url.split("/?token=")
    request = urllib.request.Request(f"{address}/api/{path}", headers={"X-Fmcluster-Token": token})
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_it_serves_a_run_to_this_machine_until_interrupted(folder):
    pytest.importorskip("uvicorn")
    pytest.importorskip("starlette")
    command = [sys.executable, "-m", "fmcluster", "app", str(folder / "run"), "--no-browser"]
    command += ["--embeddings", str(folder / "X.npy"), "--data", str(folder / "X.csv"), "--json"]
    app = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        url = json.loads(app.stdout.readline())["url"]
        assert url.startswith("http://127.0.0.1:") and len(url.split("token=")[1]) >= 40
        state = ask(url, "state")
        assert state["rows"] == 90 and state["can_answer"] and state["kind"] == "text"
        assert ask(url, "act", {"op": "label", "rows": [0], "label": "first"})["answers"] == 1
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(url.split("?")[0] + "api/state")
        again = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert again.returncode == 2 and "open in another app" in again.stderr
        app.send_signal(signal.SIGINT)
        out, err = app.communicate(timeout=30)
    finally:
        app.kill()
    assert app.returncode == 0 and json.loads(out)["stopped"], err
    assert '"label":"first"' in (folder / "run" / "answers.log").read_text()


@pytest.mark.parametrize("missing", ["uvicorn", "starlette"])
def test_what_is_not_installed_is_one_line(folder, capsys, monkeypatch, missing):
    pytest.importorskip("uvicorn")
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["app", str(folder / "run"), "--no-browser"]) == 1
    err = capsys.readouterr().err
    assert err == f"error: {missing} is not installed: run `pip install 'fmcluster[app]'`\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["nowhere"], "holds no result"),
        (["RUN", "--data", "nowhere.csv"], "nowhere.csv: no such file"),
        (["RUN", "--embeddings", "nowhere.npy"], "nowhere.npy: no such file"),
        (["RUN", "--port", "-3"], "port -3 cannot be had"),
    ],
)
def test_wrong_usage_is_one_line(folder, capsys, given, said):
    pytest.importorskip("uvicorn")
    given = [str(folder / "run") if word == "RUN" else word for word in given]
    assert main(["app", *given, "--no-browser"]) == 2
    err = capsys.readouterr().err
    assert said in err and err.startswith("error: ") and err.count("\n") <= 2


def test_a_run_that_cannot_be_opened_ends_the_app(folder, capsys, tmp_path):
    pytest.importorskip("uvicorn")
    np.save(tmp_path / "few.npy", np.zeros((5, 6), np.float32))
    given = [str(folder / "run"), "--embeddings", str(tmp_path / "few.npy"), "--no-browser"]
    assert main(["app", *given]) == 2
    assert "5 rows" in capsys.readouterr().err
