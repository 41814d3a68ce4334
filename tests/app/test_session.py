"""A session without HTTP: each action, what it wrote, what comes back after a crash."""

import json

import numpy as np
import pytest

import fmcluster as fmc
from fmcluster.app.edits import ConflictError


def log_of(run):
    return [json.loads(line) for line in (run.folder / "answers.log").read_text().splitlines()]


def ids_of(session, cluster, count=2):
    return session.result.ids[np.flatnonzero(session.result.labels == cluster)[:count]].tolist()


def test_an_answer_is_on_the_disk_before_it_is_taken_in(run):
    session = run.session()
    session.label(["t000"], "food")
    assert log_of(run) == [{"op": "label", "ids": ["t000"], "label": "food"}]
    assert session.n_pending == 1 and session.result.answers.labels == {}
    assert session.take_in()
    assert session.result.answers.labels == {"t000": "food"}
    row = session.result.rows_of(["t000"])[0]
    assert session.result.names[session.result.labels[row]] == "food"
    assert session.changes[-1]["answers"] == 1
    assert log_of(run)[-1] == {"op": "fit", "answers": 1}
    assert not session.take_in(), "nothing is left to do"


def test_links_are_taken_in(run):
    session = run.session()
    session.link(["t000", "t004"], same=True)
    session.link(["t000", "t001"], same=False)
    assert session.take_in()
    labels = dict(zip(session.result.ids, session.result.labels, strict=True))
    assert labels["t000"] == labels["t004"] != labels["t001"]


@pytest.mark.parametrize(
    ("ids", "label", "match"),
    [(["t999"], "x", "t999"), (["t000"], "  ", "no name"), ([], "x", "no rows")],
)
def test_a_bad_answer_changes_nothing(run, ids, label, match):
    session = run.session()
    with pytest.raises(ValueError, match=match):
        session.label(ids, label)
    assert session.n_pending == 0 and not (run.folder / "answers.log").exists()
    assert session.is_saved and not session.actions


def test_a_contradiction_is_refused_and_not_logged(run):
    session = run.session()
    session.label(["t000"], "food")
    with pytest.raises(ValueError, match="answered 'food' before"):
        session.label(["t000"], "sport")
    assert len(log_of(run)) == 1


def test_every_edit_goes_through_the_result_and_back(run):
    session = run.session()
    start = session.result
    moved = ids_of(session, 0, 1)
    edits = [
        ("rename", {"cluster": 0, "name": "zero"}),
        ("move", {"ids": moved, "cluster": 1}),
        ("merge", {"clusters": [0, 1]}),
        ("split", {"cluster": 0, "into": 2}),
        ("dissolve", {"cluster": 3}),
        ("at_level", {"n_clusters": 2}),
    ]
    counts = []
    for op, given in edits:
        session.edit(op, given, version=session.version)
        counts.append(session.result.n_clusters)
    assert counts == [4, 4, 3, 4, 3, 2]
    assert [entry["op"] for entry in log_of(run)] == [op for op, _ in edits]
    assert session.version == 6
    for op, _ in reversed(edits):
        assert session.undo() == op
    np.testing.assert_array_equal(session.result.labels, start.labels)
    np.testing.assert_array_equal(session.result.proba, start.proba)
    assert session.result.names == start.names
    with pytest.raises(ValueError, match="nothing to undo"):
        session.undo()


def test_an_edit_of_other_clusters_than_were_seen_is_refused(run):
    session = run.session()
    session.edit("rename", {"cluster": 0, "name": "zero"}, version=0)
    with pytest.raises(ConflictError, match="have changed"):
        session.edit("merge", {"clusters": [0, 1]}, version=0)
    assert session.result.n_clusters == 4 and len(log_of(run)) == 1


