"""The server: what it shows and does, and whom it refuses."""

import csv
import io
import time

import numpy as np
import pytest
from helpers_app import HOSTILE, serving

import fmcluster as fmc


@pytest.fixture(scope="module")
def client(made, tmp_path_factory):
    """A server whose state no test changes."""
    import shutil

    folder = tmp_path_factory.mktemp("server") / "run"
    shutil.copytree(made.folder, folder)
    held, made.folder = made.folder, folder
    session = made.session()
    made.folder = held
    with serving(session) as opened:
        yield opened


@pytest.fixture
def live(run):
    with serving(run.session()) as opened:
        opened.run = run
        yield opened


def settled(client, seconds=30):
    """Wait until all answers are taken in."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        _, state = client.get("state")
        if not state["pending"] and not state["busy"]:
            return state
        time.sleep(0.05)
    raise AssertionError(f"not taken in: {state}")


# -- whom it refuses


@pytest.mark.parametrize("path", ["/", "/api/state", "/api/points", "/api/nothing", "/docs"])
def test_nothing_of_the_data_without_the_token(client, path):
    answer, content = client("GET", path, token=False)
    assert answer.status == 403 and b"token" in content
    answer, _ = client("GET", path, token=False, headers={"X-Fmcluster-Token": "wrong"})
    assert answer.status == 403
    answer, _ = client("GET", f"{path}?token=secret-toke", token=False)
    assert answer.status == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", "localhost.evil:80", ""]
)
def test_another_host_name_is_refused(client, host):
    """DNS rebinding: the browser says the name that it was led by."""
    answer, content = client("GET", "/api/state", headers={"Host": host})
    assert answer.status == 403 and b"host" in content


def test_localhost_is_this_machine_too(client):
    answer, _ = client("GET", "/api/state", headers={"Host": f"localhost:{client.port}"})
    assert answer.status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "file://"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_page_of_another_origin_cannot_act_or_look(client, origin, method):
    body = None if method == "GET" else {"op": "undo"}
    path = "/api/state" if method == "GET" else "/api/act"
    answer, content = client(method, path, body, headers={"Origin": origin})
    assert answer.status == 403 and b"origin" in content
    assert answer.getheader("access-control-allow-origin") is None


def test_a_request_that_another_site_began_is_refused(client):
    answer, _ = client("GET", "/api/state", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status == 403
    own = {"Origin": f"http://127.0.0.1:{client.port}", "Sec-Fetch-Site": "same-origin"}
    answer, _ = client("GET", "/api/state", headers=own)
    assert answer.status == 200


def test_a_form_of_any_page_cannot_post(client):
    """Forms send no header of their own and none of these content types."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer, _ = client("POST", "/api/act", b'{"op":"undo"}', headers={"Content-Type": kind})
        assert answer.status == 415
    answer, _ = client("POST", f"/api/act?token={client.token}", {"op": "undo"}, token=False)
    assert answer.status == 403, "the address alone does not act"


def test_what_is_too_large_is_not_read(client):
    answer, _ = client("POST", "/api/act", b"", headers={"Content-Length": "4000001"})
    assert answer.status == 413
    answer, _ = client("POST", "/api/act", b"", headers={"Transfer-Encoding": "chunked"})
    assert answer.status == 413


@pytest.mark.parametrize(
    "name", ["../page.html", "..%2f..%2fserver.py", "%2e%2e/server.py", "page.html", "nothing.js"]
)
def test_no_other_file_is_given(client, name):
    answer, content = client("GET", f"/static/{name}")
    assert answer.status == 404 and b"import" not in content


def test_every_answer_binds_the_browser(client):
    for path in ("/", "/static/main.js", "/api/state", "/api/nothing"):
        answer, _ = client("GET", path)
        policy = answer.getheader("content-security-policy")
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.getheader("x-content-type-options") == "nosniff"
        assert answer.getheader("referrer-policy") == "no-referrer"
        assert answer.getheader("server") is None or "uvicorn" in answer.getheader("server")
        assert answer.getheader("set-cookie") is None


