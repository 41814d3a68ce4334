"""Noise from counts: shrunk by a fixed weight, or by what the counts themselves ask for."""

from __future__ import annotations

import numpy as np
import pytest

from fmcluster.functional.transition import adaptive_transition, estimate_transition


def test_channel_rows_sum_to_one_and_follow_counts():
    joint = np.array([[900.0, 100, 0], [0, 500, 500], [0, 0, 1000]])
    transition = estimate_transition(joint, strength=1e-9)
    assert np.allclose(transition, joint / joint.sum(axis=1, keepdims=True), atol=1e-6)
    shrunk = estimate_transition(joint, strength=10)
    assert np.allclose(shrunk.sum(axis=1), 1)
    kept = np.trace(joint) / joint.sum()
    assert shrunk[1, 1] == pytest.approx((500 + 10 * kept) / 1010)


def test_channel_of_a_class_without_rows_is_the_common_noise():
    joint = np.array([[80.0, 20, 0], [20, 80, 0], [0, 0, 0]])
    transition = estimate_transition(joint)
    assert transition[2, 2] == pytest.approx(0.8)
    assert transition[2, 0] == pytest.approx(0.1)


def drawn(transition, rows, seed=0):
    """Return integer counts of `rows` draws from each row of a transition."""
    rng = np.random.default_rng(seed)
    return np.array([rng.multinomial(rows, row) for row in transition]).astype(float)


def alike(k, rate):
    transition = np.full((k, k), rate / (k - 1))
    np.fill_diagonal(transition, 1 - rate)
    return transition


def partners(k, rate):
    return (1 - rate) * np.eye(k) + rate * np.roll(np.eye(k), 1, axis=1)


@pytest.mark.parametrize("truth", [alike(30, 0.4), partners(30, 0.4)])
def test_adaptive_channel_is_nearer_the_truth_than_a_fixed_weight(truth):
    joint = drawn(truth, 40)
    adaptive, fixed = adaptive_transition(joint), estimate_transition(joint)
    assert np.allclose(adaptive.sum(axis=1), 1)
    assert (adaptive > 0).all()
    assert np.abs(adaptive - truth).mean() < 0.7 * np.abs(fixed - truth).mean()


def test_adaptive_channel_keeps_classes_apart_that_differ():
    truth = partners(6, 0.3)
    truth[0] = alike(6, 0.8)[0]
    found = adaptive_transition(drawn(truth, 500))
    assert found[0, 0] == pytest.approx(0.2, abs=0.05)
    assert np.allclose(np.diag(found)[1:], 0.7, atol=0.06)
    assert found[1, 2] == pytest.approx(0.3, abs=0.06)


def test_adaptive_channel_of_one_two_and_empty_classes():
    assert adaptive_transition(np.array([[5.0]])).tolist() == [[1.0]]
    two = adaptive_transition(np.array([[80.0, 20], [10, 90]]))
    assert np.allclose(two.sum(axis=1), 1)
    assert two[0, 0] == pytest.approx(0.8, abs=0.06)
    empty = adaptive_transition(np.array([[80.0, 20, 0], [20, 80, 0], [0, 0, 0]]))
    assert empty[2, 2] == pytest.approx(0.8, abs=0.01)
    assert np.isfinite(adaptive_transition(np.diag([5.0, 5, 5]))).all()
