"""Rows dropped on the app's page: taken in, kept in the run, there again when it is opened."""

import json

import numpy as np
import pytest
from helpers_app import serving, text_of

import fmcluster as fmc
from fmcluster.app import incoming
from fmcluster.app.edits import ConflictError
from fmcluster.app.layout import FULL
from fmcluster.app.session import Session
from fmcluster.app.work import Work

ODD = "quantum chromodynamics lattice gauge plasma"
# Copies of old rows under new ids: they fit what those fit.
OLD = [0, 4, 8, 12, 1, 5, 9, 13]
NEW = [text_of(i) for i in OLD]


@pytest.fixture
def grow(texts_run):
    return texts_run


def dropped(run, rows=NEW, *, name="new.csv", ids=None):
    """A batch with a table in it."""
    batch = incoming.new_batch(run.folder)
    names = [f"n{i}" for i in range(len(rows))] if ids is None else ids
    lines = ["id,text", *(f'{one},"{row}"' for one, row in zip(names, rows, strict=True))]
    path = incoming.place_of(run.folder, batch, name, run.result)
    path.write_text("\n".join(lines) + "\n")
    return batch


def test_new_rows_get_their_clusters_and_old_ones_keep_theirs(grow):
    session = grow.session()
    told = session.update(dropped(grow), column="text", id_column="id")
    assert told == {"first": 160, "rows": 8, "novel": 0, "left_out": 0}
    grown = session.result
    assert grown.ids[160:].tolist() == [f"n{i}" for i in range(8)]
    np.testing.assert_array_equal(grown.labels[:160], grow.result.labels)
    np.testing.assert_array_equal(grown.labels[160:], grow.result.labels[OLD])
    assert session.rows.show(np.array([0, 160]))[1] == {"text": NEW[0]}
    assert session.rows.find("n2").tolist() == [162]
    assert session.version == 1


def test_an_update_is_undone_like_any_action(grow):
    session = grow.session()
    session.update(dropped(grow), column="text", id_column="id")
    session.label(["n0"], "pie")
    assert session.undo() == "label" and session.undo() == "update"
    assert session.result is grow.result and session.rows.find("n2").size == 0
    session.update(dropped(grow, ["stock market crash"] * 2), column="text", id_column="id")
    assert session.rows.show(np.array([160]))[0] == {"text": "stock market crash"}


def test_answers_to_new_rows_are_taken_in(grow):
    session = grow.session()
    session.update(dropped(grow), column="text", id_column="id")
    session.label(["n0", "n1"], "pie")
    session.label(["n5"], "ball")
    assert session.take_in(), session.problem
    assert session.result.n_rows == 168
    assert session.result.answers.labels == {"n0": "pie", "n1": "pie", "n5": "ball"}


def test_it_is_done_again_after_a_crash(grow):
    session = grow.session()
    batch = dropped(grow)
    session.update(batch, column="text", id_column="id")
    again = grow.reopened()
    assert again.lost == []
    np.testing.assert_array_equal(again.result.labels, session.result.labels)
    assert again.result.ids.tolist() == session.result.ids.tolist()


def test_a_saved_run_that_grew_opens_with_texts_and_embeddings(grow):
    session = grow.session()
    for rows in (NEW, ["train bus ticket late"] * 3):
        ids = [f"{len(rows)}-{i}" for i in range(len(rows))]
        session.update(dropped(grow, rows, ids=ids), column="text", id_column="id")
    session.save()
    saved = fmc.ClusterResult.load(grow.folder)
    assert incoming.rows_before(saved, grow.folder) == 160
    whole = incoming.rejoined(saved, grow.result.embeddings, grow.folder)
    np.testing.assert_allclose(
        np.asarray(whole.embeddings), np.asarray(session.result.embeddings), atol=1e-6
    )
    source = incoming.source_of(whole, grow.texts, grow.folder)
    opened = Session(whole, grow.folder, source=source)
    assert opened.rows.show(np.array([0, 160, 170])) == [
        {"text": grow.texts[0]},
        {"text": NEW[0]},
        {"text": "train bus ticket late"},
    ]
    fewer = np.asarray(whole.embeddings)[:150]
    assert incoming.rejoined(saved, fewer, grow.folder) is None


