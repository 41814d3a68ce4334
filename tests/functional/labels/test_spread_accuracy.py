"""What is expected of spread labels: the parts by hand, the whole on blobs of known accuracy."""

from __future__ import annotations

import numpy as np
import pytest

from fmcluster.functional.labels.spread import affinity, spread_labels
from fmcluster.functional.labels.spread_accuracy import (
    SpreadAccuracy,
    _apart,
    halves,
    spread_accuracy,
)
from fmcluster.vectors.graph import KNNGraph


def world(blobs, *, spread, k=6, n=900, seed=0):
    x, y = blobs(n=n, k=k, d=24, spread=spread, seed=seed)
    near = KNNGraph.build(x, k=15)
    return x - x.mean(axis=0), y, affinity(near.indices, near.similarities)


def estimate(x, y, graph, rows) -> tuple[SpreadAccuracy, float]:
    classes, target = np.unique(y[rows], return_inverse=True)
    guess, agreement = spread_labels(x, graph, rows, target, len(classes))
    free = np.setdiff1d(np.arange(len(y)), rows)
    true = (classes[guess.argmax(axis=1)] == y)[free].mean()
    return spread_accuracy(x, graph, rows, target, guess, agreement), float(true)


def test_halves_share_every_class_that_has_two_labels():
    target = np.array([0, 0, 1, 1, 1, 2, 3, 3, 3, 3])
    rng = np.random.default_rng(0)
    for _ in range(20):
        first = halves(target, rng)
        assert abs(int(first.sum()) - 5) <= 1
        for c, size in enumerate(np.bincount(target)):
            assert abs(int(first[target == c].sum()) - size / 2) <= 0.5


@pytest.mark.parametrize("spread", [0.2, 0.32, 0.45])
def test_expected_accuracy_follows_the_true_one(blobs, spread):
    gaps = []
    for seed in range(2):
        x, y, graph = world(blobs, spread=spread, seed=seed)
        rows = np.random.default_rng(seed).choice(len(y), 60, replace=False)
        found, true = estimate(x, y, graph, rows)
        assert found.interval[0] < found.accuracy < found.interval[1]
        gaps.append(found.accuracy - true)
    assert abs(np.mean(gaps)) < 0.12


def test_classes_without_a_label_are_missed_as_good_and_turing_say(blobs):
    x, y, graph = world(blobs, spread=0.2, k=40, n=1200)
    rows = np.random.default_rng(1).choice(len(y), 50, replace=False)
    found, true = estimate(x, y, graph, rows)
    missing = (~np.isin(y, y[rows])).mean()
    assert missing > 0.15
    assert found.unseen_mass == pytest.approx(missing, abs=0.12)
    assert found.accuracy < 1 - found.unseen_mass
    assert found.accuracy == pytest.approx(true, abs=0.15)


def test_nothing_is_unseen_where_every_class_has_two_labels(blobs):
    x, y, graph = world(blobs, spread=0.25)
    rows = np.concatenate([np.flatnonzero(y == c)[:4] for c in range(6)])
    assert estimate(x, y, graph, rows)[0].unseen_mass == 0


def test_one_label_a_class_leaves_the_agreement(blobs):
    x, y, graph = world(blobs, spread=0.2, k=2, n=100)
    rows = np.array([np.flatnonzero(y == c)[0] for c in range(2)])
    guess, _ = spread_labels(x, graph, rows, np.arange(2), 2)
    found = spread_accuracy(x, graph, rows, np.arange(2), guess, 0.77)
    assert found.stability == 0.77
    assert found.n_hidden == 0
    assert 0 < found.accuracy < 1


def test_all_rows_labeled_leave_nothing_to_err(blobs):
    x, y, graph = world(blobs, spread=0.2, k=2, n=40)
    found = spread_accuracy(x, graph, np.arange(40), y, np.eye(2)[y], 1.0)
    assert (found.accuracy, found.interval, found.unseen_mass) == (1.0, (1.0, 1.0), 0.0)


def test_spread_rows_lie_apart_and_random_ones_do_not(blobs):
    x, y = blobs(n=600, k=12, d=16, spread=0.15)
    x = x - x.mean(axis=0)
    rng = np.random.default_rng(0)
    apart = _apart(x, np.array([np.flatnonzero(y == c)[0] for c in range(12)]), rng)
    by_chance = [_apart(x, rng.choice(600, 12, replace=False), rng) for _ in range(10)]
    assert apart == 1
    assert np.mean(by_chance) < 0.6


def test_equal_seeds_give_equal_estimates(blobs):
    x, y, graph = world(blobs, spread=0.3)
    rows = np.arange(0, 900, 18)
    assert estimate(x, y, graph, rows) == estimate(x, y, graph, rows)