@pytest.mark.parametrize(
    ("op", "given", "match"),
    [
        ("merge", {"clusters": [0]}, "two"),
        ("merge", {}, "lacks"),
        ("split", {"cluster": 9}, "outside"),
        ("rename", {"cluster": 0, "name": " "}, "empty"),
        ("drop table", {}, "not known"),
        ("at_level", {"n_clusters": 4}, "changes nothing"),
    ],
)
def test_a_bad_edit_changes_nothing(run, op, given, match):
    session = run.session()
    before = session.result
    with pytest.raises((ValueError, TypeError), match=match):
        session.edit(op, given, version=0)
    assert session.result is before and not (run.folder / "answers.log").exists()


def test_undo_takes_an_answer_back_before_and_after_it_was_taken_in(run):
    session = run.session()
    start = session.result
    session.label(["t000"], "food")
    assert session.undo() == "label"
    assert session.n_pending == 0 and session.result is start
    session.label(["t001"], "sport")
    session.label(["t002"], "money")
    session.take_in()
    session.undo()
    assert session.n_pending == 1 and session.wanted.labels == {"t001": "sport"}
    session.take_in()
    assert session.result.answers.labels == {"t001": "sport"}


def test_a_fit_that_an_edit_overtook_is_begun_again(run, monkeypatch):
    from fmcluster.app import session as module

    session, fit = run.session(), module.with_answers
    session.label(["t000"], "food")
    other = int(session.result.labels[1])  # of another topic

    def overtaken(base, wanted):
        monkeypatch.setattr(module, "with_answers", fit)
        found = fit(base, wanted)
        session.edit("rename", {"cluster": other, "name": "meanwhile"}, version=0)
        return found

    monkeypatch.setattr(module, "with_answers", overtaken)
    assert not session.take_in(), "what it began from is no more"
    assert session.take_in()
    assert {"food", "meanwhile"} <= set(session.result.names)


def test_answers_without_embeddings_are_kept_and_said_to_wait(run):
    session = run.reopened(embeddings=False)
    session.label(["t000"], "food")
    assert not session.take_in()
    assert "--embeddings" in session.problem
    again = run.reopened()
    assert again.take_in() and again.result.answers.labels == {"t000": "food"}


def test_a_crash_loses_nothing(run):
    session = run.session()
    session.label(["t000"], "food")
    session.take_in()
    session.edit("merge", {"clusters": [0, 1], "name": "both"}, version=session.version)
    session.label(["t001"], "sport")
    session.link(["t000", "t004"], same=True)
    session.undo()
    session.edit("rename", {"cluster": 0, "name": "again"}, version=session.version)
    again = run.reopened()  # nothing was saved
    assert again.lost == []
    np.testing.assert_array_equal(again.result.labels, session.result.labels)
    assert again.result.names == session.result.names
    assert again.wanted.labels == session.wanted.labels == {"t000": "food", "t001": "sport"}
    assert len(again.wanted.must_link) == 0
    assert again.n_pending == 1 and again.take_in()


def test_an_edit_whose_clusters_are_gone_is_not_made_on_others(run):
    session = run.session()
    session.edit("merge", {"clusters": [0, 1]}, version=0)
    session.edit("rename", {"cluster": 1, "name": "one"}, version=1)
    other = fmc.ClusterResult.load(run.folder).merge([2, 3])
    other.save(run.folder)  # by another program
    again = run.reopened()
    assert again.result.n_clusters == 3 and "one" not in again.result.names
    assert len(again.lost) == 2 and "not there" in again.lost[0]


def test_save_writes_the_result_and_keeps_what_is_pending(run):
    session = run.session()
    session.label(["t000"], "food")
    session.take_in()
    session.label(["t001"], "sport")
    session.link(["t002", "t006"], same=True)
    session.save()
    assert session.is_saved
    saved = fmc.ClusterResult.load(run.folder)
    assert saved.answers.labels == {"t000": "food"}
    again = run.reopened()
    assert again.wanted.labels == {"t000": "food", "t001": "sport"}
    assert again.wanted.must_link.tolist() == [["t002", "t006"]]
    again.take_in()
    again.save()
    assert run.reopened().n_pending == 0