def test_the_page_has_no_script_of_its_own_and_no_foreign_address(client):
    _, page = client("GET", "/")
    for path in ("main.js", "ui.js", "map.js", "clusters.js", "rows.js", "label.js", "app.css"):
        answer, content = client("GET", f"/static/{path}", token=False)
        assert answer.status == 200
        for word in (b"innerHTML", b"insertAdjacentHTML", b"eval(", b"https://", b"http://"):
            assert word not in content, path
    assert b"<script>" not in page and b"style=" not in page and b" onclick" not in page
    assert b"http" not in page.replace(b"http-equiv", b"")


# -- what it shows


def test_the_state_and_the_clusters(client, made):
    _, state = client.get("state")
    assert state["rows"] == 160 and state["kind"] == "text" and state["word"] == "confidence"
    assert state["is_saved"] and not state["can_undo"] and state["can_answer"]
    _, told = client.get("clusters")
    assert [each["size"] for each in told["clusters"]] == [40] * 4
    assert all(len(each["examples"]) == 3 for each in told["clusters"])


def test_the_map_has_every_row_and_stays_where_it_is(client, made):
    _, content = client.get("points")
    points = np.frombuffer(content, "<u2").reshape(-1, 2)
    assert points.shape == (160, 2) and points.max() > 60_000
    _, again = client.get("points", quick=1)
    assert again == content
    _, colors = client.get("colors")
    labels = np.frombuffer(colors[: 4 * 160], "<i4")
    np.testing.assert_array_equal(labels, fmc.ClusterResult.load(made.folder).labels)
    assert len(colors) == 7 * 160 and set(colors[6 * 160 :]) == {0}


def test_levels_are_looked_at_without_a_change(client):
    _, found = client.get("levels")
    assert 4 in [each["n_clusters"] for each in found]
    _, told = client.get("level", n_clusters=2)
    assert sum(each["size"] for each in told) == 160 and len(told) == 2
    _, colors = client.get("colors", level=2)
    assert len(set(np.frombuffer(colors[: 4 * 160], "<i4").tolist())) == 2
    assert client.get("state")[1]["version"] == 0


def test_search_neighbors_and_outliers(client):
    _, found = client.get("search", words="football")
    assert len(found["rows"]) == 40
    _, rows = client.post("rows", {"rows": found["rows"]})
    assert all("football" in row["text"] for row in rows) and len(rows) == 40
    _, near = client.get("similar", row=5)
    assert near[0]["id"] == "t005" and near[1]["similarity"] >= near[-1]["similarity"]
    assert sum("football" in row["text"] for row in near[1:6]) == 5
    status, found = client.get("outliers", alpha=0.1)
    assert status == 200 and len(found["rows"]) <= 20