def test_what_fits_nothing_is_novel_or_makes_a_cluster(grow):
    session = grow.session()
    odd = [f"{ODD} {word}" for word in "alpha beta gamma delta epsilon zeta eta theta".split()]
    told = session.update(dropped(grow, [*NEW, *odd]), column="text", id_column="id")
    assert told["novel"] == session.result.novel.size > 0
    labels = session.result.labels[160:]
    assert (labels[:8] >= 0).all() and (labels[8:] < 0).any()


def test_rows_without_ids_are_named(grow):
    session = grow.session()
    batch = incoming.new_batch(grow.folder)
    path = incoming.place_of(grow.folder, batch, "lines.txt", grow.result)
    path.write_text("apple pie recipe one\nfootball match score two\n")
    session.update(batch)
    assert session.result.ids[160:].tolist() == [f"{batch}-0", f"{batch}-1"]


def test_known_rows_are_left_out_and_told(grow):
    session = grow.session()
    batch = dropped(grow, NEW[:3], ids=["t003", "x1", "x2"])
    told = session.update(batch, column="text", id_column="id")
    assert told["rows"] == 2 and told["left_out"] == 1


def test_files_go_by_their_name_into_their_batch_and_nowhere_else(grow):
    batch = incoming.new_batch(grow.folder)
    inside = incoming.place_of(grow.folder, batch, "a b.csv", grow.result)
    assert inside.parent == grow.folder / "incoming" / batch / "rows"
    for name in (
        "../up.csv",
        "a/b.csv",
        "a\\b.csv",
        ".hidden.csv",
        "nul\0.csv",
        "x" * 300 + ".csv",
        "\U0001f600" * 60 + ".csv",  # 64 letters, and more bytes than a file system takes
    ):
        with pytest.raises(ValueError, match="name of a file"):
            incoming.place_of(grow.folder, batch, name, grow.result)
    with pytest.raises(ValueError, match=r"'evil.exe' is no file that this run takes: .csv"):
        incoming.place_of(grow.folder, batch, "evil.exe", grow.result)
    for other in ("..", "0" * 15, "../" + batch, "0123456789abcdef"):
        with pytest.raises(ValueError, match="no batch"):
            incoming.place_of(grow.folder, other, "a.csv", grow.result)
    inside.write_text("id,text\n")
    with pytest.raises(ValueError, match="two files are called"):
        incoming.place_of(grow.folder, batch, "a b.csv", grow.result)


def test_links_in_a_run_of_somebody_elses_lead_nowhere(grow, tmp_path):
    outside = tmp_path / "outside"
    batch = "0123456789abcdef"
    (outside / batch / "rows").mkdir(parents=True)
    (outside / batch / "rows" / "mine.csv").write_text("keep")
    folder = grow.folder / "incoming"
    folder.mkdir(exist_ok=True)
    (folder / batch).symlink_to(outside / batch)
    grow.session()  # sweeps what was not taken in
    with pytest.raises(ValueError, match="no batch"):
        incoming.place_of(grow.folder, batch, "a.csv", grow.result)
    (folder / batch).unlink()
    folder.rmdir()
    folder.symlink_to(outside)
    with pytest.raises(ValueError, match="is a link"):
        grow.session()
    with pytest.raises(ValueError, match="is a link"):
        incoming.new_batch(grow.folder)
    assert [path.name for path in outside.iterdir()] == [batch]
    assert (outside / batch / "rows" / "mine.csv").read_text() == "keep"