def test_edits_of_a_saved_run_are_undone_by_the_result_itself(run):
    session = run.session()
    session.edit("merge", {"clusters": [0, 1]}, version=0)
    session.save()
    again = run.reopened()
    assert again.undo() == "merge" and again.result.n_clusters == 4
    assert run.reopened().result.n_clusters == 4, "the undo is in the log"


def test_a_folder_that_another_program_wrote_is_not_overwritten(run):
    session = run.session()
    session.edit("merge", {"clusters": [0, 1]}, version=0)
    fmc.ClusterResult.load(run.folder).rename({0: "theirs"}).save(run.folder)
    with pytest.raises(ConflictError, match="another program"):
        session.save()
    assert fmc.ClusterResult.load(run.folder).names[0] == "theirs"


def test_a_sample_is_drawn_labeled_and_certifies(run):
    session = run.session()
    names = session.result.names
    session.draw(60, 0.9)
    assert len(session.sample.ids) == 60
    for one in session.sample.ids:
        session.check(one, names[session.result.labels[session.result.rows_of([one])[0]]])
    again = run.reopened()  # and it outlives a crash
    assert again.sample == session.sample and not again.sample.left
    found = again.sample.certify(again.result)
    assert found.threshold is not None and found.n_labels == 60 and found.coverage > 0
    assert again.n_pending == 0, "labels that test are no answers"
    again.edit("merge", {"clusters": [0, 1]}, version=0)
    with pytest.raises(ValueError, match="draw again"):
        again.sample.certify(again.result)


def test_a_sample_is_not_drawn_for_clusters_that_are_about_to_change(run):
    session = run.session()
    session.label(["t000"], "food")
    with pytest.raises(ValueError, match="being taken in"):
        session.draw(20, 0.9)
    session.take_in()
    session.draw(20, 0.9)
    assert len(session.sample.left) == 20


def test_a_sample_refuses_what_it_does_not_hold(run):
    session = run.session()
    with pytest.raises(ValueError, match="draw one"):
        session.check("t000", "x")
    session.draw(10, 0.9)
    other = next(one for one in run.ids.tolist() if one not in session.sample.ids)
    with pytest.raises(ValueError, match="not in the sample"):
        session.check(other, "x")
    with pytest.raises(ValueError, match="10 rows"):
        session.sample.certify(session.result)


def test_rows_are_found_by_words_and_by_id(run):
    rows = run.session().rows
    assert rows.find("FOOTBALL match").tolist() == np.flatnonzero(run.y == 1).tolist()
    assert rows.find("t017").tolist() == [17]
    assert rows.find("t00").tolist() == list(range(10))
    assert rows.find("   ").tolist() == rows.find("nowhere").tolist() == []


def test_thousands_of_answers_come_back_at_once(run):
    session = run.session()
    line = {"op": "label", "ids": ["t000"], "label": "food"}
    session.log.append(line)
    with session.log.path.open("a") as file:
        for _ in range(20):  # the same again is no contradiction
            for at, c in enumerate(run.y.tolist()):
                entry = {"op": "label", "ids": [f"t{at:03d}"], "label": ["food", "b", "c", "d"][c]}
                file.write(json.dumps(entry) + "\n")
            file.write('{"op":"link","ids":["t000","t004"],"same":true}\n')
    again = run.reopened()
    assert again.lost == [] and len(again.wanted.labels) == 160
    assert again.wanted.must_link.tolist() == [["t000", "t004"]]
    assert len(again.actions) == 200 and not again.is_saved


def test_one_broken_line_among_thousands_is_told_and_loses_no_other(run):
    session = run.session()
    with session.log.path.open("a") as file:
        for number in range(250):
            entry = {"op": "label", "ids": [f"t{number % 160:03d}"], "label": "food"}
            file.write(json.dumps(entry) + "\n")
        file.write('{"op":"label","ids":["t001"]}\n{"op":"link","ids":7,"same":true}\n')
        for _ in range(250):
            file.write(json.dumps({"op": "label", "ids": ["t003"], "label": "food"}) + "\n")
    again = run.reopened()
    assert len(again.wanted.labels) == 160 and len(again.lost) == 2
