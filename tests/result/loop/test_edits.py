"""Edits give new results that add up, are saved, repeated on new rows, and taken back exactly."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

import fmcluster as fmc
from fmcluster.embedding.data.source import Source
from fmcluster.result.editing.files import read_edits, write_edits
from fmcluster.result.hub import save_pretrained
from fmcluster.result.loop.edits import apply_edits
from fmcluster.result.naming import name_by_source
from fmcluster.utils.errors import CorruptShardError

ARRAYS = ("labels", "proba", "confidence", "score", "cluster_prior")
N, K = 240, 6


@pytest.fixture(scope="module")
def data(blobs):
    return blobs(N, K, 16)


@pytest.fixture(scope="module")
def result(data):
    return fmc.cluster(data.x, n_clusters=K, head="kmeans")


@pytest.fixture(scope="module")
def edited(result):
    """One of everything."""
    out = result.merge([1, 4], name="both").split(0, into=2).rename({2: "two"})
    return out.move(result.ids[:2], 1).dissolve(3)


def same(a, b):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.names == b.names and a.edits == b.edits and a.provenance == b.provenance
    assert (a.unedited is None) == (b.unedited is None)


def sound(result):
    k = result.n_clusters
    assert result.proba.shape == (N, k) and result.pipeline.n_clusters == k
    np.testing.assert_allclose(result.proba.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(result.proba.argmax(axis=1), result.labels)
    np.testing.assert_array_equal(result.proba.max(axis=1), result.confidence)
    assert ((result.score > 0) & (result.score <= 1)).all()
    assert result.cluster_prior.shape == (k,) and result.cluster_prior.min() > 0
    assert result.cluster_prior.sum() == pytest.approx(1)
    assert result.sizes.min() > 0 and result.sizes.sum() == N
    assert result.names is None or (len(result.names) == k and len(set(result.names)) == k)


def test_a_merge_joins_rows_probabilities_and_shares(result):
    merged = result.merge([4, 1])
    sound(merged)
    assert merged.n_clusters == K - 1 and merged.names is None
    numbers = np.array([0, 1, 2, 3, 1, 4])  # the last takes the free number
    np.testing.assert_array_equal(merged.labels, numbers[result.labels])
    prior = result.cluster_prior
    np.testing.assert_allclose(merged.cluster_prior, [*(prior[:4] + [0, prior[4], 0, 0]), prior[5]])
    assert (merged.confidence >= result.confidence - 1e-6).all()
    assert (merged.score >= result.score - 1e-6).all()
    assert merged.edits == ({"op": "merge", "clusters": [4, 1], "name": None},)
    assert merged.provenance["edits"] == {"merge": 1} and "edits" not in result.provenance
    assert result.edits == () and result.n_clusters == K


def test_several_groups_merge_at_once_and_into_one_cluster(result):
    two = result.merge([[0, 1, 2], [3, 4, 5]], name=["a", "b"])
    sound(two)
    assert two.names == ("a", "b") and two.n_clusters == 2
    np.testing.assert_array_equal(two.labels, result.labels // 3)
    one = two.merge([0, 1])
    assert one.n_clusters == 1 and (one.confidence == 1).all() and one.names in (("a",), ("b",))


def test_a_merged_cluster_has_the_name_of_its_larger_part(result):
    named = result.rename({c: f"topic {c}" for c in range(K)}).move(
        result.ids[result.labels == 1][:3], 4
    )
    assert named.merge([1, 4]).names == ("topic 0", "topic 4", "topic 2", "topic 3", "topic 5")
    assert named.merge([1, 4], name="x").names[1] == "x"
    # Names that are numbers follow the numbers.
    assert result.rename({0: "x"}).merge([1, 4]).names == (
        "x",
        *(f"cluster {c}" for c in (1, 2, 3, 4)),
    )


def test_a_split_stays_inside_its_cluster_and_predicts_new_rows(data, result):
    merged = result.merge([0, 2])
    y = np.where(data.y == data.y[result.labels == 0][0], 0, 1)
    split = merged.split(0, into=2)
    sound(split)
    inside = merged.labels == 0
    np.testing.assert_array_equal(split.labels[~inside], merged.labels[~inside])
    assert set(split.labels[inside]) == {0, K - 1}
    assert split.sizes[0] >= split.sizes[K - 1]
    part = (split.labels[inside] == K - 1).astype(int)
    assert max((part == y[inside]).mean(), (part != y[inside]).mean()) > 0.95
    np.testing.assert_allclose(split.predict_proba(data.x), split.proba, atol=1e-5)
    assert split.cluster_prior[[0, K - 1]].sum() == pytest.approx(merged.cluster_prior[0])


def test_auto_counts_the_parts_and_refuses_a_cluster_that_is_one(result):
    split = result.merge([0, 1, 2]).split(0, into="auto")
    assert split.n_clusters == K and split.edits[-1] == {"op": "split", "cluster": 0, "into": 3}
    with pytest.raises(ValueError, match="cluster 5 does not fall apart.*give into=2"):
        result.split(5, into="auto")


def test_parts_are_named_after_their_texts_or_numbered(result):
    named = result.rename({0: "ham"})
    assert named.split(0).names[0] == "ham / 1" and named.split(0).names[-1] == "ham / 2"
    assert named.split(3).names[3] == "cluster 3" and named.split(3).names[-1] == f"cluster {K}"
    texts = [f"{w} {i}" for i in range(20) for w in ("invoice", "parcel", "refund")]
    x = np.tile(np.eye(3), (20, 1)) + 0.05 * np.random.default_rng(0).normal(size=(60, 3))
    three = dataclasses.replace(
        fmc.cluster(x, n_clusters=3, head="kmeans"), source=Source(texts, modality="text")
    )
    two = name_by_source(three).merge([0, 1]).split(0)
    words = [name.split(",")[0] for name in two.names]
    assert sorted(words) == ["invoice", "parcel", "refund"]
    assert [words[label] for label in two.labels] == [text.split()[0] for text in texts]


def test_moved_rows_are_certain_and_new_rows_are_as_before(data, result):
    ids = result.ids[result.labels == 2][:3]
    moved = result.move(ids, 4)
    sound(moved)
    assert (moved.labels[ids] == 4).all() and (moved.confidence[ids] == 1).all()
    others = np.setdiff1d(result.ids, ids)
    np.testing.assert_array_equal(moved.proba[others], result.proba[others])
    np.testing.assert_array_equal(moved.predict_proba(data.x), result.predict_proba(data.x))
    assert moved.cluster_prior[4] > result.cluster_prior[4]
    assert moved.edits[0] == {"op": "move", "ids": ids.tolist(), "cluster": 4}


def test_dissolved_rows_go_to_the_next_best_and_so_do_new_ones(data, result):
    less = result.dissolve(1)
    sound(less)
    gone = result.labels == 1
    second = np.where(np.arange(K) == 1, 0, result.proba[gone]).argmax(axis=1)
    np.testing.assert_array_equal(less.labels[gone], np.array([0, -1, 2, 3, 4, 1])[second])
    assert less.confidence[gone].mean() < result.confidence[gone].mean()
    np.testing.assert_allclose(less.predict_proba(data.x), less.proba, atol=1e-5)


def test_names_are_given_and_swapped(result):
    named = result.rename({3: "billing", 0: "a"})
    assert named.names == ("a", "cluster 1", "cluster 2", "billing", "cluster 4", "cluster 5")
    assert named.rename({0: "billing", 3: "a"}).names[:4:3] == ("billing", "a")
    assert named.edits == ({"op": "rename", "names": {"3": "billing", "0": "a"}},)


def test_undo_gives_back_every_bit_step_by_step(result, edited):
    steps = [result]
    for entry in edited.edits:
        steps.append(apply_edits(steps[-1], [entry]))
    same(steps[-1], edited)
    back = edited
    for step in steps[-2::-1]:
        back = back.undo()
        same(back, step)
    with pytest.raises(ValueError, match="nothing to undo"):
        back.undo()


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_edits_is_sound_and_comes_back(data, result, seed):
    rng = np.random.default_rng(seed)
    steps = [result]
    while len(steps) < 7 and steps[-1].n_clusters > 2:
        now = steps[-1]
        a, b = (int(c) for c in rng.choice(now.n_clusters, 2, replace=False))
        match rng.integers(5):
            case 0:
                now = now.merge([a, b])
            case 1:
                now = now.dissolve(a)
            case 2 if (now.labels == a).sum() > 2:  # a cluster that keeps no row cannot give one
                now = now.move(now.ids[now.labels == a][:2], b)
            case 2 | 3:
                now = now.rename({a: f"name {len(steps)}"})
            case 4:
                now = now.split(a)
        sound(now)
        steps.append(now)
    assert steps[-1].predict_proba(data.x).shape == steps[-1].proba.shape
    back = steps[-1]
    for step in steps[-2::-1]:
        back = back.undo()
        same(back, step)


def test_saved_and_loaded_it_predicts_logs_and_undoes_the_same(data, result, edited, tmp_path):
    edited.save(tmp_path / "run")
    again = fmc.ClusterResult.load(tmp_path / "run")
    same(again, edited)
    np.testing.assert_array_equal(again.predict_proba(data.x), edited.predict_proba(data.x))
    moved = edited.rows_of(result.ids[:2])
    rest = np.setdiff1d(np.arange(N), moved)
    np.testing.assert_allclose(again.predict_proba(data.x)[rest], edited.proba[rest], atol=1e-5)
    for _ in edited.edits:
        again = again.undo()
    same(again, result)
    again.save(tmp_path / "run")
    assert not (tmp_path / "run" / "edits").exists()
    assert not (tmp_path / "run" / "unedited").exists()


def test_a_log_is_plain_json_and_repeats_the_edits(result, edited):
    log = json.loads(json.dumps(edited.edits))
    same(apply_edits(result, log), edited)
    with pytest.raises(ValueError, match="'melt' is not known"):
        apply_edits(result, [{"op": "melt"}])
    with pytest.raises(ValueError, match="'split' lacks its argument 'cluster'"):
        apply_edits(result, [{"op": "split"}])


def test_what_is_pushed_has_the_edits_and_no_ids_of_rows(data, edited, tmp_path):
    named = edited.calibrate(np.arange(0, N, 6), data.y[::6])
    save_pretrained(named, tmp_path / "pipe")
    pipeline = fmc.from_pretrained(tmp_path / "pipe")
    assert pipeline.n_clusters == edited.n_clusters and pipeline.names == named.names
    np.testing.assert_array_equal(pipeline.predict_proba(data.x), named.predict_proba(data.x))
    log = json.loads((tmp_path / "pipe" / "edits" / "edits.json").read_text())
    ops = [step["op"] for step in log["edits"]]
    assert ops == ["merge", "split", "rename", "dissolve", "calibrate"]
    assert log["edits"][-1]["given"] == {}
    card = (tmp_path / "pipe" / "README.md").read_text()
    assert (
        f"{edited.n_clusters} clusters" in card and "Edited by a person (merge 1, split 1" in card
    )


@pytest.mark.parametrize("name", ["edits.json", "1/model.safetensors"])
def test_a_damaged_edit_is_named(edited, tmp_path, name):
    edited.save(tmp_path)
    path = tmp_path / "edits" / name
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(CorruptShardError, match=path.name):
        fmc.ClusterResult.load(tmp_path)


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (0, {"groups": [[1, 9]]}),
        (1, {"order": [0, 7]}),
        (1, {"cluster": -1}),
        (4, {"spill": [1.0]}),
    ],
)
def test_edits_that_are_not_of_these_clusters_are_refused(edited, tmp_path, number, change):
    write_edits(edited.pipeline.edits, tmp_path)
    assert read_edits(tmp_path, K) == edited.pipeline.edits
    path = tmp_path / "edits" / "edits.json"
    log = json.loads(path.read_text())
    log["edits"][number] |= change
    path.write_text(json.dumps(log))
    with pytest.raises(CorruptShardError, match=r"edits.json: .* is no edit of \d clusters"):
        read_edits(tmp_path, K)
    path.write_text(json.dumps(log | {"format": "fmcluster.edits/9"}))
    with pytest.raises(CorruptShardError, match="update fmcluster"):
        read_edits(tmp_path, K)


def test_labels_calibrate_what_the_edits_made(data, edited, tmp_path):
    rows = np.arange(0, N, 4)
    better = edited.calibrate(rows, np.array(list("abcdef"))[data.y[rows]])
    np.testing.assert_array_equal(better.labels, edited.labels)
    assert set(better.names) <= set("abcdef") | set(edited.names)
    assert better.provenance["calibration"]["n_labels"] == len(rows)
    better.save(tmp_path)
    again = fmc.ClusterResult.load(tmp_path)
    kept = np.setdiff1d(np.arange(N), [0, 1])  # moved by hand
    np.testing.assert_allclose(again.predict_proba(data.x)[kept], better.proba[kept], atol=1e-4)
    same(again.undo(), edited)
    same(apply_edits(edited, better.edits[-1:]), better)
    with pytest.raises(ValueError, match="5 edit.*no longer the head's own"):
        edited.with_calibrator(edited.calibrator)


def test_an_edited_result_serves_like_any_other(data, edited, tmp_path):
    ds = edited.to_dataset(Dataset.from_dict({"row": list(range(N))}))
    assert ds["cluster"] == edited.labels.tolist()
    assert ds.features["cluster"].names == list(edited.names)
    assert len(fmc.query(edited, budget=12)) == 12
    assert fmc.estimate_prior(edited).prior.shape == (edited.n_clusters,)
    page = edited.report(tmp_path / "report.html").read_text()
    assert "both" in page and "two" in page
    scores = edited.evaluate(data.y)
    assert 0 <= scores["ece"] <= 1 and scores["acc"] > 0.5
    assert edited.attach(data.x).split(0, into=2).n_clusters == edited.n_clusters + 1


def test_rows_of_no_cluster_stay_so(result):
    labels, proba = result.labels.copy(), result.proba.copy()
    labels[:4], proba[:4] = -1, 1 / K
    some = dataclasses.replace(result, labels=labels, proba=proba)
    for after in (some.merge([0, 1]), some.split(2), some.dissolve(3)):
        assert (after.labels[:4] == -1).all() and (after.labels[4:] >= 0).all()
        np.testing.assert_allclose(after.proba[:4], 1 / after.n_clusters)
        np.testing.assert_allclose(after.confidence[:4], 1 / after.n_clusters)
    assert (some.move(some.ids[:1], 3).labels[:4] == [3, -1, -1, -1]).all()


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        (lambda r: r.merge([3, 9]), ValueError, r"cluster 9 is outside 0\.\.5"),
        (lambda r: r.merge([3, -1]), ValueError, r"cluster -1 is outside 0\.\.5"),
        (lambda r: r.merge([3, 3]), ValueError, "cluster 3 is named more than once"),
        (lambda r: r.merge([3]), ValueError, "one cluster: name at least two"),
        (lambda r: r.merge([]), ValueError, "no clusters to merge"),
        (lambda r: r.merge([[0, 1], [1, 2]]), ValueError, "cluster 1 is named more than once"),
        (lambda r: r.merge([0, 1], name=["a", "b"]), ValueError, r"2 name\(s\) for 1 group"),
        (lambda r: r.merge([0, 1], name="ham"), ValueError, "'ham' would stand for 2 clusters"),
        (lambda r: r.merge("01"), TypeError, r"a list such as \[3, 7\]"),
        (lambda r: r.merge([0, "1"]), TypeError, "given by its number, got '1'"),
        (lambda r: r.merge([0, True]), TypeError, "given by its number, got True"),
        (lambda r: r.rename({}), ValueError, "no names were given"),
        (lambda r: r.rename({0: ""}), ValueError, "is empty"),
        (lambda r: r.rename({0: 4}), TypeError, "a name is a text, got 4"),
        (lambda r: r.rename({0: "x", 1: "x"}), ValueError, "'x' would stand for 2 clusters"),
        (lambda r: r.rename({0: "ham"}), ValueError, "'ham' would stand for 2 clusters"),
        (lambda r: r.rename({8: "x"}), ValueError, r"cluster 8 is outside 0\.\.5"),
        (lambda r: r.rename(["x"]), TypeError, "names are given as"),
        (lambda r: r.move([999], 1), ValueError, "not among the 240 rows: 999"),
        (lambda r: r.move([1, 1], 1), ValueError, "more than once"),
        (lambda r: r.move([], 1), ValueError, "no ids were given"),
        (lambda r: r.move([1], 6), ValueError, r"cluster 6 is outside 0\.\.5"),
        (
            lambda r: r.move(r.ids[r.labels == 2], 1),
            ValueError,
            r"cluster 2 would be left without rows: use merge\(\[2, 1\]\)",
        ),
        (lambda r: r.dissolve(6), ValueError, r"cluster 6 is outside 0\.\.5"),
        (lambda r: r.split(6), ValueError, r"cluster 6 is outside 0\.\.5"),
        (lambda r: r.split(0, into=1), ValueError, "into=1 splits nothing"),
        (lambda r: r.split(0, into="two"), TypeError, "whole number or 'auto', got 'two'"),
        (lambda r: r.split(0, into=99), ValueError, r"40 row\(s\): it cannot be split into 99"),
        (
            lambda r: dataclasses.replace(r, embeddings=None).split(0),
            ValueError,
            r"no embeddings, which a split needs: call result.attach\(embeddings\)",
        ),
        (lambda r: r.attach(np.eye(16)).split(0), ValueError, "16 rows, the result 240"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line_and_changes_nothing(result, edit, error, message):
    named = result.rename({5: "ham"})
    before = {name: getattr(named, name).copy() for name in ARRAYS}
    with pytest.raises(error, match=message) as raised:
        edit(named)
    assert "\n" not in str(raised.value)
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(named, name), value)


def test_names_come_as_a_series_and_no_frame_breaks_the_line(result):
    named = result.rename(pd.Series({3: "billing"}))
    assert named.names[3] == "billing"
    with pytest.raises(TypeError, match="got .* of type DataFrame") as raised:
        result.rename(pd.DataFrame({"a": [1, 2]}))
    assert "\n" not in str(raised.value)


def test_small_and_single_clusters(result):
    one = fmc.cluster(np.eye(8), n_clusters=1, head="kmeans")
    with pytest.raises(ValueError, match="the only one"):
        one.dissolve(0)
    with pytest.raises(ValueError, match=r"cluster 1 is outside 0\.\.0"):
        one.merge([0, 1])
    x = np.concatenate([np.eye(6)[:1], np.repeat(np.eye(6)[1:2], 5, 0), np.eye(6)[[2, 3]]])
    few = fmc.cluster(x, n_clusters=3, head="kmeans")
    lone, alike = int(few.labels[0]), int(few.labels[1])
    sizes = few.sizes
    for cluster in range(3):
        if sizes[cluster] == 1:
            with pytest.raises(ValueError, match=r"has 1 row\(s\): it cannot be split into 2"):
                few.split(cluster)
        if sizes[cluster] == 2 and cluster not in (lone, alike):
            assert few.split(cluster).sizes.tolist()[-1] == 1
        if sizes[cluster] == 5:
            with pytest.raises(ValueError, match="cannot be split into 2: .*distinct"):
                few.split(cluster)
            with pytest.raises(ValueError, match="too few to count its parts"):
                few.split(cluster, into="auto")


def test_rows_that_came_later_cannot_be_undone(result):
    lost = dataclasses.replace(result.merge([0, 1]), unedited=None)
    with pytest.raises(ValueError, match=r"last edit \(merge\) cannot be undone"):
        lost.undo()
    again = lost.rename({0: "x"})
    same(dataclasses.replace(again.undo(), unedited=None), lost)
