"""A person's answers flow back: labels, links, numbers, names, files."""

import dataclasses
import json
from datetime import date

import numpy as np
import pytest

import fmcluster as fmc
from fmcluster.result.loop.with_answers import number_as_before


@pytest.fixture(scope="module")
def world():
    """Six topics in four directions: two pairs overlap, one topic is most of the rows."""
    rng = np.random.default_rng(0)
    sizes = (180, 60, 50, 40, 20, 10)
    centers = np.eye(6, 12)
    centers[1] = 0.8 * centers[0] + 0.6 * centers[1]
    centers[3] = 0.8 * centers[2] + 0.6 * centers[3]
    y = np.repeat(np.arange(6), sizes)
    x = centers[y] + rng.normal(scale=0.22, size=(len(y), 12))
    order = rng.permutation(len(y))
    return x[order].astype(np.float32), y[order]


@pytest.fixture(scope="module")
def result(world):
    return fmc.cluster(world[0], n_clusters=6)


@pytest.fixture(scope="module")
def asked(world, result):
    ids = fmc.query(result, 40)
    return {int(i): f"topic {world[1][i]}" for i in ids}


@pytest.fixture(scope="module")
def better(result, asked):
    return result.with_answers(labels=asked)


def test_answers_make_the_clusters_better_and_hold(world, result, asked, better):
    y = world[1]
    assert better.evaluate(y)["acc"] > result.evaluate(y)["acc"] + 0.05
    held = [better.names[better.labels[i]] for i in asked]
    assert held == list(asked.values())
    assert (better.confidence[list(asked)] == 1).all()


def test_what_it_returns_is_a_result_of_its_own(result, better, asked):
    assert result.answers.labels == {} and better.answers.labels == asked
    np.testing.assert_allclose(better.proba.sum(axis=1), 1, atol=1e-5)
    assert (better.proba.argmax(axis=1) == better.labels).all()
    assert better.cluster_prior.sum() == pytest.approx(1)
    assert better.provenance["answers"]["n_labels"] == len(asked)
    assert len(set(better.names)) == better.n_clusters


def test_answers_in_two_rounds_are_the_answers_in_one(result, asked, better):
    items = list(asked.items())
    twice = result.with_answers(labels=dict(items[:20])).with_answers(labels=dict(items[20:]))
    assert twice.answers.labels == asked
    same = better.names == twice.names or sorted(better.names) == sorted(twice.names)
    named = [[r.names[c] for c in r.labels] for r in (better, twice)]
    assert same and np.mean(np.array(named[0]) == np.array(named[1])) > 0.99


def test_clusters_that_match_keep_their_numbers(result, better):
    for number in range(6):
        overlap = [np.sum((better.labels == c) & (result.labels == number)) for c in range(6)]
        rows = (result.labels == number).sum()
        if max(overlap) > 0.9 * rows and max(overlap) > 0.9 * (better.labels == number).sum():
            assert int(np.argmax(overlap)) == number


def test_new_rows_are_predicted_by_the_new_clusters(world, better):
    x, y = world
    near = x + 0.01
    assert (better.predict(near) == better.labels).mean() > 0.9


def test_a_fresh_clustering_takes_the_same_labels(world, asked, better):
    fresh = fmc.cluster(world[0], n_clusters=6, labels=(list(asked), list(asked.values())))
    assert fresh.evaluate(world[1])["acc"] == pytest.approx(
        better.evaluate(world[1])["acc"], abs=0.02
    )
    assert set(fresh.names) >= set(asked.values())


def test_clusters_without_any_label_remain(world):
    x, y = world
    some = {int(i): "large" for i in np.flatnonzero(y == 0)[:8]}
    some |= {int(i): "next" for i in np.flatnonzero(y == 1)[:5]}
    found = fmc.cluster(x, n_clusters=6, labels=some)
    assert found.n_clusters >= 4
    rest = found.labels[y == 5]
    assert not set(np.unique(rest)) <= {found.names.index("large"), found.names.index("next")}


def test_labels_tell_how_many_clusters_there_are_at_least(world):
    x, y = world
    few = fmc.cluster(x, n_clusters=2)
    told = {int(np.flatnonzero(y == c)[i]): int(c) for c in range(6) for i in range(3)}
    assert few.with_answers(labels=told).n_clusters == 6