def test_rows_are_exported_without_formulas(client, made):
    _, content = client.post("table", {"rows": [0, 4, 5]})
    table = list(csv.DictReader(io.StringIO(content.decode())))
    assert [row["id"] for row in table] == ["t000", "t004", "t005"]
    assert table[1]["text"] == made.texts[4] and HOSTILE in table[1]["text"]
    from fmcluster.app.views import _harmless

    assert [_harmless(cell) for cell in ("=1+1", "@x", "-1", -1, "a=b")] == [
        "'=1+1", "'@x", "'-1", -1, "a=b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "name", "given"),
    [
        ("post", "rows", {"rows": [160]}),
        ("post", "rows", {"rows": [-1]}),
        ("post", "rows", {"rows": ["0"]}),
        ("post", "rows", {"rows": [[0]]}),
        ("post", "rows", {}),
        ("post", "act", {"op": "exec", "version": 0}),
        ("post", "act", {"op": "merge", "clusters": [0, 9], "version": 0}),
        ("post", "act", {"op": "merge", "clusters": "all", "version": 0}),
        ("post", "act", {"op": "merge", "clusters": [0, 1]}),
        ("post", "act", {"op": "label", "rows": [0], "label": 3}),
        ("post", "act", {"op": "label", "ids": "t000", "label": "x"}),
        ("post", "act", {"op": "label", "ids": ["t999"], "label": "x"}),
        ("post", "act", {"op": "label", "ids": [["t000"]], "label": "x"}),
        ("post", "act", {"op": "label", "rows": [0], "label": "\ud800"}),
        ("post", "act", {"op": "draw", "budget": 10, "accuracy": float("nan")}),
        ("post", "act", {"op": "draw", "budget": float("inf"), "accuracy": 0.9}),
        ("post", "act", {"op": "merge", "clusters": [0, 1], "version": float("inf")}),
        ("post", "act", {"op": "at_level", "n_clusters": float("inf"), "version": 0}),
        ("post", "act", {"op": "check", "ids": [], "label": "x"}),
        ("post", "act", {"op": [], "version": 0}),
        ("post", "act", {"op": "label", "ids": [1e300], "label": "x"}),
        ("post", "act", {"op": "label", "ids": [10**40], "label": "x"}),
        ("post", "act", {"op": "label", "rows": [10**40], "label": "x"}),
        ("post", "act", {"op": "label", "rows": [0, 0]}),
        ("get", "similar", {"row": "x"}),
        ("get", "level", {"n_clusters": 0}),
        ("get", "certificate", {}),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(client, method, name, given):
    status, told = client.get(name, **given) if method == "get" else client.post(name, given)
    assert status == 400 and told["error"] and "\n" not in told["error"]
    state = client.get("state")[1]
    assert state["version"] == 0 and state["answers"] == 0 and state["is_saved"]


def test_a_body_that_is_no_object_is_refused(client):
    deep = b"[" * 100_000 + b"]" * 100_000
    for body in (b"", b"[]", b"{", b"\xff", deep, b'{"op":' + deep + b"}"):
        answer, _ = client("POST", "/api/act", body)
        assert answer.status == 400


# -- what it does


def test_questions_answers_and_what_they_changed(live):
    _, rows = live.get("queue")
    assert rows
    seen = []
    for row in rows[:3]:
        name = live.run.texts[row["row"]].split()[0]
        status, state = live.act("label", rows=[row["row"]], label=name)
        seen.append(row["id"])
        assert status == 200 and state["answers"] == len(seen)
    log = (live.run.folder / "answers.log").read_text()
    assert all(one in log for one in seen)
    _, told = live.get("answered")
    assert [live.run.ids[row].item() for row in told["rows"]] == seen[::-1]
    _, rest = live.get("queue")
    assert not {row["id"] for row in rest} & set(seen)
    state = settled(live)
    assert state["changes"] and state["changes"][0]["after"]["accuracy"] > 0
    assert state["estimate"]["low"] <= state["estimate"]["accuracy"] <= state["estimate"]["high"]
    _, pair = live.get("pair")
    status, state = live.act("link", rows=[row["row"] for row in pair], same=False)
    assert (status, state["last"]) in ((200, "link"), (400, None))


def test_rows_may_be_given_by_their_ids(live):
    status, state = live.act("label", ids=["t000", "t004"], label="fruit")
    assert status == 200 and state["answers"] == 2
    _, colors = live.get("colors")
    assert np.flatnonzero(np.frombuffer(colors[6 * 160 :], np.uint8)).tolist() == [0, 4]
    assert '"ids":["t000","t004"]' in (live.run.folder / "answers.log").read_text()


def test_edits_undo_and_save(live):
    status, state = live.act("merge", clusters=[0, 1], name="both", version=0)
    assert status == 200 and state["figures"]["n_clusters"] == 3 and not state["is_saved"]
    status, told = live.act("merge", clusters=[0, 1], version=0)
    assert status == 409 and "have changed" in told["error"]
    assert live.act("move", rows=[0, 1], cluster=2, version=1)[0] == 200
    assert live.act("undo")[1]["last"] == "merge"
    status, state = live.act("save")
    assert status == 200 and state["is_saved"]
    saved = fmc.ClusterResult.load(live.run.folder)
    assert saved.n_clusters == 3 and "both" in saved.names
    assert [edit["op"] for edit in saved.edits] == ["merge"]


def test_a_sample_certifies(live):
    status, state = live.act("draw", budget=60, accuracy=0.9)
    assert status == 200 and state["sample"]["left"] == 60
    names = [each["name"] for each in live.get("clusters")[1]["clusters"]]
    while rows := live.get("queue", of="sample")[1]:
        for row in rows:
            live.act("check", rows=[row["row"]], label=names[row["label"]])
    _, found = live.get("certificate")
    assert found["n_labels"] == 60 and found["threshold"] is not None
    assert live.get("state")[1]["answers"] == 0
