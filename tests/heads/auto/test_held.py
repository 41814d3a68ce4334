"""Answers about pairs: they change the vote, are kept, and refine only where they say enough."""

import numpy as np
import pytest

import fmcluster as fmc
from fmcluster.functional.labels.answers import RowAnswers
from fmcluster.heads.auto.held import hold, say_little
from fmcluster.heads.auto.vote import MOST_PAIRS, TEMPERATURE, against

NONE = np.empty(0, np.int64)


def answers(must=(), cannot=()):
    pairs = [np.array(p, np.int64).reshape(-1, 2) for p in (must, cannot)]
    return RowAnswers(NONE, NONE, 0, *pairs)


def test_a_partition_loses_for_each_pair_it_has_wrong():
    right, wrong = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    must, cannot = np.array([[0, 1]]), np.array([[1, 2], [0, 3]])
    lost = against([right, wrong], must, cannot)
    np.testing.assert_allclose(lost, [0, 2 * TEMPERATURE])
    many = np.repeat(must, 4 * MOST_PAIRS, axis=0)
    np.testing.assert_allclose(
        against([wrong], many, cannot[:0]), [MOST_PAIRS * TEMPERATURE], rtol=1e-6
    )


def test_few_pairs_are_kept_and_nothing_else_changes():
    V = np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]], np.float32)
    found = hold(V, answers(must=[(1, 2)], cannot=[(0, 1)]))
    assert found.proba.argmax(axis=1).tolist() == [0, 1, 1, 2]
    np.testing.assert_array_equal(found.proba[3], V[3])
    assert found.proba[[0, 1, 2]].max(axis=1).tolist() == [1, 1, 1]
    assert hold(V[:, :2], answers(cannot=[(0, 1), (1, 2), (0, 2)])) is None


def test_labels_or_a_link_for_each_eighth_cluster_say_enough():
    assert say_little(answers(must=[(0, 1)]), 9)
    assert not say_little(answers(must=[(0, 1)]), 8)
    assert not say_little(RowAnswers(np.array([3]), np.array([0]), 1), 9)


@pytest.mark.parametrize("n_pairs", [1, 5, 40])
def test_no_pair_is_broken_and_the_clusters_get_no_worse(n_pairs):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 12, 900)
    X = rng.normal(size=(12, 16))[y] + 0.5 * rng.normal(size=(900, 16))
    result = fmc.cluster(X, n_clusters=12)
    before = result.evaluate(y)["acc"]
    pairs = rng.integers(0, 900, (4 * n_pairs, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]][:n_pairs]
    same = y[pairs[:, 0]] == y[pairs[:, 1]]
    after = result.with_answers(must_link=pairs[same], cannot_link=pairs[~same])
    equal = after.labels[pairs[:, 0]] == after.labels[pairs[:, 1]]
    assert (equal == same).all()
    assert after.evaluate(y)["acc"] >= before - 0.01
