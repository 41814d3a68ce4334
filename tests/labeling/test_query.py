"""Choosing rows to label and spreading labels: the promises, whatever the strategy."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import fmcluster as fmc
from fmcluster.labeling.propagate import propagate
from fmcluster.labeling.query import STRATEGIES, query
from fmcluster.vectors.graph import KNNGraph

# All but the one that needs a clustering's confidence.
OF_ROWS = tuple(s for s in STRATEGIES if s != "certify")


@pytest.fixture(scope="module")
def data(blobs):
    return blobs(n=400, k=5, d=16, spread=0.15, seed=1)


@pytest.fixture(scope="module")
def result(data):
    proba = np.full((400, 5), 0.05)
    proba[np.arange(400), data.y] = 0.8
    return SimpleNamespace(
        labels=data.y,
        proba=proba,
        confidence=np.linspace(0.3, 0.9, 400),
        cluster_prior=np.bincount(data.y) / 400,
        graph=KNNGraph.build(data.x, k=20),
        ids=np.array([f"row-{i}" for i in range(400)]),
        embeddings=data.x,
    )


@pytest.mark.parametrize("strategy", OF_ROWS)
@pytest.mark.parametrize("budget", [1, 7, 40])
def test_exact_distinct_unlabelled_and_repeatable(data, strategy, budget):
    labeled = [3, 5, 8]
    first = query(data.x, budget, strategy=strategy, labeled=labeled, random_state=4)
    assert len(first) == budget == len(set(first.tolist()))
    assert not set(first.tolist()) & set(labeled)
    again = query(data.x, budget, strategy=strategy, labeled=labeled, random_state=4)
    assert np.array_equal(first, again)


@pytest.mark.parametrize("strategy", OF_ROWS)
def test_all_that_is_left_can_be_asked_for(data, strategy):
    x = data.x[:30]
    picks = query(x, 27, strategy=strategy, labeled=[0, 1, 2])
    assert sorted(picks.tolist()) == list(range(3, 30))


@pytest.mark.parametrize("strategy", ["auto", "herding", "typical", "centroid", "tail"])
def test_k_picks_meet_every_cluster(data, result, strategy):
    ids = query(result, 5, strategy=strategy)
    rows = [int(i.split("-")[1]) for i in ids]
    assert set(data.y[rows]) == set(range(5))


def test_labelled_clusters_are_left_for_the_others(data):
    labeled = np.flatnonzero(data.y < 4)[:60]
    seen = set(data.y[labeled])
    picks = query(data.x, 2, strategy="herding", labeled=labeled)
    assert seen >= {0, 1, 2, 3}
    assert 4 in data.y[picks]


def test_ids_are_the_results_own(result):
    ids = query(result, 10, labeled=["row-1", "row-2"])
    assert set(ids) <= set(result.ids) - {"row-1", "row-2"}


def test_uncertain_takes_the_lowest_confidence_of_the_result(result):
    assert query(result, 4, strategy="uncertain").tolist() == [f"row-{i}" for i in range(4)]


def test_certify_draws_evenly_from_the_most_confident_rows(result):
    ids, weights = query(result, 60, strategy="certify", accuracy=0.8, return_weights=True)
    rows = np.array([int(i.split("-")[1]) for i in ids])
    assert len(set(rows)) == 60
    assert np.ptp(weights) == 0
    region = round(60 * weights[0])
    assert 60 <= region <= 400
    assert rows.min() >= 400 - region  # confidence rises with the row number
    again = query(result, 60, strategy="certify", accuracy=0.8)
    assert np.array_equal(ids, again)


def test_certify_needs_a_clustering_and_weights_need_a_draw(data, result):
    with pytest.raises(ValueError, match="pass the ClusterResult"):
        query(data.x, 5, strategy="certify")
    with pytest.raises(ValueError, match=r"'auto' draws no random sample.*'random', 'certify'"):
        query(result, 5, return_weights=True)
    with pytest.raises(ValueError, match=r"accuracy=95"):
        query(result, 5, strategy="certify", accuracy=95)


def test_random_weights_stand_for_all_free_rows(data):
    ids, weights = query(data.x, 20, strategy="random", labeled=[1, 2], return_weights=True)
    assert len(ids) == 20
    assert weights.sum() == pytest.approx(398)


def test_answers_of_the_result_are_not_asked_again(result):
    answered = SimpleNamespace(**vars(result), answers=SimpleNamespace(labels={"row-1": 0}))
    picks = query(answered, 399, strategy="random")
    assert "row-1" not in picks
    assert len(set(picks)) == 399


def test_labels_so_far_steer_auto(data):
    first = query(data.x, 5)
    known = dict(zip(first.tolist(), data.y[first].tolist(), strict=True))
    with_labels = query(data.x, 20, labeled=known)
    with_ids = query(data.x, 20, labeled=list(known))
    assert not np.array_equal(with_labels, with_ids)
    assert not set(with_labels.tolist()) & set(known)


def test_tail_asks_more_of_rare_clusters(blobs):
    x, y = blobs(sizes=[300, 60, 12], d=12, spread=0.1)
    proba = np.eye(3)[y]
    result = SimpleNamespace(labels=y, proba=proba, embeddings=x, graph=None, ids=None)
    rows = query(result, 24, strategy="tail")
    assert np.bincount(y[rows])[2] >= 3 > 3 * 24 * 12 / 372
    assert y[rows[0]] == 2


def test_a_pool_smaller_than_the_data_still_covers(blobs, monkeypatch):
    x, y = blobs(n=3000, k=6, d=16, spread=0.1)
    monkeypatch.setattr("fmcluster.labeling.strategies.POOL_ENTRIES", 20_000)
    picks = query(x, 6, labeled=[10])
    assert len(set(picks.tolist()) - {10}) == 6
    assert len(set(y[picks]) | {y[10]}) == 6


def test_many_labels_reach_rare_classes_in_the_open(monkeypatch):
    rng = np.random.default_rng(0)
    y = np.r_[np.repeat(np.arange(5), 80), np.repeat(np.arange(5, 30), 4)]
    centres = rng.normal(size=(30, 16))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    x = centres[y] + np.where(y < 5, 0.1, 0.22)[:, None] * rng.normal(size=(len(y), 16))
    met = len(set(y[query(x, 100)]))
    monkeypatch.setattr("fmcluster.labeling.strategies.MIN_NEIGHBORS", 2)
    assert met >= 28 > len(set(y[query(x, 100)]))


def test_the_mean_of_the_features_does_not_matter(data):
    shifted = data.x + 3.0
    picks = query(shifted, 5, strategy="herding")
    assert set(data.y[picks]) == set(range(5))


def test_duplicates_and_tiny_inputs():
    assert sorted(query(np.ones((4, 2)), 3).tolist()) != []
    assert len(query(np.eye(2), 1)) == 1


def test_input_is_not_modified(data):
    x = data.x.copy()
    x.setflags(write=False)
    query(x, 5)
    propagate(x, [0, 1, 2, 3, 4, 5, 6, 7], data.y[:8])
    assert np.array_equal(x, data.x)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"budget": 0}, "budget=0"),
        ({"budget": 401}, "1..400"),
        ({"budget": 399, "labeled": [0, 1]}, "1..398"),
        ({"strategy": "magic"}, "'magic'.*'herding'"),
        ({"labeled": [5, 5]}, "more than once"),
        ({"labeled": [0, 999]}, "999"),
        ({"labeled": {999: 1}}, "999"),
        ({"labeled": {0: "a", 1: None}}, r"no label at position\(s\) 1"),
    ],
)
def test_bad_questions_say_what_is_wrong(data, kwargs, message):
    with pytest.raises(ValueError, match=message):
        query(data.x, **{"budget": 5, **kwargs})


def test_bad_types(data):
    with pytest.raises(TypeError, match="integer"):
        query(data.x, 2.5)
    with pytest.raises(TypeError, match="numeric"):
        query(np.array([["a"], ["b"]]), 1)
    with pytest.raises(TypeError, match="neither embeddings"):
        query(SimpleNamespace(labels=np.zeros(3), proba=None), 1)


def test_result_without_embeddings_uses_its_probabilities(result):
    bare = SimpleNamespace(**{**vars(result), "embeddings": None})
    assert len(query(bare, 10)) == 10


# -- propagate ----------------------------------------------------------------------------------


def test_five_labels_name_everything(data, result):
    rows = query(data.x, 5)
    names = np.array(["ant", "bee", "cat", "dog", "eel"])
    spread = propagate(result, result.ids[rows], names[data.y[rows]])
    assert (spread.label == names[data.y]).mean() > 0.97
    assert spread.classes.tolist() == names.tolist()
    assert spread.cluster_names == dict(enumerate(names.tolist()))
    assert np.allclose(spread.proba.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(spread.classes[spread.proba.argmax(axis=1)], spread.label)
    table = spread.table()
    assert table.columns.tolist() == ["id", "label", "confidence"]
    assert table["id"].tolist() == result.ids.tolist()


def test_given_labels_stay_even_when_odd(data):
    rows = np.arange(40)
    labels = data.y[:40].copy()
    labels[0] = (labels[0] + 1) % 5
    spread = propagate(data.x, rows, labels)
    assert np.array_equal(spread.label[:40], labels)
    assert spread.confidence[:40].min() == 1


def test_propagate_beats_regression_where_labels_are_few(blobs):
    x, y = blobs(n=600, k=6, d=40, spread=0.28, seed=5)
    gains = []
    for seed in range(3):
        rows = query(x, 12, strategy="random", random_state=seed)
        rest = np.setdiff1d(np.arange(600), rows)
        plain = LogisticRegression(C=10).fit(x[rows], y[rows]).predict(x[rest])
        ours = propagate(x, rows, y[rows]).label[rest]
        gains.append((ours == y[rest]).mean() - (plain == y[rest]).mean())
    assert np.mean(gains) > 0.02


def test_confidence_is_near_accuracy(blobs):
    x, y = blobs(n=800, k=5, d=30, spread=0.3, seed=0)
    rows = query(x, 25)
    rest = np.setdiff1d(np.arange(800), rows)
    spread = propagate(x, rows, y[rows])
    accuracy = (spread.label == y)[rest].mean()
    assert spread.confidence[rest].mean() == pytest.approx(spread.expected_accuracy, abs=0.02)
    assert spread.expected_accuracy == pytest.approx(accuracy, abs=0.1)
    low, high = spread.accuracy_interval
    assert low < accuracy < high
    assert spread.unseen_mass == 0


def test_unmet_classes_are_said_to_exist(blobs):
    x, y = blobs(n=900, k=60, d=40, spread=0.15, seed=2)
    rows = query(x, 40)
    spread = propagate(x, rows, y[rows])
    missing = (~np.isin(y, y[rows])).mean()
    assert missing > 0.2
    assert spread.unseen_mass == pytest.approx(missing, abs=0.15)
    assert spread.expected_accuracy < 1 - missing / 2
    assert spread.labels is spread.label


def test_many_rows_are_judged_by_a_sample_of_them(blobs, monkeypatch):
    x, y = blobs(n=900, k=5, d=30, spread=0.3, seed=0)
    rows = query(x, 25)
    whole = propagate(x, rows, y[rows])
    monkeypatch.setattr("fmcluster.partition.spread_rows.TRIAL_ROWS", 400)
    part = propagate(x, rows, y[rows])
    assert np.array_equal(part.label, whole.label)
    assert part.expected_accuracy == pytest.approx(whole.expected_accuracy, abs=0.1)


@pytest.mark.parametrize(
    ("ids", "labels", "message"),
    [
        ([0, 1], [1], "1 entries for 2 rows"),
        ([0, 1], ["a", "a"], "at least two"),
        ([0, 0], [1, 2], "more than once"),
        ([0, -7], [1, 2], "-7"),
        ([0, 1, 2], ["a", None, "b"], r"no label at position\(s\) 1"),
        ([], [], r"0 class\(es\)"),
    ],
)
def test_bad_labels_say_what_is_wrong(data, ids, labels, message):
    with pytest.raises(ValueError, match=message):
        propagate(data.x, ids, labels)


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "k"), [("stackoverflow", 20), ("tweet", 89)])
def test_real_sets_gain_over_random(shared_dir, name, k):
    with np.load(shared_dir / "embeddings" / f"{name}.npz") as stored:
        rows = np.random.default_rng(0).permutation(len(stored["y"]))[:1500]
        x, y = stored["x"][rows].astype(np.float32), stored["y"][rows]

    def accuracy(strategy):
        picks = query(x, k, strategy=strategy)
        rest = np.setdiff1d(np.arange(len(x)), picks)
        model = LogisticRegression(C=10, max_iter=300).fit(x[picks], y[picks])
        return (model.predict(x[rest]) == y[rest]).mean()

    assert accuracy("auto") > accuracy("random") + 0.05


def test_the_public_name_is_callable_whoever_imported_the_module_first(blobs):
    import importlib

    import fmcluster

    importlib.import_module("fmcluster.labeling.query")
    assert len(fmcluster.query(blobs(60, 3).x, 5, random_state=0)) == 5


def test_answers_of_several_types_are_gone_on_from(blobs):
    x, _ = blobs(n=90, k=3, d=8)
    result = fmc.cluster(x, n_clusters=3).with_answers(labels={0: "a", 1: 1, 2: 2.5, 3: True})
    assert not set(fmc.query(result, 20).tolist()) & {0, 1, 2, 3}