def test_links_alone_join_and_part(world, result):
    x, y = world
    rng = np.random.default_rng(1)
    asked = rng.integers(0, len(y), (120, 2))
    asked = asked[asked[:, 0] != asked[:, 1]]
    same = y[asked[:, 0]] == y[asked[:, 1]]
    linked = result.with_answers(must_link=asked[same], cannot_link=asked[~same])
    assert (linked.labels[asked[same][:, 0]] == linked.labels[asked[same][:, 1]]).all()
    assert (linked.labels[asked[~same][:, 0]] != linked.labels[asked[~same][:, 1]]).all()
    assert linked.evaluate(y)["acc"] >= result.evaluate(y)["acc"] - 0.03


def test_answers_are_saved_and_loaded(tmp_path, world, better, asked):
    more = better.with_answers(must_link=[[0, 1]]) if world[1][0] == world[1][1] else better
    more.save(tmp_path / "run")
    loaded = fmc.ClusterResult.load(tmp_path / "run")
    assert loaded.answers.labels == asked
    assert json.loads((tmp_path / "run" / "answers.json").read_text())["labels"]
    with pytest.raises(ValueError, match="attach"):
        loaded.with_answers(labels={0: "a", 1: "b"})
    again = loaded.attach(world[0]).with_answers(
        labels={int(i): "topic 5" for i in np.flatnonzero(world[1] == 5)[:1]}
    )
    assert len(again.answers.labels) >= len(asked)


def test_edits_are_where_answers_begin(world, result):
    merged = result.merge([0, 1])
    told = {int(i): "a" for i in np.flatnonzero(world[1] == 5)[:3]}
    again = merged.with_answers(labels={**told, int(np.flatnonzero(world[1] == 0)[0]): "b"})
    assert again.edits == () and again.provenance["edits_before_answers"][0]["op"] == "merge"
    assert again.n_clusters <= 5


def test_moved_rows_stay_where_they_were_put(world, result, asked, tmp_path):
    """Answers about other rows are no reason to move them back."""
    y = world[1]
    free = np.setdiff1d(np.arange(len(y)), list(asked))
    source, target = np.argsort(-result.sizes)[:2]
    ids = free[result.labels[free] == source][:6]
    moved = result.move(ids.tolist(), int(target))
    again = moved.with_answers(labels=asked)
    rest = np.setdiff1d(np.flatnonzero(moved.labels == target), ids)
    there = np.bincount(again.labels[rest]).argmax()
    assert (again.labels[ids] == there).all() and (again.confidence[ids] == 1).all()
    assert (again.proba.argmax(axis=1) == again.labels).all()
    np.testing.assert_allclose(again.proba.sum(axis=1), 1, atol=1e-5)
    # Without the move they are elsewhere; with it the answers hold, and so they do once more.
    assert (result.with_answers(labels=asked).labels[ids] != there).any()
    assert [again.names[again.labels[i]] for i in asked] == list(asked.values())
    again.save(tmp_path / "run")
    loaded = fmc.ClusterResult.load(tmp_path / "run").attach(world[0])
    more = loaded.with_answers(labels={int(free[-1]): f"topic {y[free[-1]]}"})
    rest = np.bincount(more.labels[rest]).argmax()
    assert (more.labels[ids] == rest).all() and (more.confidence[ids] == 1).all()


def test_what_a_person_said_is_not_doubted_by_a_calibration(world, result, better, asked, tmp_path):
    y = world[1]
    rows = np.setdiff1d(np.arange(len(y)), list(asked))
    ids, labels = rows[::4], [f"topic {c}" for c in y[rows[::4]]]
    answered = better.calibrate(ids, labels)
    assert (answered.confidence[list(asked)] == 1).all() and answered.confidence.min() < 1
    put = rows[result.labels[rows] != 1][:3]
    edited = result.move(put.tolist(), 1).merge([2, 3])
    calibrated = edited.calibrate(ids, labels)
    assert (calibrated.confidence[put] == 1).all() and (
        calibrated.proba[put].max(axis=1) == 1
    ).all()
    assert (calibrated.labels == edited.labels).all()
    calibrated.rename({0: "first"}).save(tmp_path / "run")
    loaded = fmc.ClusterResult.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.proba, calibrated.proba)
    np.testing.assert_array_equal(loaded.undo().proba, calibrated.proba)
    np.testing.assert_array_equal(loaded.undo().undo().proba, edited.proba)


