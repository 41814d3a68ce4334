"""Helpers of the app's tests: a run on disk, a server on it, a client that asks it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import urllib.parse

import pytest

import fmcluster as fmc
from fmcluster.app.session import Session

HOSTILE = '</script><img src=x onerror="document.title=1">'
TOPICS = ("apple pie recipe", "football match score", "stock market price", "train bus ticket")


WORDS = ("red", "old", "big", "new", "good", "late")


def text_of(i):
    """The text of row i of a run of texts."""
    return f"{TOPICS[i % 4]} {WORDS[i % 6]} {WORDS[i % 5]} {i % 7}"


class Run:
    """A result in memory and on disk, with what it was made of."""

    def __init__(self, folder, result, y, texts):
        self.folder, self.result, self.y, self.texts = folder, result, y, texts
        self.ids = result.ids

    def session(self):
        """The result as it was made: what a fit needs is in memory, so that it is fast."""
        return Session(self.result, self.folder, source=self.texts)

    def reopened(self, *, embeddings=True):
        """The result as another process reads it."""
        result = fmc.ClusterResult.load(self.folder)
        if embeddings:
            result = result.attach(self.result.embeddings)
        return Session(result, self.folder, source=self.texts)


class Client:
    """A browser's requests, as few lines as can be."""

    def __init__(self, port, token):
        self.port, self.token = port, token
        self.url = f"http://127.0.0.1:{port}/?token={token}"

    def __call__(self, method, path, body=None, *, headers=None, token=True):
        sent = {"X-Fmcluster-Token": self.token} if token else {}
        if body is not None:
            sent["Content-Type"] = "application/json"
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        given = {**sent, **(headers or {})}
        connection.putrequest(method, path, skip_host="Host" in given)
        for key, value in given.items():
            connection.putheader(key, value)
        if body is not None and "Content-Length" not in given:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        is_json = answer.getheader("content-type", "").startswith("application/json")
        return answer, json.loads(content) if is_json else content

    def get(self, name, **query):
        answer, content = self("GET", f"/api/{name}?" + urllib.parse.urlencode(query))
        return answer.status, content

    def post(self, name, body):
        answer, content = self("POST", f"/api/{name}", body)
        return answer.status, content

    def act(self, op, **given):
        return self.post("act", {"op": op, **given})


@contextlib.contextmanager
def serving(session):
    """Serve a session on a free port in a thread, as `serve` does."""
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("starlette")
    from fmcluster.app.server import Host, create_app
    from fmcluster.app.work import Work

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    work = Work(session)
    work.start()
    client = Client(listener.getsockname()[1], "secret-token")
    app = create_app(Host(work), token=client.token, port=client.port)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield client
    finally:
        server.should_exit = True
        thread.join()
        work.stop()
        listener.close()
