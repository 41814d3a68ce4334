"""What goes on beside: answers taken in, questions chosen, the map kept."""

import time

import numpy as np

from fmcluster.app import work as module
from fmcluster.app.preview import preview
from fmcluster.app.work import Work


def test_catching_up_takes_answers_in_and_chooses_others(run):
    session = run.session()
    work = Work(session)
    rows = work.next_rows(3)
    session.label(session.result.ids[rows[:1]].tolist(), "first")
    assert work.estimate is None
    work.catch_up()
    assert session.n_pending == 0 and not work.is_busy
    assert rows[0] not in work.next_rows(5)
    assert work.estimate is None, "one class tells nothing"
    session.label([run.ids[run.y != run.y[rows[0]]][0].item()], "second")
    work.catch_up()
    told = work.estimate
    assert 0 <= told["low"] <= told["accuracy"] <= told["high"] <= 1
    session.undo()
    assert work.estimate is None, "it was of other answers"


def test_of_many_rows_the_surest_are_asked_until_the_choice_is_made(run, monkeypatch):
    monkeypatch.setattr(module, "MANY", 10)
    session = run.session()
    work = Work(session)
    rows = work.next_rows(5)
    result = session.result
    assert sorted(result.labels[rows].tolist()) == [0, 1, 2, 3]
    for row in rows:
        own = result.confidence[result.labels == result.labels[row]]
        assert result.confidence[row] == own.max()
    session.label(result.ids[rows[:1]].tolist(), "first")
    assert rows[0] not in work.next_rows(5)
    work.catch_up()
    assert len(work.next_rows(5)) == 5


def test_pairs_are_not_asked_twice(run):
    session = run.session()
    work = Work(session)
    first = work.next_pair()
    assert work.next_pair() == first != work.next_pair(skip=1)
    assert work.next_pair(skip=module.CHOSEN) == first
    seen = set()
    for _ in range(3):
        pair = work.next_pair()
        assert tuple(sorted(pair)) not in seen
        seen.add(tuple(sorted(pair)))
        session.link(pair, same=bool(run.y[int(pair[0][1:])] == run.y[int(pair[1][1:])]))


def test_the_map_is_made_once_and_kept_for_the_same_rows(run):
    session = run.session()
    quick = Work(session).quick_points()
    points = Work(session).points()
    assert points.shape == quick.shape == (160, 2) and points.dtype == np.uint16
    kept = list(run.folder.glob("map-*.npy"))
    assert len(kept) == 1
    again = Work(run.reopened(embeddings=False))
    np.testing.assert_array_equal(again.quick_points(), points)
    kept[0].write_bytes(b"damaged")
    assert again.quick_points().shape == again.points().shape == (160, 2)
    session.save()
    assert list(run.folder.glob("map-*.npy")), "a save carries it along"


def test_a_map_needs_no_embeddings(run):
    work = Work(run.reopened(embeddings=False))
    points = work.points().astype(float)
    assert points.std(axis=0).min() > 1000
    labels = work.session.result.labels
    middles = np.stack([points[labels == c].mean(axis=0) for c in range(4)])
    spread = np.mean([points[labels == c].std() for c in range(4)])
    apart = np.linalg.norm(middles[:, None] - middles, axis=2)[np.triu_indices(4, 1)]
    assert apart.min() > 0.5 * spread


def test_rows_that_are_not_laid_out_lie_among_their_neighbors(run, monkeypatch):
    from fmcluster.app import layout
    from fmcluster.result.report import points as shared

    monkeypatch.setattr(shared, "LAID_OUT", 60)
    session = run.session()
    points = layout.points_of(session.result, run.folder).astype(float)
    near = session.result.graph.indices[:, :5]
    to_near = np.linalg.norm(points[:, None] - points[near], axis=2).mean()
    to_any = np.linalg.norm(points[:, None] - points[None], axis=2).mean()
    assert to_near < 0.6 * to_any


def test_a_fit_that_breaks_down_is_said_and_loses_nothing(run, monkeypatch):
    from fmcluster.app import session as session_module

    def broken(base, wanted):
        raise RuntimeError("no memory left")

    monkeypatch.setattr(session_module, "with_answers", broken)
    session = run.session()
    work = Work(session)
    work.start()
    session.label(["t000"], "food")
    until = time.monotonic() + 10
    while not session.problem and time.monotonic() < until:
        time.sleep(0.01)
    work.stop()
    assert "no memory left" in session.problem and session.n_pending == 1
    monkeypatch.undo()
    session.label(["t001"], "sport")
    assert session.take_in() and len(session.result.answers.labels) == 2


def test_the_kept_map_is_there_without_a_session(run):
    assert preview(run.folder) == b""
    points = Work(run.session()).points()
    content = preview(run.folder)
    assert content[: 4 * 160] == points.tobytes()
    labels = np.frombuffer(content[4 * 160 :], "<i4")
    np.testing.assert_array_equal(labels, run.result.labels)
    (run.folder / "labels.npy").write_bytes(b"damaged")
    assert preview(run.folder) == b""
