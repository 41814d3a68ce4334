"""Confidence of a partition that holds answers: its level, and how far apart rows are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from fmcluster.heads.auto import answered

# Of each row's neighbors, as a logit.
AGREED = np.tile([0.5, 2.5], 200)


@pytest.fixture
def made():
    """Soft labels (400, 3) as sure as logits that are spread evenly, and their rows."""
    sure = expit(np.linspace(-0.3, 3, 400))
    Q = np.column_stack([sure, (1 - sure) / 2, (1 - sure) / 2])
    return Q, np.arange(400)


def level_of(told, own, labels):
    """The level that the module's words promise."""
    a, b = logit(told) + 0.17 * AGREED.mean() - 0.23, logit(own)
    return labels / (labels + 25) * a + 45 / (labels + 50) * b


@pytest.mark.parametrize(("own", "labels"), [(0.75, 5), (0.9, 5), (0.9, 100), (0.7, 50)])
def test_the_mean_is_what_labels_and_the_head_let_expect(made, own, labels):
    Q, free = made
    out = answered.leveled(Q, free, AGREED, labels, own)
    np.testing.assert_allclose(out.sum(axis=1), 1, atol=1e-6)
    assert (out.argmax(axis=1) == 0).all()
    expected = expit(level_of(Q.max(axis=1).mean(), own, labels))
    assert out.max(axis=1).mean() == pytest.approx(expected, abs=2e-3)


def test_where_less_is_right_rows_are_told_apart_less(made):
    """And where they differ less in what their neighbors say; rows that are bounded aside."""
    Q, free = made
    spreads = []
    for own in (0.5, 0.95):
        found = logit(answered.leveled(Q, free, AGREED, 50, own).max(axis=1)[100:300])
        spreads.append(np.ptp(found) / np.ptp(logit(Q.max(axis=1)[100:300])))
        level = level_of(Q.max(axis=1).mean(), own, 50)
        assert spreads[-1] == pytest.approx(np.exp(0.17 * level + 0.38 * 1.0 - 0.55), rel=1e-3)
    assert spreads[0] < spreads[1]


def test_answered_rows_are_left_as_they_are(made):
    Q, free = made
    out = answered.leveled(Q, free[50:], AGREED[50:], 20, 0.9)
    np.testing.assert_allclose(out[:50], Q[:50], atol=1e-6)
    assert answered.leveled(Q, free[:0], AGREED[:0], 20, 0.9) is Q
