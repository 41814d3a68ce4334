"""Planted clusters that several files of head tests share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def even(blobs):
    return blobs(n=600, k=5, d=24, spread=0.2, seed=1)


@pytest.fixture(scope="module")
def tailed(blobs):
    return blobs(k=6, d=24, spread=0.2, sizes=[400, 160, 80, 40, 20, 10], seed=2)
