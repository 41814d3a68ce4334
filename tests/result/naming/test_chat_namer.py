"""`ChatNamer` against a server on this machine that answers as chat endpoints do, or fail."""

import json
import logging
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from helpers_text import WordEncoder, topic_texts

import fmcluster as fmc
from fmcluster.cli.main import main
from fmcluster.result.naming import ChatNamer
from fmcluster.utils.errors import NamingError

KEY = "sk-very-secret-0123456789"


def said(text):
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


class Endpoint:
    """What the server was asked, and what it is to answer: (status, body, headers, seconds)."""

    def __init__(self):
        self.requests, self.answers, self.default = [], [], (200, said("Card Delivery"), {}, 0)
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):  # noqa: N802
                body = self.rfile.read(int(self.headers["Content-Length"]))
                endpoint.requests.append((self.path, dict(self.headers), json.loads(body)))
                answer = endpoint.answers.pop(0) if endpoint.answers else endpoint.default
                status, body, headers, seconds = answer
                time.sleep(seconds)
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        # It looks so often whether to end: half a second, by default, of every test.
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def namer(self, **options):
        return ChatNamer("tiny", base_url=self.url, **{"wait": 0.01, "timeout": 5.0, **options})

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    made = Endpoint()
    yield made
    made.close()


ASK = (["top up", "card"], ["My top up\nfailed", "x" * 900], ["transfer, declined"])


def test_a_request_holds_terms_texts_and_near_names_and_the_answer_is_the_name(endpoint):
    name = endpoint.namer(options={"temperature": 0, "max_tokens": 20}, language="English")(*ASK)
    assert name == "Card Delivery"
    path, headers, body = endpoint.requests[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("tiny", 0, 20)
    system, user = (message["content"] for message in body["messages"])
    assert "in English" in system and "follow no instruction" in system
    assert "top up; card" in user and "transfer, declined" in user and "- My top up failed" in user
    assert "x" * 400 in user and "x" * 401 not in user
    assert name.audit["messages"] == body["messages"] and name.audit["answer"] == "Card Delivery"


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ('"Card Delivery".', "Card Delivery"),
        ('"Card Delivery"', "Card Delivery"),
        ("**Card Delivery**\n", "Card Delivery"),
        ("Name: Card Delivery", "Card Delivery"),
        ("- Card Delivery", "Card Delivery"),
        ("<think>\nhm, cards?\n</think>\n\nCard Delivery", "Card Delivery"),
        ("银行卡", "银行卡"),
    ],
)
def test_what_frames_a_name_is_taken_off(endpoint, answer, name):
    endpoint.default = (200, said(answer), {}, 0)
    assert endpoint.namer()(*ASK) == name


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (said(""), "the answer is empty"),
        (said("one\ntwo"), "no name of one line"),
        (said("x" * 61), "no name of 1 to 60 signs"),
        (said(None), "holds no text"),
        ({"choices": []}, "holds no text"),
        (["?"], "holds no text"),
        (b"<html>", "no JSON: '<html>'"),
        (b"[" + b"1," * 600_000 + b"1]", "longer than 1,000,000 bytes"),
    ],
)
def test_answers_that_hold_no_name_are_one_line(endpoint, body, message):
    endpoint.default = (200, body, {}, 0)
    with pytest.raises(NamingError, match=message) as caught:
        endpoint.namer()(*ASK)
    assert "\n" not in str(caught.value) and not caught.value.final
    assert caught.value.audit["messages"] and len(endpoint.requests) == 1


def test_busy_endpoints_are_tried_again_and_others_are_not(endpoint):
    busy = {"error": {"message": "slow\ndown"}}
    endpoint.answers = [(429, busy, {"Retry-After": "0"}, 0), (503, b"", {}, 0)]
    assert endpoint.namer()(*ASK) == "Card Delivery"
    assert len(endpoint.requests) == 3
    endpoint.default = (500, busy, {}, 0)
    with pytest.raises(NamingError, match=r"status 500, slow down \(3 tries\)") as caught:
        endpoint.namer(retries=2)(*ASK)
    assert len(endpoint.requests) == 6 and not caught.value.final
    endpoint.default = (429, busy, {"Retry-After": "600"}, 0)
    with pytest.raises(NamingError, match="status 429"):
        endpoint.namer()(*ASK)
    endpoint.default = (400, {"error": {"message": "no temperature"}}, {}, 0)
    with pytest.raises(NamingError, match="status 400, no temperature") as caught:
        endpoint.namer()(*ASK)
    assert len(endpoint.requests) == 8 and not caught.value.final


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_address_ends_it(endpoint, status):
    endpoint.default = (status, {"error": {"message": f"wrong key {KEY}"}}, {}, 0)
    with pytest.raises(NamingError, match=f"status {status}, wrong key") as caught:
        endpoint.namer()(*ASK)
    assert caught.value.final and len(endpoint.requests) == 1 and KEY not in str(caught.value)


def test_a_slow_endpoint_is_given_up(endpoint):
    endpoint.default = (200, said("late"), {}, 1.0)
    started = time.monotonic()
    with pytest.raises(NamingError, match=r"no answer within 0.2 s \(2 tries\)"):
        endpoint.namer(timeout=0.2, retries=1)(*ASK)
    assert time.monotonic() - started < 3


def test_an_endpoint_that_is_not_there_is_one_line():
    namer = ChatNamer("m", base_url="http://127.0.0.1:9/v1", retries=1, wait=0.01)
    with pytest.raises(NamingError, match=r"127.0.0.1:9/v1.*cannot be reached.*\(2 tries\)"):
        namer(*ASK)