def test_an_answer_about_a_moved_row_counts_more_than_its_move(world, result, asked):
    source, target = np.argsort(-result.sizes)[:2]
    row = next(i for i in asked if result.labels[i] == source)
    moved = result.move([row], int(target)).with_answers(labels=asked)
    assert moved.names[moved.labels[row]] == asked[row]
    free = np.setdiff1d(np.flatnonzero(result.labels == source), list(asked))
    pair = [int(free[0]), int(row)]
    linked = result.move([pair[0]], int(target)).with_answers(labels=asked, must_link=[pair])
    assert linked.labels[pair[0]] == linked.labels[pair[1]]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"labels": {10_000: "a"}}, "10000"),
        ({"labels": ([0, 0], ["a", "b"])}, "two classes"),
        ({"labels": {0: None}}, "row 0"),
        ({"labels": {0: float("nan")}}, "row 0"),
        ({"labels": [0, 1, 2]}, "dict of id to class"),
        ({"labels": ([0, 1], ["a"])}, "2 ids and 1 classes"),
        ({"labels": ([0, 1], ["a", float("nan")])}, "row 1 has no class"),
        ({"labels": [(3, 0), (7, 1)]}, "dict(pairs)"),
        ({"labels": (3, "a")}, "(3, 'a')"),
        ({"labels": (np.array([[0], [1]]), ["a", "b"])}, "got [0]"),
        ({"must_link": [[0, 1, 2]]}, "pairs of ids"),
        ({"must_link": [[3, 3]]}, "itself"),
        ({"must_link": [[0, 1], [1, 2]], "cannot_link": [[0, 2]]}, "0, 1, 2"),
        ({"labels": {0: "a", 2: "b"}, "must_link": [[0, 1], [1, 2]]}, "'a' and 'b'"),
        ({}, "no answer"),
    ],
)
def test_bad_answers_are_one_line_and_change_nothing(result, given, said):
    before = result.labels.copy()
    with pytest.raises(ValueError, match=".") as caught:
        result.with_answers(**given)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert (result.labels == before).all() and len(result.answers) == 0


def test_a_row_that_was_answered_is_not_answered_otherwise(better, asked):
    row = next(iter(asked))
    with pytest.raises(ValueError, match=f"row {row} was answered"):
        better.with_answers(labels={row: "another"})
    assert better.with_answers(labels={row: asked[row]}).answers.labels == asked


def test_more_classes_than_clusters_are_refused(world):
    with pytest.raises(ValueError, match="n_clusters=2 is below the 3 classes"):
        fmc.cluster(world[0], n_clusters=2, labels={0: "a", 1: "b", 2: "c"})


def test_heads_that_take_no_answers_say_so(world):
    with pytest.raises(ValueError, match="'gmm' takes no labels: 'auto'"):
        fmc.cluster(world[0], n_clusters=3, head="gmm", labels={0: "a", 1: "b"})
    with pytest.raises(ValueError, match="'kmeans' takes no links: 'auto'"):
        fmc.cluster(world[0], n_clusters=3, head="kmeans", must_link=[[0, 1]])


def test_skipped_rows_cannot_be_answered(world):
    made = fmc.cluster(world[0][:60], n_clusters=2)
    provenance = {**made.provenance, "skipped_ids": [77]}
    made = dataclasses.replace(
        made, pipeline=dataclasses.replace(made.pipeline, provenance=provenance)
    )
    with pytest.raises(ValueError, match="row 77 was skipped"):
        made.with_answers(labels={77: "a", 0: "b"})


def test_ids_are_names(world, asked):
    import pandas as pd

    x, _ = world
    names = [f"ticket-{i}" for i in range(len(x))]
    made = fmc.cluster(x, n_clusters=6)
    made = dataclasses.replace(made, ids=np.array(names))
    told = {names[i]: c for i, c in asked.items()}
    found = made.with_answers(labels=pd.Series(told))
    assert found.answers.labels == told
    with pytest.raises(ValueError, match="not among"):
        made.with_answers(labels={0: "a"})


def test_numbers_are_kept_where_clusters_match():
    before = np.array([0, 0, 1, 1, 2, 2, -1])
    after = np.array([2, 2, 0, 0, 1, 1, 3])
    order, old = number_as_before(before, after, 4)
    assert order.tolist() == [2, 0, 1, 3] and old.tolist() == [0, 1, 2, -1]
    fewer, old = number_as_before(before, np.array([1, 1, 0, 0, 0, 0, 0]), 2)
    assert fewer.tolist() == [1, 0] and old[0] == 0