def test_what_was_not_taken_in_is_swept_away(grow):
    session = grow.session()
    kept, left = dropped(grow), dropped(grow)
    session.update(kept, column="text", id_column="id")
    grow.reopened()
    assert [path.name for path in (grow.folder / "incoming").iterdir()] == [kept]
    assert not (grow.folder / "incoming" / left).exists()
    waiting = dropped(grow)
    session.undo()
    session.save()
    assert [path.name for path in (grow.folder / "incoming").iterdir()] == [waiting]


def test_one_line_says_why_rows_cannot_be_taken(grow, run):
    with pytest.raises(ValueError, match="made from embeddings and has no encoder"):
        incoming.take(run.result, run.folder, "0" * 16)
    opened = grow.reopened(embeddings=False)
    with pytest.raises(ValueError, match="start the app with --embeddings"):
        opened.update("0" * 16)
    session = grow.session()
    with pytest.raises(ValueError, match="no such|no column|nothing"):
        session.update(dropped(grow), column="nothing")
    batch = dropped(grow)
    dropped_too = incoming.place_of(grow.folder, batch, "two.csv", grow.result)
    dropped_too.write_text("id,text\n1,a\n")
    with pytest.raises(ValueError, match="one table at a time"):
        session.update(batch)
    assert session.result is grow.result and not session.actions


def test_an_edit_meanwhile_is_not_lost(grow, monkeypatch):
    session = grow.session()
    take = incoming.take

    def slow(*args, **given):
        found = take(*args, **given)
        session.edit("merge", {"clusters": [0, 1]})
        return found

    monkeypatch.setattr(incoming, "take", slow)
    with pytest.raises(ConflictError):
        session.update(dropped(grow), column="text", id_column="id")
    assert session.result.n_clusters == 3 and session.result.n_rows == 160


def test_old_points_stay_and_new_rows_lie_among_their_neighbors(grow):
    session = grow.session()
    work = Work(session)
    before = work.points().copy()
    session.update(dropped(grow), column="text", id_column="id")
    after = work.points()
    assert len(after) == 168
    np.testing.assert_array_equal(after[:160], before)
    for row in range(160, 168):
        own = before[session.result.labels[:160] == session.result.labels[row]].astype(float)
        far = np.abs(own.mean(axis=0) - after[row]).max()
        assert far < max(np.ptp(own, axis=0).max(), 0.05 * FULL)
    session.undo()
    np.testing.assert_array_equal(work.points(), before)


def test_a_file_is_sent_and_taken_in_over_http(grow):
    table = "id,text\n" + "".join(f'n{i},"{row}"\n' for i, row in enumerate(NEW))
    kind = {"Content-Type": "application/octet-stream"}
    with serving(grow.session()) as client:
        answer, told = client("POST", "/api/file?name=new.csv", table.encode(), headers=kind)
        assert answer.status == 200
        given = {"batch": told["batch"], "column": "text", "id_column": "id", "new_clusters": ""}
        status, state = client.act("update", **given)
        assert status == 200 and state["rows"] == 168
        assert state["added"]["rows"] == 8 and state["last"] == "update"
        status, found = client.get("added", first=160)
        assert found["rows"] == list(range(160, 168))
        status, points = client.get("points")
        assert len(points) == 168 * 4
        status, reason = client.act("update", **given)
        assert status == 400 and "already in the result" in reason["error"]
        log = (grow.folder / "answers.log").read_text()
        assert json.loads(log.splitlines()[0])["op"] == "update"
        wrong = client("POST", "/api/file?name=..%2Fx.csv", b"x", headers=kind)[0]
        assert wrong.status == 400 and not (grow.folder.parent / "x.csv").exists()
        other = client("POST", "/api/file?name=x.csv", b"x", headers=kind, token=False)[0]
        assert other.status == 403
        plain = client("POST", "/api/file?name=x.csv", b"x", headers={"Content-Type": "text/plain"})
        assert plain[0].status == 415
        large = {**kind, "Content-Length": "400000000"}
        assert client("POST", "/api/file?name=x.csv", b"x", headers=large)[0].status == 413
        assert client.post("discard", {"batch": "../.."})[0] == 400