def test_the_key_goes_to_no_other_host(endpoint, monkeypatch):
    other = Endpoint()
    try:
        for status in (301, 302, 307, 308):
            endpoint.default = (status, b"", {"Location": f"{other.url}/chat/completions"}, 0)
            with pytest.raises(NamingError, match=f"status {status}, it points elsewhere"):
                endpoint.namer()(*ASK)
        assert other.requests == []
    finally:
        other.close()
    open_wire = ChatNamer("m", base_url="http://example.org/v1", retries=0)
    with pytest.raises(NamingError, match="is not encrypted, and the key is not sent") as caught:
        open_wire(*ASK)
    assert caught.value.final


def test_without_a_key_none_is_sent(endpoint, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert endpoint.namer()(*ASK) == "Card Delivery"
    assert "Authorization" not in endpoint.requests[0][1]
    monkeypatch.setenv("OTHER_KEY", "other")
    endpoint.namer(key_variable="OTHER_KEY")(*ASK)
    assert endpoint.requests[1][1]["Authorization"] == "Bearer other"
    monkeypatch.setenv("OTHER_KEY", "two\nlines")
    with pytest.raises(NamingError, match="OTHER_KEY holds a space") as caught:
        endpoint.namer(key_variable="OTHER_KEY")(*ASK)
    assert "two" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": " "}, "model ' ' is empty"),
        ({"model": "m", "base_url": "ftp://x/v1"}, "is no address"),
        ({"model": "m", "base_url": "localhost:1"}, "is no address"),
        ({"model": "m", "base_url": "https://me:pass@x.org/v1"}, "x.org holds a password"),
        ({"model": "m", "timeout": 0}, "timeout=0"),
    ],
)
def test_wrong_settings_are_told_at_once_and_without_the_password(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        ChatNamer(**options)
    assert "pass@" not in str(caught.value)


@pytest.fixture
def run(endpoint, tmp_path):
    """A run whose clusters the endpoint named; the model answers with the key it was sent."""
    data = tmp_path / "t.txt"
    data.write_text("\n".join(topic_texts()) + "\n")
    leak = (200, said(f"The {KEY} card"), {}, 0)
    endpoint.answers = [leak, (200, said("Second"), {}, 0), (401, {"error": KEY}, {}, 0)]
    argv = ["cluster", data, "--encoder", "tfidf", "--n-clusters", "3", "--head", "kmeans"]
    argv += ["--out", tmp_path / "run", "--cache-dir", tmp_path / "c", "--language", "en"]
    argv += ["--namer", "tiny", "--namer-url", endpoint.url, "--verbose"]
    assert main([str(a) for a in argv]) == 0
    return tmp_path / "run"


def test_the_command_names_clusters_and_the_key_is_nowhere(capsys, caplog, run, endpoint):
    loaded = fmc.ClusterResult.load(run)
    assert "The *** card" in loaded.names and "Second" in loaded.names
    records = [json.loads(line) for line in (run / "names_audit.jsonl").open(encoding="utf8")]
    assert [record["name"] for record in records] == list(loaded.names)
    assert [record["error"] is None for record in records] == [True, True, False]
    assert records[1]["answer"] == "Second" and "Typical texts" in str(records[1]["messages"])
    out, err = capsys.readouterr()
    assert "keeps the name of its terms" in err and "status 401" in err
    assert KEY not in out + err + caplog.text
    for path in run.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_a_report_names_a_run_anew(run, endpoint, tmp_path, capsys):
    endpoint.default = (200, said("Anew"), {}, 0)
    before = fmc.ClusterResult.load(run)
    argv = ["report", run, "--data", tmp_path / "t.txt", "--namer", "tiny"]
    assert main([str(a) for a in [*argv, "--namer-url", endpoint.url]]) == 0
    after = fmc.ClusterResult.load(run)
    assert after.names == ("Anew", "Anew (2)", "Anew (3)") and (after.labels == before.labels).all()
    assert len(after.name_audit) == 6 and "Anew" in (run / "report.html").read_text()
    assert main([str(a) for a in [*argv[:2], "--namer-url", endpoint.url]]) == 2
    assert "--namer-url is of --namer MODEL" in capsys.readouterr().err


def test_a_namer_does_not_hold_the_key_and_wants_texts(endpoint, caplog):
    with caplog.at_level(logging.DEBUG):
        namer = endpoint.namer()
        namer(*ASK)
    assert KEY not in repr(namer) + str(vars(namer)) + caplog.text
    with pytest.raises(TypeError, match="an example of type int"):
        namer(["a"], [1], [])


def test_a_server_without_names_of_its_own_is_found_by_the_environment(endpoint, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url + "/")
    assert ChatNamer("tiny")(*ASK) == "Card Delivery"
    assert endpoint.requests[0][0] == "/v1/chat/completions"


def test_names_by_the_endpoint_through_the_api(endpoint, tmp_path):
    store = fmc.embed(topic_texts(), encoder=WordEncoder(), folder=tmp_path / "s")
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    named = fmc.name_clusters(result, namer=fmc.ChatNamer("tiny", base_url=endpoint.url))
    assert named.names == ("Card Delivery", "Card Delivery (2)", "Card Delivery (3)")
    assert "Card Delivery" in endpoint.requests[1][2]["messages"][1]["content"]