def test_names_beside_the_answered_ones_are_made_up_once(blobs):
    """A class keeps its name, a name of the texts its own; only what repeats gets a number."""
    data = blobs(n=120, k=4)
    made = fmc.cluster(data.x, n_clusters=4, head="kmeans")
    made = made.rename({0: "card", 1: "card (2)", 2: "other"})
    row = int(np.flatnonzero(made.labels == 3)[0])
    told = made.with_answers(labels={row: "card"})
    names = {told.names[c] for c in told.labels}
    assert len(names) == 4 and told.names[told.labels[row]] == "card"
    assert "card (2)" in names and "card (2) (2)" not in names


def test_the_same_answers_in_any_container(result):
    """Numpy would make text of a list of several kinds, and one value of a view."""
    told = {0: "a", 5: 1, 9: True}
    for labels in ((told.keys(), told.values()), ([0, 5, 9], ["a", 1, True])):
        found = result.with_answers(labels=labels)
        assert found.answers.labels == told
        assert [type(c) for c in found.answers.labels.values()] == [str, int, bool]
    linked = result.with_answers(must_link=((a, b) for a, b in [(0, 5)]))
    assert linked.answers.must_link.tolist() == [[0, 5]]


def test_one_name_is_one_class_whatever_its_type(result):
    """A table with an empty cell writes 1 as 1.0, and a table of text as "1"."""
    first = result.with_answers(labels={0: 1.0, 5: 2})
    assert {"1", "2"} <= set(first.names)
    assert first.frame()["answer"][[0, 5]].tolist() == ["1", "2"]
    again = first.with_answers(labels={0: "1", 5: 2.0, 9: "2"})
    assert again.answers.labels == {0: 1.0, 5: 2, 9: 2}
    assert sorted(again.names) == sorted(set(first.names))


def test_classes_of_any_type_are_kept(result, tmp_path):
    told = {0: date(2026, 1, 2), 5: ("a", 1), 9: np.datetime64("2026-01-02"), 11: b"x"}
    found = result.with_answers(labels=told)
    kept = {0: "2026-01-02", 5: "('a', 1)", 9: "2026-01-02", 11: "b'x'"}
    assert found.answers.labels == kept and set(kept.values()) <= set(found.names)
    found.save(tmp_path / "run")
    assert fmc.ClusterResult.load(tmp_path / "run").answers.labels == kept


def test_ids_are_kept_as_the_result_has_them(result):
    found = result.with_answers({0.0: "a"}, must_link=np.array([[0.0, 5.0]]))
    assert [type(key) for key in found.answers.labels] == [int]
    assert found.answers.must_link.dtype == result.ids.dtype


def test_a_class_of_rows_in_no_cluster_is_one_more(blobs):
    """Else a cluster that nobody spoke of would be joined with them, under their name."""
    x, y = blobs(n=360, k=6, d=12)
    grown = fmc.cluster(x[y < 5], n_clusters=5).update(x[y == 5])
    assert len(grown.novel) == (y == 5).sum()
    found = grown.with_answers({int(grown.novel[0]): "new"})
    assert found.n_clusters == grown.n_clusters + 1
    here = np.flatnonzero(found.labels == found.names.index("new"))
    assert np.isin(found.ids[here], grown.novel).mean() > 0.9
    named = grown.rename({2: "two"}).with_answers({int(grown.novel[0]): "two"})
    assert named.names[2] == "two (2)" and named.n_clusters == grown.n_clusters + 1
    np.testing.assert_array_equal(named.labels[grown.labels >= 0], grown.labels[grown.labels >= 0])


def test_a_name_made_of_a_number_follows_it(blobs):
    x, y = blobs(n=200, k=5, d=12)
    first = fmc.cluster(x, n_clusters=5).with_answers({0: "a"})
    rows = [int(np.flatnonzero(first.labels == c)[0]) for c in range(5)]
    other = next(c for c in range(4) if first.names[c] != "a")
    joined = first.with_answers({rows[other]: "a", 0: "a"})
    assert joined.n_clusters < 5
    for number, name in enumerate(joined.names):
        assert name == "a" or name == f"cluster {number}"
