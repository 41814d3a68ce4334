"""The app's end: at any moment it is clean, waits for what is computed, and not for ever."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers_app import Client

import fmcluster as fmc
from fmcluster.app.serve import serve
from fmcluster.app.session import Session

# One process that has imported everything; for every line it gets, an app is forked from it, which
# ends as a process of its own does, by Python's own way out.
APPS = """
import json, os, signal, sys, time
import pandas, pyarrow.dataset, pyarrow.parquet, safetensors.numpy
import uvicorn, uvicorn.protocols.http.h11_impl
import numpy as np
import torch
import fmcluster as fmc
from fmcluster.app import server, session, work
from fmcluster.cli.main import main
from fmcluster.heads import make_head
from fmcluster.vectors.rows import iter_blocks

def sleep(self):
    print("busy", flush=True)
    time.sleep(60)

def multiply(self):
    rows = np.random.default_rng(0).normal(size=(2_000, 64)).astype(np.float32)
    print("busy", flush=True)
    while True:
        for _, block in iter_blocks(rows, size=500):
            torch.mm(torch.from_numpy(block), torch.from_numpy(block.T))

make_head("auto"), fmc.ClusterResult
# A shell's background job begins with interrupts ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if not child:
        if order["busy"]:
            work.Work.catch_up = {"sleep": sleep, "multiply": multiply}[order["busy"]]
        print(os.getpid(), flush=True)
        sys.exit(main(order["words"]))
    print("exit", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def apps(tmp_path_factory):
    """Start `fmcluster app`: give the words, get (process number, what it says)."""
    pytest.importorskip("uvicorn")
    pytest.importorskip("starlette")
    told = tmp_path_factory.mktemp("apps") / "stderr"
    with told.open("w") as stderr:
        made = subprocess.Popen(
            [sys.executable, "-c", APPS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    made.told = told
    yield made
    made.stdin.close()
    made.wait(20)
    made.stdout.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run and its rows: enough that a fit of answers takes a second."""
    place = tmp_path_factory.mktemp("served")
    draw = np.random.default_rng(0)
    X = (np.eye(12)[np.arange(2_000) % 6] + 0.15 * draw.normal(size=(2_000, 12))).astype(np.float32)
    np.save(place / "X.npy", X)
    fmc.cluster(X, n_clusters=6, head="auto").save(place / "run")
    return place


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made"


def start(apps, folder, *, busy=None):
    """Start an app on the run in `folder` and return its process number and a client."""
    words = ["app", str(folder / "run"), "--no-browser", "--json"]
    words += ["--embeddings", str(folder / "X.npy")]
    apps.stdin.write(json.dumps({"words": words, "busy": busy}) + "\n")
    apps.stdin.flush()
    pid, url = int(apps.stdout.readline()), json.loads(apps.stdout.readline())["url"]
    address, token = url.split("/?token=")
    return pid, Client(int(address.rsplit(":", 1)[1]), token)


def ended(apps):
    """Return what an app said after its address, and its exit code."""
    said = []
    while not (line := apps.stdout.readline()).startswith("exit "):
        said.append(line)
    return "".join(said), int(line.split()[1])


# From loading to the middle of the fit that an answer begins.
@pytest.mark.parametrize("seconds", [None, 0.0, 0.1, 0.3])
def test_an_interrupt_at_any_moment_ends_it_well(apps, folder, seconds):
    pid, client = start(apps, folder)
    if seconds is not None:
        for row in range(4):
            assert client.act("label", rows=[row], label=f"class {row}")[0] == 200
        time.sleep(seconds)
    os.kill(pid, signal.SIGINT)
    said, code = ended(apps)
    assert code == 0, apps.told.read_text()
    assert json.loads(said) == {"result": str(folder / "run"), "stopped": True}
    if seconds is not None:
        assert len((folder / "run" / "answers.log").read_text().splitlines()) >= 4


def test_an_interrupt_before_requests_are_served_raises_nothing(folder):
    """Raised while two threads import, it left the lock of all imports taken."""
    said = []

    def say(url):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        said.append(url)

    def load():
        result = fmc.ClusterResult.load(folder / "run")
        return Session(result, folder / "run")

    before = signal.getsignal(signal.SIGINT)
    assert serve(folder / "run", load, port=0, open_browser=False, say=say)
    assert said and signal.getsignal(signal.SIGINT) is before


def test_no_thread_is_in_native_code_when_python_ends(apps, folder):
    pid, _ = start(apps, folder, busy="multiply")
    assert apps.stdout.readline() == "busy\n"
    os.kill(pid, signal.SIGINT)
    said, code = ended(apps)
    assert code == 0 and json.loads(said)["stopped"], apps.told.read_text()


def test_a_second_interrupt_does_not_wait(apps, folder):
    pid, client = start(apps, folder, busy="sleep")
    assert apps.stdout.readline() == "busy\n"
    assert client.act("label", rows=[0], label="first")[0] == 200
    before = len(apps.told.read_text())  # apps that ended earlier said it, too
    os.kill(pid, signal.SIGINT)
    until = time.monotonic() + 20
    while "Ctrl-C again" not in apps.told.read_text()[before:] and time.monotonic() < until:
        time.sleep(0.05)
    began = time.monotonic()
    os.kill(pid, signal.SIGINT)
    said, code = ended(apps)
    assert code == 130 and said == "" and time.monotonic() - began < 20
    assert "interrupted: what was answered is in answers.log" in apps.told.read_text()[before:]
    assert '"label":"first"' in (folder / "run" / "answers.log").read_text()
