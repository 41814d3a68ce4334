"""Predictions of many rows in many clusters: made in parts, and the same."""

import numpy as np
import pytest

from fmcluster.heads.auto import student as module
from fmcluster.heads.auto.student import Student


@pytest.mark.parametrize("k", [20, 300], ids=["dense votes", "largest votes"])
def test_rows_in_parts_are_the_rows_at_once_to_the_bit(k, monkeypatch):
    rng = np.random.default_rng(0)
    student = Student(
        rng.normal(size=(600, 16)).astype(np.float32) / 4,
        rng.dirichlet(np.ones(k), 600).astype(np.float32),
        rng.normal(size=(16, k)).astype(np.float32),
        np.zeros(k, np.float32),
        np.zeros(k),
        np.full(600, 0.9, np.float32),
        np.array(0.3),
        np.array(0.8),
    )
    rows = rng.normal(size=(3_000, 16)).astype(np.float32) / 4
    whole = student.proba(rows)
    seen = []
    monkeypatch.setattr(module, "BLOCK_VALUES", 1_500 * k)
    made = student.scores
    monkeypatch.setattr(Student, "scores", lambda self, part: seen.append(len(part)) or made(part))
    np.testing.assert_array_equal(student.proba(rows), whole)
    assert len(seen) > 1 and sum(seen) == 3_000 and max(seen) <= 1_500
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-5)
    assert student.proba(rows[:0]).shape == (0, k)
