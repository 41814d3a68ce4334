"""Pairs to ask: distinct, open, repeatable, and where the clustering may be wrong."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import fmcluster as fmc
from fmcluster.labeling.query_pairs import query_pairs


def clustering(x, labels, *, ids=None, sure=0.9, answers=None):
    k = int(labels.max()) + 1
    proba = np.full((len(x), k), (1 - sure) / max(k - 1, 1))
    proba[np.arange(len(x)), labels] = sure
    return SimpleNamespace(
        labels=labels,
        proba=proba,
        confidence=proba.max(axis=1),
        cluster_prior=np.bincount(labels) / len(x),
        graph=None,
        ids=np.arange(len(x)) if ids is None else ids,
        embeddings=x,
        answers=answers,
    )


@pytest.fixture(scope="module")
def data(blobs):
    return blobs(n=300, k=6, d=16, spread=0.15, seed=0)


@pytest.mark.parametrize("budget", [1, 20, 400])
def test_pairs_are_distinct_repeatable_and_by_id(data, budget):
    ids = np.array([f"t-{i}" for i in range(300)])
    result = clustering(data.x, data.y, ids=ids)
    pairs = query_pairs(result, budget)
    assert pairs.shape == (budget, 2)
    assert set(pairs.ravel()) <= set(ids)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert len({frozenset(p) for p in pairs.tolist()}) == budget
    assert np.array_equal(pairs, fmc.query_pairs(result, budget, random_state=0))


def test_asks_about_the_cluster_that_is_two_and_the_two_that_are_one(data):
    # 0 and 1 put into one cluster; 5 cut at random into clusters 4 and 5.
    wrong = np.array([0, 0, 1, 2, 3, 4])[data.y]
    half = np.random.default_rng(0).random(300) < 0.5
    wrong[(data.y == 5) & half] = 5
    pairs = query_pairs(clustering(data.x, wrong), 8)
    together = wrong[pairs[:, 0]] == wrong[pairs[:, 1]]
    same = data.y[pairs[:, 0]] == data.y[pairs[:, 1]]
    assert (together & ~same).any()  # cluster 0 should be split
    assert (~together & same).any()  # clusters 4 and 5 should be merged
    chance = np.random.default_rng(0).integers(0, 300, (4000, 2))
    by_chance = (wrong[chance[:, 0]] == wrong[chance[:, 1]]) != (
        data.y[chance[:, 0]] == data.y[chance[:, 1]]
    )
    assert (together != same).mean() > 3 * by_chance.mean()


def test_what_was_answered_is_not_asked_again(data):
    first = query_pairs(clustering(data.x, data.y), 15)
    answers = SimpleNamespace(
        labels={int(first[0, 0]): "a", int(first[0, 1]): "b"},
        must_link=first[1:8],
        cannot_link=first[8:, ::-1],
    )
    more = query_pairs(clustering(data.x, data.y, answers=answers), 60)
    asked = {frozenset(p) for p in first.tolist()}
    assert not asked & {frozenset(p) for p in more.tolist()}


def test_every_open_pair_can_be_asked_and_no_more(data):
    result = clustering(
        data.x[:8], np.arange(8) % 2, answers=SimpleNamespace(labels={0: 1, 1: 2, 2: 1})
    )
    pairs = query_pairs(result, 28 - 3)
    assert len({frozenset(p) for p in pairs.tolist()}) == 25
    with pytest.raises(ValueError, match=r"budget=26 must lie in 1..25"):
        query_pairs(result, 26)


def test_one_cluster_is_asked_about_too(data):
    pairs = query_pairs(clustering(data.x, np.zeros(300, np.int64), sure=1.0), 5)
    assert (data.y[pairs[:, 0]] != data.y[pairs[:, 1]]).any()


def test_bad_questions(data):
    result = clustering(data.x, data.y)
    with pytest.raises(ValueError, match="pass the ClusterResult"):
        query_pairs(data.x, 5)
    with pytest.raises(TypeError, match=r"integer, got 2\.5"):
        query_pairs(result, 2.5)
    with pytest.raises(ValueError, match="budget=0"):
        query_pairs(result, 0)
