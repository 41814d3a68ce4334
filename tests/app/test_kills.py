"""Kills in the middle of answers: what was acknowledged is there afterwards, all of it."""

import http.client
import os
import random
import signal
import subprocess
import sys
import threading

import pytest
from helpers_app import Client

# One process that has imported everything; for every line it gets, a server is forked from it.
SERVERS = """
import os, socket, sys
import pandas, pyarrow.dataset, pyarrow.parquet, safetensors.numpy
import uvicorn, uvicorn.protocols.http.h11_impl
import fmcluster as fmc
from fmcluster.app.server import Host, create_app
from fmcluster.app.session import Session
from fmcluster.app.work import Work
from fmcluster.heads import make_head

make_head("auto"), fmc.ClusterResult
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        session = Session(fmc.ClusterResult.load(line.strip()), line.strip())
        port = listener.getsockname()[1]
        app = create_app(Host(Work(session)), token="secret-token", port=port)
        print(os.getpid(), port, len(session.wanted), flush=True)
        config = uvicorn.Config(app, log_level="critical", lifespan="off", http="h11", ws="none")
        uvicorn.Server(config).run(sockets=[listener])
        os._exit(0)
    os.waitpid(child, 0)
"""
KILLS = 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_twenty_kills_lose_no_acknowledged_answer(run):
    pytest.importorskip("uvicorn")
    pytest.importorskip("starlette")
    servers = subprocess.Popen(
        [sys.executable, "-c", SERVERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    draw = random.Random(0)
    acknowledged, sent = {}, 0
    try:
        assert servers.stdout.readline() == "ready\n"
        for _ in range(KILLS):
            servers.stdin.write(f"{run.folder}\n")
            servers.stdin.flush()
            pid, port, known = map(int, servers.stdout.readline().split())
            assert len(acknowledged) <= known <= sent, "lost, or made up"
            client = Client(port, "secret-token")
            killer = threading.Timer(draw.uniform(0, 0.06), os.kill, (pid, signal.SIGKILL))
            try:
                while True:  # a fast machine goes through the rows more than once
                    row = sent % len(run.ids)
                    one, name = run.ids[row].item(), f"class {run.y[row]}"
                    sent += 1
                    if client.act("label", rows=[row], label=name)[0] == 200:
                        acknowledged[one] = name
                    if not killer.ident:  # once it answers
                        killer.start()
            except (OSError, ValueError, http.client.HTTPException):
                pass  # it died
            killer.join()
    finally:
        servers.stdin.close()
        servers.wait(20)
        servers.stdout.close()
    assert len(acknowledged) >= KILLS
    session = run.reopened()
    assert acknowledged.items() <= session.wanted.labels.items()
    assert len(session.wanted) <= sent and session.lost == []
